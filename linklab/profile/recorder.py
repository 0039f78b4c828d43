"""perf in the guest: started once, switched on for the work alone, its file fetched.

perf is driven through FIFOs that the agent writes and reads, so that nothing
else runs in the guest between the switch and the work. Its file is read on
the host, by the same perf: symbols take long where the CPU is emulated.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from linklab.agent.client import Agent
from linklab.errors import GuestIncomplete, LabError
from linklab.host.run import find_program, run
from linklab.profile.stacks import Samples, read_script

PERF, PERF_PACKAGE = "perf", "linux-perf"
GUEST_PERF = "/bin/perf"
_SCRIPT = "/usr/lib/linklab/record"
_FOLDER = "/tmp/linklab-perf"
_CONTROL, _ACK = f"{_FOLDER}/control", f"{_FOLDER}/ack"
_STATUS, _LOG = f"{_FOLDER}/status", f"{_FOLDER}/log"
_DATA, _PIECE = f"{_FOLDER}/perf.data", f"{_FOLDER}/piece"
_PIECE_MIB = 4  # what the agent reads at most
_BUFFER = "8M"  # for each CPU: seconds of samples, so that perf seldom wakes up
_TIMERS = 16
_SPREAD = 0.3  # of the timers' periods, from the shortest to the longest
_GOLDEN = 0.6180339887498949  # its multiples are spread evenly, and none is near a small fraction
FILE_MIB = 128
"""How large perf's file may become: it lies in the guest's memory. A sample takes
some 200 bytes."""
_TURN = 0.002  # s between two polls
_LIMIT = 120.0  # s for anything that perf is asked to do


class Event(StrEnum):
    """What triggers a sample: a number of cycles, or a time of a CPU's clock."""

    CYCLES = "cycles"
    CPU_CLOCK = "cpu-clock"


def choose_event(agent: Agent, *, emulated: bool) -> tuple[Event, str]:
    """Return the event to sample by in this guest, and why.

    An emulated CPU has no counters; one under KVM has them if the host lets it.
    """
    if emulated:
        return Event.CPU_CLOCK, "an emulated CPU has no hardware counters"
    words = [GUEST_PERF, "stat", "-x,", "-e", Event.CYCLES, "/bin/true"]
    end = agent.run(words, time.monotonic() + _LIMIT)
    count = end.output.decode(errors="replace").partition(",")[0].strip()
    if end.exit_code == 0 and count.isdigit():
        return Event.CYCLES, "the guest has hardware counters"
    return Event.CPU_CLOCK, f"the guest has no hardware counters ({count or 'perf stat failed'})"


def periods_of(frequency: int) -> tuple[int, ...]:
    """Return periods, in ns, of timers that together take so many samples a second.

    A single timer can fall into step with work that repeats itself, such as a
    loop over its objects, and then samples the same few of its instructions.
    Of many timers with different periods only a few can.
    """
    lengths = [1 + _SPREAD * (number * _GOLDEN % 1 - 0.5) for number in range(_TIMERS)]
    each = 1e9 / frequency * sum(1 / length for length in lengths)
    return tuple(round(each * length) for length in lengths)


@dataclass(frozen=True)
class Recorder:
    """`perf record` on all CPUs of a guest, `frequency` samples a second on each.

    Without `idle` the idle task is not sampled: in virtual time a guest waits
    for a second or two before timed work.
    """

    agent: Agent
    event: Event
    frequency: int
    idle: bool = True

    @contextmanager
    def recording(self) -> Iterator[Callable[[], bytes]]:
        """Run perf, switched off; yield a function that ends it and returns its file.

        Raises `LabError`, with perf's output, when it does not start or fails.
        """
        tuning = ("-m", _BUFFER, f"--max-size={FILE_MIB}M", "--no-buildid")
        words = ["/bin/sh", _SCRIPT, "-a", "-g", *self._events(), *tuning]
        end = self.agent.run(words, _soon())
        if end.exit_code:
            raise LabError(
                f"perf was not started in the guest: {_SCRIPT} ended with {end.exit_code}",
                end.output.decode(errors="replace"),
            )
        self._tell("ping")
        yield self._stop

    def _events(self) -> tuple[str, ...]:
        """Return perf's options for the event. Hardware counters are irregular by themselves."""
        if self.event is Event.CYCLES:
            return "-e", self.event.value, "-F", str(self.frequency)
        busy = "" if self.idle else "I"
        timers = (f"{self.event}/period={period}/{busy}" for period in periods_of(self.frequency))
        return "-e", ",".join(timers)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Take samples while the context lasts."""
        self._tell("enable")
        yield
        self._tell("disable")

    def kernel_symbols(self) -> bytes:
        """Return the guest's /proc/kallsyms."""
        symbols = self.agent.read_file("/proc/kallsyms", _soon())
        if not symbols:
            raise LabError("the guest's kernel has no symbols: build it with CONFIG_KALLSYMS=y")
        return symbols

    def _stop(self) -> bytes:
        if status := self._told("stop", self._status):
            raise self._failed(status)
        return self._fetch()

    def _tell(self, word: str) -> None:
        self._told(word, self._acknowledged)

    def _told(self, word: str, answer: Callable[[], int | None]) -> int:
        """Tell perf a word, and return the answer once there is one."""
        self.agent.write_file(_CONTROL, f"{word}\n".encode(), _soon())
        until = _soon()
        while (found := answer()) is None:
            if time.monotonic() > until:
                raise LabError(f"perf gives no answer in the guest for {_LIMIT:.0f} s")
            time.sleep(_TURN)
        return found

    def _acknowledged(self) -> int | None:
        if b"ack" in self.agent.read_file(_ACK, _soon()):
            return 0
        if (status := self._status()) is not None:
            raise self._failed(status)
        return None

    def _status(self) -> int | None:
        """Return the status that perf ended with, or None while it runs."""
        try:
            return int(self.agent.read_file(_STATUS, _soon()))
        except GuestIncomplete:  # there is no such file yet
            return None

    def _failed(self, status: int) -> LabError:
        if status == 0:
            return LabError(
                f"perf's file reached {FILE_MIB} MiB in the guest: profile less work, "
                "or with a lower --frequency"
            )
        said = self.agent.read_file(_LOG, _soon()).decode(errors="replace").strip()
        return LabError(
            f"perf ended with status {status} in the guest. It needs a kernel with "
            "CONFIG_PERF_EVENTS and CONFIG_EVENTFD",
            said,
        )

    def _fetch(self) -> bytes:
        """Return perf's file, read in pieces."""
        data = bytearray()
        while True:
            skip = f"skip={len(data) // (_PIECE_MIB << 20)}"
            words = ["dd", f"if={_DATA}", f"of={_PIECE}", f"bs={_PIECE_MIB}M", "count=1", skip]
            end = self.agent.run(["/bin/busybox", *words], _soon())
            if end.exit_code:
                said = end.output.decode(errors="replace")
                raise LabError("perf's file cannot be read in the guest", said)
            piece = self.agent.read_file(_PIECE, _soon())
            data += piece
            if len(piece) < _PIECE_MIB << 20:
                return bytes(data)


def decode(data: bytes, kernel_symbols: bytes) -> Samples:
    """Return the samples in a guest's perf.data, with the symbols of its kernel.

    Raises `LabError` when this host has no perf, or its perf cannot read it.
    """
    perf = find_program(PERF, PERF_PACKAGE)
    with tempfile.TemporaryDirectory(prefix="linklab-profile-") as folder:
        file, symbols = Path(folder) / "perf.data", Path(folder) / "kallsyms"
        file.write_bytes(data)
        symbols.write_bytes(kernel_symbols)
        # perf would take symbols of this host's libraries for the same addresses
        # in the guest: --symfs hides the libraries.
        options = ("--kallsyms", symbols, "--symfs", folder, "-F", "comm,pid,ip,sym,dso")
        done = run([perf, "script", "-i", file, *options], env={"PAGER": "cat"})
    return read_script(done.stdout.decode(errors="replace"))


def _soon() -> float:
    return time.monotonic() + _LIMIT
