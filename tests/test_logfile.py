"""The log file in the hands of its writer: rotation, deletion, crashes, a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from linod import logfile
from linod.logfile import LogFile
from linod.loglines import checkpoint_of, lines_of

ME = f"{os.getpid()}-0000000a"
GONE = "999999999-0000000b"  # no such process can be


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lino.log"


def opened(path: Path, **options: Any) -> LogFile:
    file = LogFile(path, **options)
    file.take_up()
    return file


def write(file: LogFile, *numbers: int, below: str = "", sender: str = ME) -> None:
    data = "".join(lines_of(f"record {number}", below, sender, number) for number in numbers)
    file.write(data.encode(), {sender: numbers[-1]})


def records(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("record")]


def numbered(numbers: Sequence[int]) -> list[str]:
    return [f"record {number} #{ME}:{number}" for number in numbers]


def test_a_new_file_begins_with_a_checkpoint(path: Path) -> None:
    file = opened(path)
    write(file, 1)
    write(file, 2, 3)
    file.close()
    assert path.read_text().splitlines() == ["#linod checkpoint {}", *numbered([1, 2, 3])]
    assert path.stat().st_mode & 0o777 == 0o640
    assert opened(path).progress == {ME: 3}


@pytest.mark.parametrize("below", ["", "Traceback\n  File"])
def test_an_unfinished_record_is_cut_off(path: Path, below: str) -> None:
    file = opened(path)
    write(file, 1, below=below)
    whole = path.read_bytes()
    write(file, 2, below=below)
    data = path.read_bytes()
    for size in range(len(whole), len(data)):
        path.write_bytes(data[:size])
        again = opened(path)
        assert again.progress == {ME: 1}
        assert path.read_bytes() == whole
        write(again, 2, below=below)
        assert path.read_bytes() == data


def test_an_unfinished_head_is_written_again(path: Path) -> None:
    head = checkpoint_of({})
    for size in range(len(head)):
        path.write_bytes(head[:size])
        write(opened(path), 1)
        assert path.read_text().splitlines() == ["#linod checkpoint {}", *numbered([1])]


def test_a_file_of_somebody_else_is_kept(path: Path) -> None:
    path.write_text("old line\nunfinished")
    write(opened(path), 1)
    expected = ["old line", "unfinished", "#linod checkpoint {}", *numbered([1])]
    assert path.read_text().splitlines() == expected


@pytest.mark.parametrize("how", ["renamed", "deleted", "emptied"])
def test_what_happens_to_the_file_is_seen_before_the_next_record(path: Path, how: str) -> None:
    file = opened(path)
    write(file, 1)
    match how:
        case "renamed":
            path.rename(path.with_name("lino.log-2026"))
        case "deleted":
            path.unlink()
        case "emptied":
            os.truncate(path, 0)
    write(file, 2)
    assert path.read_bytes().startswith(checkpoint_of({ME: 1}))
    assert records(path) == numbered([2])
    assert opened(path).progress == {ME: 2}


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log" / "lino.log"
    path.parent.mkdir()
    file = opened(path)
    write(file, 1)
    path.unlink()
    path.parent.rmdir()
    write(file, 2)
    assert records(path) == numbered([2])


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        opened(path)


def test_a_writer_that_dies_between_two_files_loses_no_count(path: Path) -> None:
    write(opened(path), 1, 2)
    path.rename(path.with_name("lino.log-2026"))
    path.touch()  # as logrotate's "create"
    assert opened(path).progress == {ME: 2}


def test_what_a_writer_left_unfinished_is_cut_off_under_the_file_s_new_name_as_well(
    path: Path,
) -> None:
    file = opened(path)
    write(file, 1, 2)
    whole = path.read_bytes()
    write(file, 3)
    path.write_bytes(path.read_bytes()[:-4])
    former = path.rename(path.with_name("lino.log-2026"))
    assert opened(path).progress == {ME: 2}
    assert former.read_bytes() == whole


def test_rotation_by_size(path: Path) -> None:
    file = opened(path, max_bytes=500, keep=2)
    for number in range(1, 60):
        write(file, number)
    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["lino.log", "lino.log.1", "lino.log.2"]
    found = [record for name in reversed(names) for record in records(path.with_name(name))]
    assert found == numbered(range(60 - len(found), 60))
    for name in names:
        assert path.with_name(name).stat().st_size <= 500
        assert path.with_name(name).read_bytes().startswith(b"#linod checkpoint {")


def test_a_record_larger_than_a_file_may_be_has_its_own(path: Path) -> None:
    file = opened(path, max_bytes=100)
    write(file, 1, below="x" * 300)
    write(file, 2, below="x" * 300)
    assert records(path) == [f"record 2 #{ME}:2+1"]
    assert records(path.with_name("lino.log.1")) == [f"record 1 #{ME}:1+1"]


@pytest.mark.parametrize(("period", "seconds"), [("hour", 3600), ("day", 86400)])
def test_rotation_by_time(path: Path, period: str, seconds: int) -> None:
    file = opened(path, period=period)
    write(file, 1)
    write(file, 2)
    info = path.stat()
    os.utime(path, (info.st_atime - seconds, info.st_mtime - seconds))
    write(file, 3)
    assert records(path.with_name("lino.log.1")) == numbered([1, 2])
    assert records(path) == numbered([3])


def test_checkpoints_come_often_enough_to_be_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "CHECKPOINT_EVERY", 1000)
    monkeypatch.setattr(logfile, "LOOK_BACK", 2000)
    file = opened(path)
    write(file, 7, sender="1-0000000c")  # process 1 is there as long as this test
    for number in range(1, 300):
        write(file, number)
    assert path.read_bytes().count(b"#linod checkpoint") > 5
    assert opened(path).progress == {ME: 299, "1-0000000c": 7}
    path.write_bytes(path.read_bytes()[:-3])
    assert opened(path).progress == {ME: 298, "1-0000000c": 7}


def test_senders_whose_process_has_gone_are_forgotten(path: Path) -> None:
    file = opened(path)
    write(file, 5, sender=GONE)
    write(file, 1)
    write(file, 3, sender="0-0000000d")  # of another container
    path.rename(path.with_name("lino.log.1"))
    write(file, 2)
    assert file.progress == {ME: 2, "0-0000000d": 3}


class FullDisk:
    """A disk that takes so many bytes more, in place of os.write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self._write = room, os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, file: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(file, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 30, 40, 70])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_leaves_whole_records_only(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int, is_new: bool
) -> None:
    file = opened(path)
    if not is_new:
        write(file, 1)
    before = path.read_bytes()
    disk = FullDisk(monkeypatch, room)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            write(file, 2, 3, 4)
        assert path.read_bytes() in (before, checkpoint_of({}))
    disk.room = 10_000
    write(file, 2, 3, 4)
    assert records(path) == numbered([2, 3, 4] if is_new else [1, 2, 3, 4])
    assert opened(path).progress == {ME: 4}


def test_what_could_not_be_cut_off_is_cut_off_before_the_next_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = opened(path)
    write(file, 1)
    disk = FullDisk(monkeypatch, 10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", _fails)
        with pytest.raises(OSError, match="broken"):
            write(file, 2)
    disk.room = 1000
    write(file, 2)
    assert records(path) == numbered([1, 2])


def _fails(*args: Any) -> None:
    raise OSError(errno.EIO, "broken")
