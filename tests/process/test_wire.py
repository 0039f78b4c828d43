"""The wire: the real process, and real sockets in the place of machines."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from processes import wait_until_gone

from linklab.errors import LabError
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.image.programs import WIRE, build_static
from linklab.lab.topology import parse
from linklab.lab.wire import Wire

pytestmark = pytest.mark.process

SIZE = 1000
SILENCE = 1.0  # s after which nothing more is expected
TRIES = 3


def measures(test: Callable[..., None]) -> Callable[..., None]:
    """Let a test try again: a busy host is late now and then, a wire that is wrong always is."""

    @wraps(test)
    def tried(**fixtures: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return test(**fixtures)
            except AssertionError:
                continue
        return test(**fixtures)

    return tried


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = Cache(tmp_path_factory.mktemp("wire-cache"))
    return build_static(WIRE, cache, ignore).file(WIRE.file)


class Laid(Wire):
    """The links of a text."""

    def __init__(self, program: Path, properties: str, seed: int = 1) -> None:
        super().__init__(program, parse(f"a -- b: {properties}").links, seed)
        self.a, self.b = self.ends[0]

    def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.a.send(frame)

    def train(self, count: int, silence: float = SILENCE) -> list[tuple[float, bytes]]:
        """Send so many frames at once; return when each came that came, and what it was."""
        got: list[tuple[float, bytes]] = []
        self.a.setblocking(False)
        sent = 0
        until = time.monotonic() + silence
        while True:
            is_over = time.monotonic() >= until  # first: what came while this slept still counts
            writers = [self.a] if sent < count else []
            readable, writable, _ = select.select([self.b], writers, [], 0.01)
            if is_over and not readable:
                return got
            if writable:
                sent += self._fill(sent, count)
            while readable and (frame := received(self.b)):
                got.append((time.monotonic(), frame))
                until = time.monotonic() + silence

    def _fill(self, sent: int, count: int) -> int:
        for number in range(sent, count):
            try:
                self.a.send(numbered(number))
            except BlockingIOError:
                return number - sent
        return count - sent


def numbered(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4).ljust(size, b"\0")


def received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 17, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def numbers(got: list[tuple[float, bytes]]) -> list[int]:
    return [int.from_bytes(frame[:4]) for _, frame in got]


@pytest.mark.parametrize(("more", "size"), [("", 1000), (" overhead=250", 1250)])
@measures
def test_a_rate_is_that_of_whole_frames_and_their_overhead(
    program: Path, more: str, size: int
) -> None:
    with Laid(program, f"8mbit{more}") as wire:
        got = wire.train(800)
    assert numbers(got) == list(range(800))
    assert (got[-1][0] - got[0][0]) / 799 == pytest.approx(size / 1e6, rel=0.03)


@measures
def test_a_delay_is_that_of_one_way_and_each_way_has_its_own(program: Path) -> None:
    with Laid(program, "20ms/5ms") as wire:
        took = []
        for number in range(20):
            began = time.monotonic()
            wire.a.send(numbered(number))
            wire.b.send(wire.b.recv(SIZE))
            assert wire.a.recv(SIZE) == numbered(number)
            took.append(time.monotonic() - began)
    assert min(took) >= 0.025
    assert median(took) < 0.030


def test_frames_are_as_they_were_and_in_order(program: Path) -> None:
    sizes = (1, 60, 1514, 9014, 65535)
    frames = [os.urandom(size) for size in sizes]
    with Laid(program, "10ms") as wire:
        wire.send(frames)
        assert [wire.b.recv(1 << 17) for _ in frames] == frames
        assert wire.counters(0)[0]["bytes"] == sum(sizes)


def test_a_seed_loses_the_same_frames_and_another_one_loses_others(program: Path) -> None:
    def arrived(seed: int) -> list[int]:
        with Laid(program, "10% queue=5000", seed) as wire:
            got = numbers(wire.train(2000))
            assert wire.counters(0)[0]["lost"] == 2000 - len(got)
        return got

    first = arrived(7)
    assert arrived(7) == first
    assert arrived(8) != first
    assert 1740 < len(first) < 1860  # 4.5 standard deviations
    assert arrived(0) != arrived(0), "0 leaves it to chance"


def test_what_a_seed_loses_does_not_depend_on_what_else_happens(program: Path) -> None:
    with Laid(program, "10% queue=5000 20ms", 7) as plain:
        one = numbers(plain.train(500))
    with Laid(program, "10% queue=5000 20ms reorder=20%", 7) as wild:
        other = numbers(wild.train(500))
    assert sorted(other) == one
    assert other != one


@measures
def test_a_queue_drops_what_comes_when_it_is_full(program: Path) -> None:
    with Laid(program, "1mbit queue=20") as wire:
        got = wire.train(100, 0.5)
        there, back = wire.counters(0)
    assert numbers(got)[:20] == list(range(20))
    assert len(got) < 30
    assert there["dropped"] == 100 - len(got)
    assert (there["most_packets"], there["most_bytes"]) == (20, 20 * SIZE)
    assert set(back.values()) == {0}


@measures
def test_a_queue_may_be_in_bytes(program: Path) -> None:
    with Laid(program, "1mbit queue=5500b/20") as wire:
        got = wire.train(50, 0.5)
        there, _ = wire.counters(0)
        for number in range(50):
            wire.b.send(numbered(number))
        time.sleep(0.3)
        _, back = wire.counters(0)
    assert numbers(got)[:5] == list(range(5))
    assert there["dropped"] == 50 - len(got)
    assert (there["most_packets"], there["most_bytes"]) == (5, 5 * SIZE)
    assert back["most_packets"] == 20


@measures
def test_high_marks_begin_anew_when_they_were_told(program: Path) -> None:
    with Laid(program, "10mbit queue=50") as wire:
        wire.train(10, 0.2)
        assert wire.counters(0)[0]["most_packets"] > 0
        there, _ = wire.counters(0)
    assert there["most_packets"] == 0
    assert there["arrived"] == 10


@pytest.mark.parametrize(
    ("properties", "counter", "expected"),
    [("dup=100%", "doubled", 200), ("corrupt=100%", "corrupted", 100)],
)
@measures
def test_frames_are_doubled_and_corrupted(
    program: Path, properties: str, counter: str, expected: int
) -> None:
    with Laid(program, properties) as wire:
        got = [frame for _, frame in wire.train(100, 0.3)]
        assert wire.counters(0)[0][counter] == 100
    assert len(got) == expected
    sent = [numbered(number) for number in range(100) for _ in range(expected // 100)]
    flipped = [
        sum((a ^ b).bit_count() for a, b in zip(frame, was, strict=True))
        for frame, was in zip(got, sent, strict=True)
    ]
    assert set(flipped) == {1 if counter == "corrupted" else 0}


@measures
def test_in_the_dark_frames_vanish_and_those_on_the_way_with_them(program: Path) -> None:
    with Laid(program, "100ms") as wire:
        wire.send([numbered(1)])
        assert wire.counters(0)[0]["came"] == 1
        wire.darken(0)
        wire.send([numbered(2)])
        time.sleep(0.3)
        assert not received(wire.b)
        assert wire.counters(0)[0]["vanished"] == 2
        wire.light(0)
        wire.send([numbered(3)])
        assert wire.b.recv(SIZE) == numbered(3)


def test_who_does_not_take_its_frames_gets_them_late_and_it_shows(program: Path) -> None:
    with Laid(program, "1ms") as wire:
        sent = [numbered(number, 1500) for number in range(300)]
        for frame in sent:
            wire.a.send(frame)
        time.sleep(0.2)
        got = [wire.b.recv(2000) for _ in sent]
        there, _ = wire.counters(0)
    assert got == sent
    assert there["late"] > 0
    assert there["latest_ns"] >= 50e6


@measures
def test_a_machine_that_is_gone_takes_nothing_and_stops_nobody(program: Path) -> None:
    with Laid(program, "1ms") as wire:
        wire.b.close()
        wire.send([numbered(number) for number in range(20)])
        time.sleep(0.1)
        assert wire.counters(0)[0]["vanished"] == 20
        before = cpu_seconds(wire)
        time.sleep(0.5)
        assert cpu_seconds(wire) - before < 0.1, "it waits, and does not turn in circles"


def cpu_seconds(wire: Wire) -> float:
    fields = Path(f"/proc/{wire.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_sleeps_while_nothing_is_due(program: Path) -> None:
    with Laid(program, "1kbit 60s") as wire:
        wire.send([numbered(1)])
        time.sleep(0.5)
        assert cpu_seconds(wire) < 0.1


def test_a_link_that_does_nothing_is_a_pair_of_sockets_without_a_process(program: Path) -> None:
    with Wire(program, parse("a -- b").links, 1) as wire:
        assert wire.pid is None
        ((a, b),) = wire.ends
        a.send(b"hello")
        assert b.recv(10) == b"hello"
        with pytest.raises(LabError, match="link 1 joins two guests directly"):
            wire.darken(0)


def test_links_are_asked_by_their_number_in_the_topology(program: Path) -> None:
    with Wire(program, parse("a -- b -- c -- d: clean | 1ms | 2ms").links, 1) as wire:
        wire.ends[2][0].send(b"x")
        assert wire.ends[2][1].recv(10) == b"x"
        assert [wire.counters(link)[0]["came"] for link in (1, 2)] == [0, 1]


@pytest.fixture
def killed(program: Path) -> Iterator[Wire]:
    with Laid(program, "1ms") as wire:
        assert wire.pid is not None and wire.pidfd is not None
        os.kill(wire.pid, signal.SIGKILL)
        assert select.select([wire.pidfd], [], [], 20)[0]
        yield wire


def test_a_wire_that_dies_is_named(killed: Wire) -> None:
    with pytest.raises(LabError, match=r"the wire, .*, was killed by signal 9"):
        killed.counters(0)


def test_a_wire_that_cannot_begin_says_why(program: Path, tmp_path: Path) -> None:
    broken = tmp_path / "wire"
    broken.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
    broken.chmod(0o755)
    with Laid(broken, "1ms") as wire, pytest.raises(LabError, match="ended with status 3") as error:
        wire.counters(0)
    assert error.value.evidence == "no memory"


def test_nothing_is_left_open(program: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    with Laid(program, "1ms"):
        pass
    assert open_files() == before


@pytest.mark.parametrize("deed", ["os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_it_ends_with_the_lab(program: Path, deed: str) -> None:
    text = (
        "import os\nfrom pathlib import Path\n"
        "from linklab.lab.topology import parse\nfrom linklab.lab.wire import Wire\n"
        f"wire = Wire(Path({str(program)!r}), parse('a -- b: 1ms').links, 1)\n"
        f"print(wire.pid, flush=True)\n{deed}\n"
    )
    lab = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert lab.returncode != 0, lab.stderr.decode()
    wait_until_gone(int(lab.stdout))
