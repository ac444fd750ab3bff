"""From the bytes of a mail to what the inbox keeps of it; no database, no files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime


class MalformedMail(ValueError):
    """These bytes are no mail."""


@dataclass(frozen=True)
class ParsedMail:
    """A mail as text; ``key`` is the same for the same mail, whenever it is delivered."""

    key: str
    message_id: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    body: str
    sent_at: datetime | None


def parse(content: bytes) -> ParsedMail:
    """Read a mail; raises MalformedMail when it has no ``From`` header (RFC 5322 section 3.6)."""
    message = message_from_bytes(content)
    if "From" not in message:
        raise MalformedMail("it has no From header")
    message_id = _header(message, "Message-ID").strip()
    identity = message_id.encode() if message_id else content
    headers = [_clean(str(value)) for value in message.get_all("To", [])]
    return ParsedMail(
        key=hashlib.sha256(identity).hexdigest(),
        message_id=message_id,
        sender=_header(message, "From"),
        recipients=tuple(
            address for header in headers for _name, address in getaddresses([header]) if address
        ),
        subject=_header(message, "Subject"),
        body=_body(message),
        sent_at=_date(message),
    )


def _header(message: Message, name: str) -> str:
    raw = str(message.get(name, ""))
    try:
        text = str(make_header(decode_header(raw)))
    except (HeaderParseError, LookupError, UnicodeError):
        text = raw  # an encoding that nobody knows: better unreadable than lost
    return " ".join(_clean(text).split())


def _body(message: Message) -> str:
    parts = [part for part in message.walk() if part.get_content_type() == "text/plain"]
    content = parts[0].get_payload(decode=True) if parts else b""
    if not isinstance(content, bytes):
        return ""
    try:
        text = content.decode(
            parts[0].get_content_charset("utf-8") if parts else "utf-8", "replace"
        )
    except LookupError:
        text = content.decode("utf-8", "replace")
    return _clean(text)


def _date(message: Message) -> datetime | None:
    try:
        moment = parsedate_to_datetime(str(message.get("Date", "")))
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _clean(text: str) -> str:
    """Without what databases refuse: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
