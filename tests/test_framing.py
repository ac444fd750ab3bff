"""The protocol of the log server: every way to split a stream, every limit, every wrong payload."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linod import framing
from linod.exceptions import BadFrame
from linod.framing import Decoder, Record, body_of, frame_of, parse_hello, parse_record

# Controls and lone surrogates included; of these only the second halves, or two could make a pair.
TEXTS = st.text(st.characters(codec=None), max_size=200).map(
    lambda text: re.sub("[\ud800-\udbff]", "", text)
)
RECORDS = st.builds(
    Record,
    st.integers(1, framing.MAX_SEQUENCE),
    st.integers(0, 2**40).map(lambda number: number / 64),
    TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
)


def encode(record: Record) -> bytes:
    return frame_of(
        record.sequence,
        body_of(record.created, record.level, record.logger, record.message, record.below),
    )


def payload_of(**values: Any) -> bytes:
    right = {"s": 1, "t": 1.5, "l": "INFO", "n": "app", "m": "Hello"}
    return json.dumps(right | values).encode()


@given(st.lists(RECORDS, max_size=8), st.lists(st.integers(1, 300), max_size=60))
def test_any_way_to_split_a_stream_gives_the_same_records(
    records: list[Record], sizes: list[int]
) -> None:
    stream = b"".join(map(encode, records))
    decoder, found = Decoder(), []
    for size in sizes:
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    found += decoder.feed(stream)
    assert [parse_record(payload) for payload in found] == records
    assert not decoder.is_inside
    assert decoder.room == framing.MAX_UNPARSED


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=10))
def test_arbitrary_bytes_do_no_harm(data: bytes, sizes: list[int]) -> None:
    decoder = Decoder()
    for size in [*sizes, len(data)]:
        try:
            payloads = decoder.feed(data[:size])
        except BadFrame:
            return
        data = data[size:]
        for payload in payloads:
            with pytest.raises(BadFrame):  # nobody finds a record by chance
                parse_record(payload)
    assert decoder.room > 0


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_json_is_a_record_or_refused(value: Any) -> None:
    payload = json.dumps(value).encode()
    for parse in (parse_record, parse_hello):
        with pytest.raises(BadFrame):
            parse(payload)


def test_a_frame_is_its_length_and_json() -> None:
    frame = encode(Record(7, 1.25, "INFO", "app", "Grüße", "below"))
    assert frame[:4] == struct.pack(">I", len(frame) - 4)
    given = {"s": 7, "t": 1.25, "l": "INFO", "n": "app", "m": "Grüße", "x": "below"}
    assert json.loads(frame[4:]) == given


def test_a_frame_of_the_greatest_length_is_taken_and_a_longer_one_is_not() -> None:
    payload = b"x" * framing.MAX_PAYLOAD
    assert Decoder().feed(struct.pack(">I", len(payload)) + payload) == [payload]
    with pytest.raises(BadFrame, match="a frame of more than 65532 bytes"):
        Decoder().feed(struct.pack(">I", framing.MAX_PAYLOAD + 1))


def test_a_frame_and_a_reading_behind_it_fit() -> None:
    decoder = Decoder()
    assert decoder.feed(struct.pack(">I", framing.MAX_PAYLOAD) + b"x" * 1000) == []
    assert decoder.is_inside
    assert decoder.room == framing.MAX_UNPARSED - 1004


@pytest.mark.parametrize("char", ["a", "é", "\x00", "\ud800", "\U0001f600", '"'])
@pytest.mark.parametrize("where", ["message", "below", "level", "logger"])
def test_what_is_too_long_loses_its_middle(char: str, where: str) -> None:
    texts = {"level": "INFO", "logger": "app", "message": "head", "below": ""}
    texts[where] = f"head{char * 200_000}tail"
    frame = encode(Record(framing.MAX_SEQUENCE, 1.5, **texts))
    (payload,) = Decoder().feed(frame)
    record = parse_record(payload)
    text = getattr(record, where)
    assert text.startswith("head")
    assert "characters left out" in text
    if where in ("message", "below"):
        assert text.endswith("tail")
        left_out = int(text.partition(" ... ")[2].partition(" ")[0])
        assert len(text.replace(f" ... {left_out} characters left out ... ", "")) + left_out == len(
            texts[where]
        )


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 60_000, "no JSON: RecursionError"),
        (b"9" * 60_000, "no JSON"),
        (b'{"s":NaN}', "no JSON"),
        (b"[1]", "not one JSON object"),
        (payload_of() + b" ", "not one JSON object"),
        (b"{}", "a record without 's'"),
        (payload_of(m=5), "must be strings"),
        (payload_of(x=None), "must be strings"),
        (payload_of(s=0), "whole and above zero"),
        (payload_of(s=True), "whole and above zero"),
        (payload_of(s=1.0), "whole and above zero"),
        (payload_of(s=2**63), "whole and above zero"),
        (payload_of(t="now"), "seconds since 1970"),
        (payload_of(t=-1), "seconds since 1970"),
        (payload_of(t=1e300), "seconds since 1970"),
        (payload_of().replace(b"1.5", b"1e999"), "seconds since 1970"),
        (payload_of(more=[[[[1]]]]), "nested deeper than 4"),
        (payload_of(more={"a": {"b": {"c": {}}}}), "nested deeper than 4"),
    ],
)
def test_a_wrong_record_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(BadFrame, match=why):
        parse_record(payload)


def test_keys_of_a_newer_sender_are_ignored() -> None:
    assert parse_record(payload_of(more=[[[1]]], other="x")) == parse_record(payload_of())


@pytest.mark.parametrize(
    "payload",
    [
        b'{"v":2,"client":"9f3a2c1b"}',
        b'{"v":true,"client":"9f3a2c1b"}',
        b'{"client":"9f3a2c1b"}',
        b'{"v":1}',
        b'{"v":1,"client":5}',
        b'{"v":1,"client":"9f3a2c1"}',
        b'{"v":1,"client":"9f3a2c1b\\n"}',
        b'{"v":1,"client":"9F3A2C1B"}',
    ],
)
def test_a_wrong_greeting_is_refused(payload: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_hello(payload)


def test_a_greeting() -> None:
    (payload,) = Decoder().feed(framing.hello("9f3a2c1b"))
    assert parse_hello(payload) == "9f3a2c1b"


@given(st.lists(st.integers(0, framing.MAX_SEQUENCE), max_size=9), st.integers(0, 7))
@example([], 5)
def test_the_newest_whole_acknowledgement_counts(sequences: list[int], more: int) -> None:
    stream = bytearray(b"".join(map(framing.acknowledgement, sequences)) + b"\x01" * more)
    assert framing.last_acknowledged(stream) == (sequences[-1] if sequences else None)
    assert stream == b"\x01" * more
