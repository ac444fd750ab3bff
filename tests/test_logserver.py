"""The log server: what it writes, whom it hears, what it refuses, how it ends and begins again."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from linod import logpeers
from linod.exceptions import NoLogServer
from linod.framing import frame_of, hello
from linod.logfile import LogFile
from linod.loglines import template_of
from linod.logpeers import Peers
from linod.logserver import LogServer
from tests.logs import Wire, messages_in, records_in, serving, wait_for_message
from tests.waiting import DEADLINE, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "lino.log"


def frames(first: int, end: int) -> Iterator[bytes]:
    """Records with these numbers."""
    return (frame_of(n, b'"t":1,"l":"I","n":"n","m":"m"}') for n in range(first, end))


def test_an_acknowledged_record_is_in_the_file(folder: Path, path: Path) -> None:
    with serving(folder), Wire(folder) as wire:
        assert wire.greet() == 0
        for number in range(1, 100):
            wire.send(number, f"record {number}")
            assert wire.acknowledged() == number
            assert messages_in(path)[-1] == f"record {number}"
    assert len(messages_in(path)) == 99


def test_a_record_that_is_sent_again_is_written_once(folder: Path, path: Path) -> None:
    with serving(folder):
        with Wire(folder) as wire:
            wire.greet()
            for number in (1, 2, 5):
                wire.send(number, f"record {number}")
            wire.wait_for(5)
        with Wire(folder) as wire:
            assert wire.greet() == 5
            for number in (2, 5, 6):
                wire.send(number, f"record {number}")
            wire.wait_for(6)
    with serving(folder), Wire(folder) as wire:  # as after a crash: all it knows is the file
        assert wire.greet() == 6
        wire.send(6)
        wire.send(7, "record 7")
        wire.wait_for(7)
    assert messages_in(path) == [f"record {number}" for number in (1, 2, 5, 6, 7)]


def test_senders_are_told_apart_by_their_process(folder: Path, path: Path) -> None:
    """The number of a process comes from the kernel: nobody can speak for another one."""
    with serving(folder), Wire(folder, "0000000a") as one, Wire(folder, "0000000b") as two:
        assert one.greet() == two.greet() == 0
        one.send(1)
        one.wait_for(1)
        two.send(1)
        two.wait_for(1)
    tags = [line.rpartition(" #")[2] for line in path.read_text().splitlines()[1:]]
    assert tags == [f"{os.getpid()}-0000000a:1", f"{os.getpid()}-0000000b:1"]


def test_one_line_is_one_record(folder: Path, path: Path) -> None:
    with serving(folder), Wire(folder) as wire:
        wire.greet()
        wire.send(1, "a\nb\x1b[31m\u2028\u202e", below="Traceback:\n  boom\x07")
        wire.wait_for(1)
    lines = path.read_text().splitlines()[1:]
    assert lines[0].endswith(f"a\\nb\\x1b[31m\\u2028\\u202e #{os.getpid()}-0000000a:1+2")
    assert lines[1:] == ["    Traceback:", "      boom\\x07"]


def test_the_format_of_a_line(folder: Path, path: Path) -> None:
    with (
        serving(folder, line_format="{level:8}|{pid}|{uid}|{{}}|{message}"),
        Wire(folder) as wire,
    ):
        wire.greet()
        wire.send(1)
        wire.wait_for(1)
    assert records_in(path) == [f"INFO    |{os.getpid()}|{os.getuid()}|{{}}|Hello"]


def test_files_and_socket_are_not_for_everybody(folder: Path, path: Path) -> None:
    former = os.umask(0)
    try:
        with serving(folder), Wire(folder) as wire:
            wire.greet()
            wire.send(1)
            wire.wait_for(1)
            modes = {each.name: oct(each.stat().st_mode & 0o777) for each in folder.iterdir()}
    finally:
        os.umask(former)
    assert modes == {"lino.log": "0o640", "linod.lock": "0o640", "linod.sock": "0o660"}
    assert oct(folder.stat().st_mode & 0o777) == "0o750"


# Limits


def refused(server: LogServer) -> dict[str, int]:
    assert server._peers is not None
    return dict(server._peers.refused)


@pytest.fixture
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the counts stand, so that a test can read them."""
    monkeypatch.setattr(Peers, "_keep_limits", lambda self: None)


def test_other_users_are_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(folder) as server:
        server.uids.clear()
        server.uids.add(os.getuid() + 1)
        with Wire(folder) as wire:
            assert wire.is_closed()
        wait_until(lambda: "who may not send" in caplog.text, "a line says so")


def test_users_are_named_in_the_settings(folder: Path) -> None:
    assert LogServer(folder, users=["nobody"]).uids > {0, os.geteuid()}
    with pytest.raises(NoLogServer, match="'nobody-else'; there is no such user"):
        LogServer(folder, users=["nobody-else"])


@pytest.mark.usefixtures("_no_reports")
def test_a_frame_that_is_too_long_ends_the_connection(folder: Path) -> None:
    with serving(folder) as server, Wire(folder) as wire:
        wire.greet()
        wire.socket.sendall(struct.pack(">I", 65 * 1024))
        assert wire.is_closed()
        assert list(refused(server).values()) == [1]


@pytest.mark.usefixtures("_no_reports")
def test_a_wrong_record_is_counted_and_the_next_one_taken(folder: Path, path: Path) -> None:
    with serving(folder) as server, Wire(folder) as wire:
        wire.greet()
        wrong = [b"", b"{}", b"[" * 50_000, b"\xff", b'{"s":1}']
        wire.socket.sendall(b"".join(struct.pack(">I", len(each)) + each for each in wrong))
        wire.send(1)
        wire.wait_for(1)
        assert sum(refused(server).values()) == 5
    assert messages_in(path) == ["Hello"]


@pytest.mark.usefixtures("_no_reports")
def test_who_does_not_greet_is_refused(folder: Path) -> None:
    with serving(folder) as server, Wire(folder) as wire:
        wire.send(1)
        assert wire.is_closed()
        assert "broke the protocol" in next(iter(refused(server)))


@pytest.mark.parametrize("begun", [b"", hello("0000000a")[:7], hello("0000000a") + b"\x00\x00"])
def test_who_says_nothing_whole_is_cut_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    with serving(folder), Wire(folder, "0000000b") as other:
        other.greet()
        for name in ("HANDSHAKE", "STALL"):
            monkeypatch.setattr(logpeers, name, 0.1)
        with Wire(folder) as slow:
            slow.socket.sendall(begun)
            assert slow.is_closed()
        other.send(1)  # who is merely silent stays
        other.wait_for(1)


@pytest.mark.usefixtures("_no_reports")
def test_connections_beyond_the_limit_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logpeers, "MAX_OF_ONE_PROCESS", 3)
    with serving(folder) as server:
        wires = [Wire(folder, f"0000000{number}") for number in range(3)]
        for wire in wires:
            wire.greet()
        with Wire(folder) as one_more:
            assert one_more.is_closed()
        monkeypatch.setattr(logpeers, "MAX_OF_ONE_PROCESS", 10)
        monkeypatch.setattr(logpeers, "MAX_CONNECTIONS", 3)
        with Wire(folder) as one_more:
            assert one_more.is_closed()
        wires.pop().socket.close()
        wait_until(lambda: len(server._peers._peers) == 2, "the server sees that one has gone")
        with Wire(folder, "0000000f") as one_more:
            assert one_more.greet() == 0
        for wire in wires:
            wire.socket.close()
        assert sorted(refused(server)) == [
            "connections beyond 3",
            "connections beyond 3 of one process",
        ]


def test_who_does_not_read_its_acknowledgements_gets_the_newest(folder: Path) -> None:
    with serving(folder), Wire(folder) as wire, Wire(folder, "0000000b") as other:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        wire.greet()
        other.greet()
        for number in range(1, 3000):
            wire.send(number)
            other.send(number)
            other.wait_for(number)  # so that each one has an acknowledgement of its own
        wire.wait_for(2999)


# Turns


@pytest.fixture
def peers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    """The connections of a server that takes a turn when a test says so, for one record of each."""
    monkeypatch.setattr(logpeers, "TURN", 0.0)
    folder.mkdir()
    file = LogFile(folder / "lino.log")
    file.take_up()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(folder / "linod.sock"))
        listener.listen()
        peers = Peers(listener, file, template_of("{message}"), {os.getuid()}, threading.Event())
        yield peers
        peers.close()
    file.close()


def serve_all(peers: Peers) -> int:
    """Turns until there is nothing left to do; how many had something."""
    return sum(1 for _ in iter(lambda: peers.serve(0), False))


def test_who_sends_much_takes_turns_with_the_others(folder: Path, path: Path, peers: Peers) -> None:
    with Wire(folder) as flood, Wire(folder, "0000000b") as other:
        for wire in (flood, other):
            wire.socket.sendall(hello(wire.client))
        assert serve_all(peers) > 0
        flood.socket.sendall(b"".join(frames(1, 101)))
        peers.serve(0)
        other.send(1, "other")
        peers.serve(0)
        assert sorted(records_in(path)) == ["m", "m", "other"]
        assert (other.acknowledged(), other.acknowledged()) == (0, 1)
        serve_all(peers)
        flood.wait_for(100)
    assert len(records_in(path)) == 101


@pytest.mark.usefixtures("_no_reports")
def test_rubbish_takes_turns_too(folder: Path, path: Path, peers: Peers) -> None:
    with Wire(folder) as fuzz, Wire(folder, "0000000b") as other:
        fuzz.socket.sendall(hello(fuzz.client) + b"\0\0\0\2{}" * 100)
        other.socket.sendall(hello(other.client))
        other.send(1, "other")
        for _ in range(3):  # accepted, greeted and taken
            peers.serve(0)
        assert records_in(path) == ["other"]
        assert 0 < sum(peers.refused.values()) < 5
        serve_all(peers)
        assert sum(peers.refused.values()) == 100


def test_who_is_behind_is_not_read(folder: Path, path: Path, peers: Peers) -> None:
    """What it sends fills its own socket and then its own window, not the server."""
    with Wire(folder) as wire:
        wire.socket.sendall(hello(wire.client))
        serve_all(peers)
        wire.socket.setblocking(False)
        count = 0
        try:
            while True:
                peers.serve(0)
                wire.socket.sendall(b"".join(frames(count + 1, count + 201)))
                count += 200
        except BlockingIOError:
            assert count < 100_000
        (peer,) = peers._peers
        assert len(peer.waiting) > 100
        assert len(records_in(path)) < count / 10


def test_a_storm_of_connections_takes_turns(
    folder: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logpeers, "ACCEPTS", 2)
    wires = [Wire(folder) for _ in range(5)]
    for expected in (2, 4, 5):
        peers.serve(0)
        assert len(peers._peers) == expected
    for wire in wires:
        wire.socket.close()


def test_a_server_that_could_not_write_blames_nobody(
    folder: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waited for the disk it read nothing, so nobody was too slow."""
    with Wire(folder) as begun, Wire(folder, "0000000b") as other:
        for wire in (begun, other):
            wire.socket.sendall(hello(wire.client))
        serve_all(peers)
        (frame,) = frames(1, 2)
        begun.socket.sendall(frame[:9])
        other.send(1)
        write, late = peers.file.write, time.monotonic() + 2 * logpeers.STALL

        def full(data: bytes, progress: dict[str, int]) -> None:
            monkeypatch.setattr(time, "monotonic", lambda: late)
            begun.socket.sendall(frame[9:])
            write(data, progress)

        with monkeypatch.context() as patch:
            patch.setattr(peers.file, "write", full)
            peers.serve(0)
        serve_all(peers)
        begun.wait_for(1)
        assert len(peers._peers) == 2


def test_who_only_greets_leaves_no_trace(folder: Path, path: Path, peers: Peers) -> None:
    """Or whoever connects again and again, each time by another name, fills the memory."""
    for number in range(5):
        with Wire(folder, f"0000000{number}") as wire:
            wire.socket.sendall(hello(wire.client))
            serve_all(peers)
            assert wire.acknowledged() == 0
    assert peers.file.progress == {}


# Beginning and ending


def test_what_was_sent_before_the_stop_is_written(folder: Path, path: Path) -> None:
    with serving(folder), Wire(folder) as wire:
        wire.socket.sendall(hello("0000000a") + b"".join(frames(1, 1001)))
    assert len(records_in(path)) == 1000
    assert sorted(each.name for each in folder.iterdir()) == ["lino.log", "linod.lock"]


def test_a_second_server_waits_until_the_first_is_gone(folder: Path, path: Path) -> None:
    with serving(folder) as first:
        second = LogServer(folder)
        second.start()
        try:
            with Wire(folder) as wire:
                wire.greet()
                wire.send(1, "to the first")
                wire.wait_for(1)
                assert not second.is_serving.is_set()
                first.stop()
                assert wire.is_closed()
            assert second.is_serving.wait(DEADLINE)
            with Wire(folder) as wire:
                assert wire.greet() == 1
                wire.send(2, "to the second")
                wire.wait_for(2)
        finally:
            second.stop()
    assert messages_in(path) == ["to the first", "to the second"]


def test_a_server_that_waits_can_be_stopped(folder: Path) -> None:
    with serving(folder):
        second = LogServer(folder)
        second.start()
        second.stop()
        assert (folder / "linod.sock").exists()


def test_what_a_killed_server_left_is_taken_over(folder: Path) -> None:
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "linod.sock"))
    (folder / "linod.lock").touch()
    with serving(folder), Wire(folder) as wire:
        assert wire.greet() == 0


def test_a_folder_that_is_cleared_is_served_again(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the lock could start a second writer beside this one."""
    monkeypatch.setattr("linod.logserver.LOOK", 0.05)
    with serving(folder):
        for each in folder.iterdir():
            each.unlink()
        wait_until((folder / "linod.sock").exists, "the socket is there again")
        with (folder / "linod.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with Wire(folder) as wire:
            wire.greet()
            wire.send(1)
            wire.wait_for(1)
    assert messages_in(path) == ["Hello"]


def test_reopen_lets_go_of_the_former_file(folder: Path, path: Path) -> None:
    def is_open(file: Path) -> bool:
        links = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return str(file) in {os.readlink(each) for each in links if os.path.lexists(each)}

    with serving(folder) as server, Wire(folder) as wire:
        wire.greet()
        wire.send(1, "before")
        wire.wait_for(1)
        former = path.rename(folder / "lino.log.1")
        assert is_open(former)
        server.reopen()
        wait_until(lambda: not is_open(former), "the former file is closed")
        wire.send(2, "after")
        wire.wait_for(2)
    assert (messages_in(former), messages_in(path)) == (["before"], ["after"])


def test_a_disk_that_is_full_makes_senders_wait(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logpeers, "RETRY", 0.02)
    is_full = threading.Event()
    write = os.write

    def full(file: int, data: bytes) -> int:
        if is_full.is_set():
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", full)
    with serving(folder), Wire(folder) as wire:
        wire.greet()
        is_full.set()
        wire.send(1, "waits")
        wait_until(lambda: "cannot be written" in caplog.text, "a line says that the disk is full")
        assert messages_in(path) == []
        is_full.clear()
        wire.wait_for(1)
        assert "can be written again" in caplog.text
    assert messages_in(path) == ["waits"]


def test_a_server_that_cannot_write_can_be_stopped(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with serving(folder) as server, Wire(folder) as wire:
        wire.greet()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            wire.send(1, "comes again")
            server.stop()
        assert wire.is_closed()
    with serving(folder), Wire(folder) as wire:
        assert wire.greet() == 0
        wire.send(1, "comes again")
        wire.wait_for(1)
    assert messages_in(path) == ["comes again"]


@pytest.mark.parametrize("error", [OSError("broken"), RuntimeError("broken")])
def test_a_server_that_fails_begins_again(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:  # fmt: skip
    monkeypatch.setattr("linod.logserver.PAUSE", 0.01)
    read, failures = Peers._read, [error]

    def fails_once(self: Peers, peer: logpeers.Peer) -> None:
        if failures:
            raise failures.pop()
        read(self, peer)

    monkeypatch.setattr(Peers, "_read", fails_once)
    with serving(folder) as server:
        with Wire(folder) as wire:
            wire.socket.sendall(hello("0000000a"))
            assert wire.is_closed()
        assert "begins again in a moment" in caplog.text
        assert server.is_serving.wait(DEADLINE)
        with Wire(folder) as wire:
            wire.greet()
            wire.send(1)
            wire.wait_for(1)
    assert messages_in(path) == ["Hello"]


@pytest.mark.parametrize("why", ["a file is in the way", "long"])
def test_a_folder_in_which_nobody_could_serve_is_one_line(tmp_path: Path, why: str) -> None:
    (tmp_path / "file").touch()
    wrong = tmp_path / "file" / "log" if why != "long" else tmp_path / ("x" * 110)
    with pytest.raises(NoLogServer, match=f"No log server in {wrong}: [^\n]+$"):
        LogServer(wrong).start()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_lets_go_of_the_lock(folder: Path, path: Path) -> None:
    """Or no other server could begin while a child of a dead one lives."""
    with serving(folder) as server:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        try:
            server.stop()
            with serving(folder), Wire(folder) as wire:
                wire.greet()
                wire.send(1)
                wire.wait_for(1)
        finally:
            os.close(writer)
            os.waitpid(child, 0)
    assert wait_for_message(path, "Hello") == ["Hello"]
