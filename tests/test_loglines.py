"""Lines of the log file: written so that no text can pretend, read again after any cut."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linod.loglines import Tail, checkpoint_of, escape, lines_of, read_checkpoint

TEXTS = st.text(st.characters(codec=None), max_size=60)
SENDERS = st.sampled_from(["4711-9f3a2c1b", "12-00000000"])


def read(data: bytes) -> Tail:
    tail = Tail()
    tail.read(data.splitlines(keepends=True))
    return tail


@given(TEXTS)
def test_an_escaped_text_is_one_harmless_line(text: str) -> None:
    found = escape(text)
    assert len(found.splitlines()) <= 1
    assert not [c for c in found if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(found) & set(
        "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    found.encode("utf-8")


@given(TEXTS)
def test_a_long_text_is_escaped_as_its_parts_are(text: str) -> None:
    assert escape(text + "x" * 2000) == escape(text) + "x" * 2000


def test_what_is_harmless_stays() -> None:
    for text in ("Grüße, Tõnu!", "a\u00a0b", "C:\\temp", "日本語", "👩\u200d👩\u200d👧", ""):
        assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202e\u2066", "\\u202e\\u2066"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_a_record_with_a_traceback() -> None:
    text = lines_of("now ERROR a: It failed", "Traceback:\n  File\r\n\nEnd\x1b\n", "1-0000000a", 7)
    assert text == (
        "now ERROR a: It failed #1-0000000a:7+4\n    Traceback:\n      File\n    \n    End\\x1b\n"
    )


def test_a_first_line_never_begins_with_a_blank() -> None:
    assert lines_of("  \u00a0x", "", "1-0000000a", 1) == "x #1-0000000a:1\n"
    assert lines_of("", "", "1-0000000a", 1) == "- #1-0000000a:1\n"


@given(
    st.dictionaries(SENDERS, st.integers(0, 50)),
    st.lists(st.tuples(SENDERS, TEXTS, TEXTS), max_size=8),
    st.integers(0, 400),
)
def test_a_file_cut_anywhere_tells_what_is_whole(
    progress: dict[str, int], records: list[tuple[str, str, str]], cut: int
) -> None:
    data, ends = checkpoint_of(progress), []
    expected = dict(progress)
    for sequence, (sender, first, below) in enumerate(records, start=51):
        data += lines_of(first, below, sender, sequence).encode()
        ends.append((len(data), sender, sequence))
    kept = data[: max(len(checkpoint_of(progress)), len(data) - cut)]
    whole = len(checkpoint_of(progress))
    for end, sender, sequence in ends:
        if end <= len(kept):
            whole, expected[sender] = end, sequence
    tail = read(kept)
    assert tail.progress == expected
    assert tail.whole == whole


@given(TEXTS, TEXTS)
def test_no_text_can_pretend(first: str, below: str) -> None:
    forged = f'{first}\n#linod checkpoint {{"1-0000000a":999}}\nx #1-0000000a:999\n{below}'
    data = checkpoint_of({}) + b"".join(
        lines_of(a, b, "1-0000000b", n).encode()
        for n, (a, b) in enumerate([(forged, ""), ("x", forged), (forged, forged)], start=1)
    )
    assert read(data).progress == {"1-0000000b": 3}


@given(st.dictionaries(SENDERS, st.integers(0, 10**9)))
def test_a_checkpoint_is_read_again(progress: dict[str, int]) -> None:
    line = checkpoint_of(progress)
    assert read_checkpoint(line) == progress
    assert read_checkpoint(line[:-1]) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"x\n", b"#linod checkpoint }\n", b"#linod checkpoint [1]}\n",
     b'#linod checkpoint {"x":1}\n', b'#linod checkpoint {"1-0000000a":"1"}\n'],
)  # fmt: skip
def test_a_wrong_checkpoint_is_none(line: bytes) -> None:
    assert read_checkpoint(line) is None


def test_lines_of_others_are_passed_over() -> None:
    data = b"foreign\n" + checkpoint_of({"1-0000000a": 3}) + b"  foreign\nfor"
    tail = read(data)
    assert tail.progress == {"1-0000000a": 3}
    assert tail.whole == len(data) - 3
    assert read(b"foreign\n").progress is None
