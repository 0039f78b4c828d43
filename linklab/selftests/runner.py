"""A self-test in a guest of its own: started, its output kept, ended at its limit, classified."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from linklab.agent.client import Agent, JobLimits
from linklab.agent.replies import JobNews
from linklab.errors import Interrupted, LabError, LinklabError
from linklab.events import Listener, StepAdvanced, ignore
from linklab.host.accel import Accel
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Clock
from linklab.results.outcomes import Status, status_of
from linklab.selftests.catalogue import Selftest
from linklab.selftests.classify import Decision, End, classify
from linklab.selftests.record import Attempt
from linklab.selftests.workplan import GUEST_ROOT

DEFAULT = 45.0
"""Seconds where a collection has no `settings` (kselftest/runner.sh)."""

UNLIMITED = 4 * 3600.0
"""Seconds where its `settings` say 0, which stands for no limit: a lab has one."""

TCG_FACTOR = 5.0
"""How much longer a test may take where the guest's CPU is emulated.

The kernel's limits are for hardware. Under TCG code runs ten times slower and
more, but most of a test is waiting, which takes no longer. In virtual time
nothing is slower for the guest, so there limits count as they are.
"""

# Host's s at most for one of a busy guest in virtual time, on a host of ordinary speed
# (ORDINARY_SPEED in linklab/host/accel.py) that has four times as much other work.
_BUSY_SECOND = 50.0
_ANSWER = 120.0  # s for an answer of a guest that is busy with a test
_SHELL = "/bin/sh"
_SCRIPT = "/usr/lib/linklab/selftest"
_LAST_WORDS = 10  # lines
_TURN = 0.25  # guest's s that the agent gathers output for before it answers
# The same where it reports unasked (virtual time): each report stops the machine for 1.5 ms of
# the host's, and a second of a busy guest takes the host some ten.
_PACE = 2.0
_GRACE = 10.0  # s for a test to clean up once it was told to end
_NO_END = End(0, 0.0, 0.0)  # of a test whose guest ended first: its subtests are read anyway
_MOST_OUTPUT = 64 << 20  # bytes; a test that prints more loops


def limit_of(settings: str | None, accel: Accel, clock: Clock, asked: float | None) -> float:
    """Return the seconds that a test may take: the guest's in virtual time, else the host's.

    `settings` is the text of the collection's file, None without one; `asked`
    is a person's own limit, which is not scaled.
    """
    if asked is not None:
        return asked
    seconds = DEFAULT
    for line in (settings or "").splitlines():
        field, _, value = line.partition("=")
        if field.strip() == "timeout" and value.strip().isdigit():
            seconds = float(value)
    if seconds == 0:
        return UNLIMITED
    is_slow = accel is Accel.TCG and clock is Clock.REAL
    return seconds * (TCG_FACTOR if is_slow else 1.0)


def patience(seconds: float, clock: Clock, slowness: float = 1.0) -> float:
    """Return the host's seconds to wait for work of so many seconds in a guest, at most.

    It guards against a lost guest and is no limit of a test: a slow host is not
    a slow kernel. `slowness` is the lab's.
    """
    return _ANSWER + seconds * (slowness * _BUSY_SECOND if clock is Clock.VIRTUAL else 1.0)


@dataclass(frozen=True)
class SelftestAttempts:
    """A test and all attempts at it, each in a guest of its own: what one host does of a run."""

    lab: Lab
    subject: Subject
    test: Selftest
    limit: float
    retries: int = 0
    draw: int = 0  # of the first attempt, in virtual time

    @property
    def name(self) -> str:
        """What it is called where it cannot be done."""
        return f"the self-test {self.test.path} on {self.subject.name}"

    def events(
        self, folder: Path, listener: Listener = ignore, step: str = "", done: int = 0
    ) -> Iterator[Attempt]:
        """Do it, and yield each attempt; the files go into the folder.

        `step` and `done` say how far all tests are. Raises `Interrupted`; whatever else ends
        a guest is the attempt's result.
        """
        for number in range(1, self.retries + 2):
            attempt = self._attempt(number, folder, listener, step, done)
            yield attempt
            if not attempt.status.blames_kernel:
                return

    def given_up(self, fault: LinklabError) -> Attempt:
        """Return what stands for an attempt that no host could do."""
        status = status_of(fault.verdict)
        return Attempt(
            status, fault.message, None, self.limit, None, "", "", evidence=fault.evidence
        )

    def _attempt(
        self, number: int, folder: Path, listener: Listener, step: str, done: int
    ) -> Attempt:
        """Run the test in a fresh guest. `number` counts the attempts at it, from 1.

        In virtual time each attempt draws other random numbers, or it would be
        nearly the same.
        """
        test = self.test
        label = f"{test.path.replace('/', '_')}-{number}"
        output, console = f"{label}.txt", f"console-{label}.log"
        began = time.monotonic()

        def tell(line: str, seconds: float = 0.0) -> None:
            at = f"{test.path} {time.monotonic() - began:.0f} s"
            if self.lab.clock is Clock.VIRTUAL:
                at += f" ({seconds:.0f} s in the guest)"
            listener(StepAdvanced(step, done, f"{at}: {line}" if line else at))

        tell("")
        end: End | None = None
        took: float | None = None
        failure: LinklabError | None = None
        path, log = folder / output, folder / console
        try:
            session = self.lab.session(self.subject, log, self.draw + number - 1)
            with path.open("wb") as file, session as guest:
                started = time.monotonic()
                end = _Job(guest.agent, file, self.limit, self.lab, tell).run(test)
                took = time.monotonic() - started
        except Interrupted:
            raise
        except LinklabError as error:
            failure = error
        found = classify(_output_in(path), end or _NO_END)
        return Attempt(
            status=status_of(failure.verdict) if failure else found.status,
            message=failure.message if failure else found.message,
            seconds=end.seconds if end else None,
            limit=self.limit,
            exit_code=end.exit_code if end else None,
            output=output,
            console=console,
            subtests=found.subtests,
            faults=found.faults,
            evidence=failure.evidence if failure else _last_words(path, found),
            host_seconds=took,
        )


def _last_words(path: Path, found: Decision) -> str:
    """Return the end of a test's output where it failed and no subtest did."""
    leaves = (leaf for each in found.subtests for _, leaf in each.leaves())
    if found.status is not Status.FAIL or any(leaf.status.blames_kernel for leaf in leaves):
        return ""
    return "\n".join(_output_in(path).rstrip().splitlines()[-_LAST_WORDS:])


def _output_in(path: Path) -> str:
    return path.read_text(errors="replace")


@dataclass
class _Job:
    """One test that runs in a guest; its output goes into a file.

    Its `limit` is in the guest's seconds in virtual time, else in the host's.
    """

    agent: Agent
    file: BinaryIO
    limit: float
    lab: Lab
    tell: Callable[[str, float], None]
    size: int = 0
    line: str = ""
    began: float = 0.0  # by the host's clock
    guest_seconds: float = 0.0

    def run(self, test: Selftest) -> End:
        """Run a test to its end, or to the end of its limit. Raises `LabError` on a slow host."""
        argv = [_SHELL, _SCRIPT, f"{GUEST_ROOT}/{test.collection.name}", test.name]
        self.began = time.monotonic()
        news = self._follow(argv) if self._is_virtual else self._poll(argv)
        if news.wait_status is not None:
            return self._end_of(news)
        flooded = self._is_flood
        return self._end_of(self._stop(), overrun=not flooded, flooded=flooded)

    @property
    def _is_virtual(self) -> bool:
        return self.lab.clock is Clock.VIRTUAL

    @property
    def _is_flood(self) -> bool:
        return self.size > _MOST_OUTPUT

    @property
    def _elapsed(self) -> float:
        """The seconds of the clock that limits are for."""
        return self.guest_seconds if self._is_virtual else time.monotonic() - self.began

    def _follow(self, argv: Sequence[str]) -> JobNews:
        """Run it; until its time is over nothing reaches the guest from outside."""
        limits = JobLimits(self.limit, _MOST_OUTPUT, _PACE)
        news = self.agent.follow_job(argv, limits, self._take_report, self._soon(_PACE))
        self._take(news)
        return news

    def _take_report(self, news: JobNews) -> float:
        self._take(news)
        took = time.monotonic() - self.began
        if took >= self._patience(self.limit):
            raise LabError(
                f"this host is too slow: in {took:.0f} s of its time the test came to "
                f"{self.guest_seconds:.0f} s of the {self.limit:.0f} s that it may take"
            )
        return self._soon(_PACE)

    def _poll(self, argv: Sequence[str]) -> JobNews:
        self.agent.start_job(argv, self._soon(_TURN))
        while True:
            news = self._ask()
            if news.wait_status is not None or self._elapsed >= self.limit or self._is_flood:
                return news

    def _stop(self) -> JobNews | None:
        """End it with SIGTERM first: what it prints at cleaning up may say why it took so long."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.agent.signal_job(number, self._soon(_TURN))
            until = self._elapsed + _GRACE
            while self._elapsed < until:
                if (news := self._ask()).wait_status is not None:
                    return news
        return None

    def _ask(self) -> JobNews:
        news = self.agent.job_news(_TURN, self._soon(_TURN))
        self._take(news)
        return news

    def _take(self, news: JobNews) -> None:
        """Store its output and show the last line."""
        self.guest_seconds = news.measure.seconds
        if news.output:
            self.file.write(news.output)
            self.file.flush()
            self.size += len(news.output)
            self.line = _last_line(news.output) or self.line
        self.tell(self.line, self.guest_seconds)

    def _soon(self, seconds: float) -> float:
        return time.monotonic() + self._patience(seconds)

    def _patience(self, seconds: float) -> float:
        return patience(seconds, self.lab.clock, self.lab.slowness)

    def _end_of(self, news: JobNews | None, *, overrun: bool = False, flooded: bool = False) -> End:
        code = news.exit_code if news else None
        seconds = news.measure.seconds if news else self.limit
        killed = -int(signal.SIGKILL)
        return End(killed if code is None else code, seconds, self.limit, overrun, flooded)


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
