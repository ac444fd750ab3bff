"""What must not stand in a log is masked where it is logged, before it leaves the process.

That is so for the site's log and for what is kept of a job: log, error, result and progress.

Two ways: by value (the site's own secrets, wherever they appear) and by place (a URL's credentials,
the headers ``Authorization`` and ``Cookie``, ``password=...``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

MASK = "***"
#: A secret of fewer characters is masked by its place only: as a value it would hit other words.
MIN_LENGTH = 4

#: Names of settings, and of keys in them, whose texts are secrets.
_SECRET_NAME = re.compile(
    "SECRET|PASSWORD|PASSWD|PASSPHRASE|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|CREDENTIAL",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#@'\"<>]+(?=@)")
# After the name a sign, perhaps between quotes: 'Cookie': 'a=b', (b'cookie', b'a=b'), Cookie: a=b.
# A quoted value ends at its quote, a bare one with the line.
_HEADER = re.compile(
    r"""((?:authorization|cookie)(?:\\?["']\s*,|(?:\\?["'])?\s*[:=])\s*(?:[bur]+(?=["']))?)"""
    r"""(?:(\\?["'])(?:(?!\2).)*(?:\2|$)|[^\r\n]*)""",
    re.IGNORECASE | re.MULTILINE,
)
_PASSWORD = re.compile(
    r"""((?:password|passwd|secret|token|api_?key)(?:\\?["'])?\s*[:=]\s*)"""
    r"""(?:(\\?["'])(?:(?!\2).)*(?:\2|$)|[^\s&,;'")}\]]+)""",
    re.IGNORECASE | re.MULTILINE,
)
_BEARER = re.compile(r"\b(bearer)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without these secrets, and without what stands where secrets stand.

    >>> mask("GET https://robin:hunter2@example.com/ Authorization: Basic cm9iaW46", ["hunter2"])
    'GET https://***@example.com/ Authorization: ***'
    """
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    if "://" in text:
        text = _CREDENTIALS.sub(MASK, text)
    low = text.lower()
    if "authorization" in low or "cookie" in low:
        text = _HEADER.sub(_masked, text)
    if "bearer" in low:
        text = _BEARER.sub(rf"\1\2{MASK}", text)
    if "passw" in low or "secret" in low or "token" in low or "key" in low:
        text = _PASSWORD.sub(_masked, text)
    return text


def _masked(found: re.Match[str]) -> str:
    quote = found[2] or ""
    return f"{found[1]}{quote}{MASK}{quote}"


def known_secrets() -> tuple[str, ...] | None:
    """The site's secrets, longest first; None while there are no settings to look at."""
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return None
    settings = conf.settings
    # Only the site's own: Django's defaults hold none, and Django 6.1 warns of some of them.
    own = [name for name in dir(settings) if name.isupper() and settings.is_overridden(name)]
    named = ((name, getattr(settings, name, None)) for name in own)
    found = {secret for name, value in named for secret in _secrets_in(name, value)}
    return tuple(sorted(found, key=len, reverse=True))


def _secrets_in(name: str, value: Any, *, is_secret: bool = False) -> Iterator[str]:
    """The secrets in a setting: texts with such a name, and passwords in URLs, at any depth."""
    is_secret = is_secret or bool(_SECRET_NAME.search(name))
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _secrets_in(str(key), inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            # The members of SECRET_KEY_FALLBACKS are secrets, AUTH_PASSWORD_VALIDATORS are dicts.
            yield from _secrets_in("", inner, is_secret=name == "SECRET_KEY_FALLBACKS")
    elif isinstance(value, str):
        if is_secret and len(value) >= MIN_LENGTH:
            yield value
        for credentials in _CREDENTIALS.findall(value):
            password = credentials.partition(":")[2]
            yield from {each for each in (password, unquote(password)) if len(each) >= MIN_LENGTH}
