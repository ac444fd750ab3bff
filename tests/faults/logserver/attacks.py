"""What a process that may send does to harm the log server. ``python -m ... NAME FOLDER SIZE``"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from linod import framing
from tests.faults.logserver.world import connect


def mutant(chance: random.Random) -> bytes:
    """A frame that is wrong in one of many ways, seldom right."""
    body = framing.body_of(time.time(), "INFO", "fuzz", "x" * chance.randrange(40))
    frame = bytearray(framing.frame_of(chance.randrange(1, 2**63), body))
    match chance.randrange(8):
        case 0:
            frame[chance.randrange(4, len(frame))] = chance.randrange(256)
        case 1:
            text = chance.randbytes(chance.randrange(60))
            return struct.pack(">I", len(text)) + text
        case 2:
            text = b"[" * chance.randrange(2000)
            return struct.pack(">I", len(text)) + text
        case 3:
            text = b'{"s":%d,"t":%d}' % (chance.getrandbits(80), chance.getrandbits(200))
            return struct.pack(">I", len(text)) + text
        case 4:
            return struct.pack(">I", 0)
        case 5:
            start = chance.randrange(4, len(frame))
            text = bytes(frame[4:start])
            return struct.pack(">I", len(text)) + text
        case 6 if not chance.randrange(200):
            return chance.randbytes(9)  # a length that is beyond all limits, mostly
        case _:
            frame[chance.randrange(4, len(frame))] ^= 1 << chance.randrange(8)
    return bytes(frame)


def fuzz(folder: Path, count: int) -> str:
    """So many wrong frames, over as many connections as it takes."""
    chance = random.Random(count)
    connections, left = 0, count
    while left:
        try:
            with connect(folder) as wire:
                connections += 1
                wire.sendall(framing.hello(f"{chance.getrandbits(32):08x}"))
                while left:
                    many = min(left, 200)
                    data = b"".join(mutant(chance) for _ in range(many))
                    left -= many
                    wire.sendall(data)
                    drain(wire)
        except OSError:
            continue
    return f"{count} frames, {connections} connections"


def drain(wire: socket.socket) -> None:
    while select.select([wire], [], [], 0)[0]:
        if not wire.recv(65536):
            raise ConnectionResetError


def flood(folder: Path, seconds: int) -> str:
    """Right records, as fast as the socket takes them."""
    end, count = time.monotonic() + seconds, 0
    body = framing.body_of(time.time(), "INFO", "flood", "x" * 200)
    with connect(folder) as wire:
        wire.sendall(framing.hello("0000000f"))
        while time.monotonic() < end:
            frames = (framing.frame_of(n, body) for n in range(count + 1, count + 301))
            wire.sendall(b"".join(frames))
            count += 300
            drain(wire)
    return f"{count} records, {count // seconds} a second"


def slow(folder: Path, count: int, seconds: float = 6.0) -> str:
    """So many connections, of as many processes as it takes, that say a byte now and then."""
    children = []
    for _ in range(count // 15):
        child = os.fork()
        if not child:
            crawl(folder, 15, seconds)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return f"{count} connections for {seconds:g} s, made anew when they are cut"


def crawl(folder: Path, count: int, seconds: float) -> None:
    greeting, pause = framing.hello("0000000e"), threading.Event()
    wires: list[tuple[socket.socket, int]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while len(wires) < count:
            try:
                wires.append((connect(folder), 0))
            except OSError:
                break
        alive = []
        for wire, at in wires:
            try:
                wire.sendall(greeting[at % len(greeting) :][:1] or b"\x00")
            except OSError:
                wire.close()
            else:
                alive.append((wire, at + 1))
        wires = alive
        pause.wait(0.2)


if __name__ == "__main__":
    attack = {"fuzz": fuzz, "flood": flood, "slow": slow}[sys.argv[1]]
    sys.stdout.write(attack(Path(sys.argv[2]), int(sys.argv[3])))
