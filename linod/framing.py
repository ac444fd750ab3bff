"""What senders of log records and the log server say to each other, as bytes.

A sender writes frames: four bytes, the payload's length, big-endian; then the payload, one JSON
object in UTF-8, ``MAX_PAYLOAD`` bytes at most. The first frame says who speaks, each later one is a
record::

    {"v": 1, "client": "9f3a2c1b"}
    {"s": 42, "t": 1792598466.123456, "l": "INFO", "n": "myapp", "m": "Hello", "x": "Trace..."}

``s`` grows from record to record, ``t`` is the sender's clock in seconds since 1970, ``l`` and
``n`` are the names of level and logger, ``m`` is the message and ``x``, if it is there, what stands
below it: traceback and stack. Keys that are not known are ignored: a newer sender may use them.

The server writes acknowledgements: eight bytes, big-endian, the highest ``s`` of this sender that
is in the file. The first one answers the first frame.
"""

from __future__ import annotations

import json
import re
import struct
from json.encoder import encode_basestring
from typing import Any, NamedTuple, NoReturn

from linod.exceptions import BadFrame

VERSION = 1
#: Bytes of a payload at most, so that a whole frame has 64 KiB.
MAX_PAYLOAD = 64 * 1024 - 4
#: Bytes that a stream may hold before they are taken apart: a frame, and what was read behind it.
MAX_UNPARSED = 128 * 1024
#: How deep a payload may be nested, its own braces counted.
MAX_DEPTH = 4
#: Seconds since 1970 that a record may bear: up to the year 9999.
MAX_TIME = 253_402_300_000.0
MAX_SEQUENCE = 2**63 - 1
#: Characters of a message that is too long for a frame: so much of its head, and of its tail.
HEAD, TAIL = 48 * 1024, 8 * 1024
#: Bytes of a payload that are left beside its number.
_ROOM = MAX_PAYLOAD - 64

_LENGTH = struct.Struct(">I")
_ACK = struct.Struct(">Q")
_CLIENT = re.compile("[0-9a-f]{8}")


class Record(NamedTuple):
    """A log record as it travels.

    :param sequence: its number, from 1, growing in one sender.
    :param created: seconds since 1970, by the sender's clock.
    :param below: what stands below the message: traceback and stack; mostly empty.
    """

    sequence: int
    created: float
    level: str
    logger: str
    message: str
    below: str = ""


def body_of(created: float, level: str, logger: str, message: str, below: str = "") -> bytes:
    """A record's payload without its number, so that it can be made before its turn has come.

    Texts that are too long for a frame lose their middle.
    """
    body = _body(created, level, logger, message, below)
    head, tail = HEAD, TAIL
    while len(body) > _ROOM:
        body = _body(
            created,
            cut(level, 100, 0),
            cut(logger, 200, 0),
            cut(message, head, tail),
            cut(below, head, tail),
        )
        # Quotes and escapes make a text longer, at most sixfold.
        head, tail = head // 2, tail // 2
    return body


def _body(created: float, level: str, logger: str, message: str, below: str) -> bytes:
    quote = encode_basestring
    rest = f',"x":{quote(below)}}}' if below else "}"
    text = f'"t":{created:.6f},"l":{quote(level)},"n":{quote(logger)},"m":{quote(message)}{rest}'
    # Lone surrogates, as "surrogateescape" leaves them in texts, are no UTF-8; JSON's \ud800 is.
    return text.encode("utf-8", "backslashreplace")


def cut(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """``text`` without its middle, when it is longer than ``head`` and ``tail`` characters.

    >>> cut("a" * 10 + "b" * 10, 3, 2)
    'aaa ... 15 characters left out ... bb'
    """
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text
    return f"{text[:head]} ... {left_out} characters left out ... {text[len(text) - tail :]}"


def frame_of(sequence: int, body: bytes) -> bytes:
    """The frame of a record: its number, and what :func:`body_of` made."""
    start = b'{"s":%d,' % sequence
    return _LENGTH.pack(len(start) + len(body)) + start + body


def hello(client: str) -> bytes:
    """The first frame of a connection. ``client``: eight hexadecimal digits."""
    payload = b'{"v":%d,"client":"%s"}' % (VERSION, client.encode("ascii"))
    return _LENGTH.pack(len(payload)) + payload


def acknowledgement(sequence: int) -> bytes:
    """What the server answers."""
    return _ACK.pack(sequence)


def last_acknowledged(data: bytearray) -> int | None:
    """The newest acknowledgement in ``data``; whole ones are removed from it."""
    whole = len(data) - len(data) % _ACK.size
    if not whole:
        return None
    (sequence,) = _ACK.unpack_from(data, whole - _ACK.size)
    del data[:whole]
    return int(sequence)


class Decoder:
    """Takes a stream of bytes apart, however it was split on its way."""

    def __init__(self) -> None:
        self._unparsed = bytearray()

    @property
    def room(self) -> int:
        """How many bytes may be fed now."""
        return MAX_UNPARSED - len(self._unparsed)

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._unparsed)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are whole now.

        :raises BadFrame: a length beyond ``MAX_PAYLOAD``; the stream makes no sense from here on.
        """
        stream = self._unparsed
        stream += data
        payloads: list[bytes] = []
        at, size = 0, len(stream)
        while size - at >= 4:
            (length,) = _LENGTH.unpack_from(stream, at)
            if length > MAX_PAYLOAD:
                raise BadFrame(f"a frame of more than {MAX_PAYLOAD} bytes")
            end = at + 4 + length
            if end > size:
                break
            payloads.append(bytes(stream[at + 4 : end]))
            at = end
        del stream[:at]
        return payloads


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_decode = json.JSONDecoder(parse_constant=_no_number).raw_decode


def _object(payload: bytes) -> dict[str, Any]:
    try:
        text = payload.decode("utf-8")
        value, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {type(error).__name__}") from None
    if type(value) is not dict or end != len(text):
        raise BadFrame("not one JSON object")
    return value


def parse_hello(payload: bytes) -> str:
    """The client that a first frame names.

    :raises BadFrame: it is none, or of another version.
    """
    given = _object(payload)
    if given.get("v") != VERSION or isinstance(given["v"], bool):
        raise BadFrame("another version of the protocol")
    client = given.get("client")
    if not isinstance(client, str) or not _CLIENT.fullmatch(client):
        raise BadFrame("a client must be eight hexadecimal digits")
    return client


_KEYS = frozenset("stlnmx")


def parse_record(payload: bytes) -> Record:
    """The record in a payload.

    :raises BadFrame: it is none; those behind it may be.
    """
    given = _object(payload)
    try:
        sequence, created = given["s"], given["t"]
        level, logger, message = given["l"], given["n"], given["m"]
    except KeyError as error:
        raise BadFrame(f"a record without {error}") from None
    below = given.get("x", "")
    if not type(level) is type(logger) is type(message) is type(below) is str:
        raise BadFrame("level, logger and texts must be strings")
    if type(sequence) is not int or not 0 < sequence <= MAX_SEQUENCE:
        raise BadFrame("a number must be whole and above zero")
    if type(created) not in (float, int) or not 0 <= created < MAX_TIME:
        raise BadFrame("a moment must be seconds since 1970")
    if not given.keys() <= _KEYS and _depth(given) > MAX_DEPTH:
        raise BadFrame(f"nested deeper than {MAX_DEPTH}")
    return Record(sequence, created, level, logger, message, below)


def _depth(value: Any) -> int:
    """How deep a JSON value is nested; looks no deeper than it must."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        level = [each for each in level if isinstance(each, dict | list)]
        depth += bool(level)
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
