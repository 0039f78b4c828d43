"""A self-test in a guest of its own: started, listened to, ended, judged."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from linklab.agent.client import Agent
from linklab.agent.replies import JobNews
from linklab.errors import Interrupted, LabError, LinklabError
from linklab.events import Listener, StepAdvanced
from linklab.lab import Lab, Subject
from linklab.machine.spec import Clock
from linklab.results.outcomes import Status, status_of
from linklab.selftests.catalogue import Selftest
from linklab.selftests.judge import End, Judgement, judge
from linklab.selftests.limits import patience
from linklab.selftests.pack import GUEST_ROOT
from linklab.selftests.record import Attempt

_SHELL = "/bin/sh"
_SCRIPT = "/usr/lib/linklab/selftest"
_LAST_WORDS = 10  # lines
# Guest's s that the agent gathers output for before it answers.  In virtual time each
# answer stops the machine, which takes the host 1.5 ms, and a busy second is some ten of the
# host's.  The turn is fixed: a guest would depend on the host's speed if that chose it.
_TURN = {Clock.REAL: 0.25, Clock.VIRTUAL: 1.0}
_GRACE = 10.0  # s for a test to clean up once it was told to end
_NO_END = End(0, 0.0, 0.0)  # of a test whose guest ended first: its subtests are read all the same
_MOST_OUTPUT = 64 << 20  # bytes; what prints more goes round in circles


@dataclass(frozen=True)
class SelftestRunner:
    """Where tests run and where their files go."""

    lab: Lab
    subject: Subject
    folder: Path
    listener: Listener

    def run(self, test: Selftest, limit: float, number: int, step: str, done: int) -> Attempt:
        """Run a test in a fresh guest and judge it. `number` counts the attempts at it, from 1.

        Each attempt draws other random numbers: in virtual time one that drew
        the same would be the same to the last instruction. `step` and `done`
        say where it stands among others. Raises `Interrupted`; whatever else
        ends a guest is the attempt's result.
        """
        label = f"{test.path.replace('/', '_')}-{number}"
        output, console = f"{label}.txt", f"console-{label}.log"
        began = time.monotonic()

        def tell(line: str, seconds: float = 0.0) -> None:
            at = f"{test.path} {time.monotonic() - began:.0f} s"
            if self.lab.clock is Clock.VIRTUAL:
                at += f" ({seconds:.0f} s in the guest)"
            self.listener(StepAdvanced(step, done, f"{at}: {line}" if line else at))

        tell("")
        end: End | None = None
        took: float | None = None
        path = self.folder / output
        try:
            with (
                path.open("wb") as file,
                self.lab.session(self.subject, self.folder / console, number - 1) as session,
            ):
                started = time.monotonic()
                end = _Job(session.agent, file, limit, self.lab, tell).run(test)
                took = time.monotonic() - started
        except Interrupted:
            raise
        except LinklabError as error:
            said = judge(_text(path), end or _NO_END)
            return Attempt(
                status=status_of(error.verdict),
                message=error.message,
                seconds=end.seconds if end else None,
                limit=limit,
                exit_code=end.exit_code if end else None,
                output=output,
                console=console,
                subtests=said.subtests,
                faults=said.faults,
                evidence=error.evidence,
                host_seconds=took,
            )
        said = judge(_text(path), end)
        return Attempt(
            status=said.status,
            message=said.message,
            seconds=end.seconds,
            limit=limit,
            exit_code=end.exit_code,
            output=output,
            console=console,
            subtests=said.subtests,
            faults=said.faults,
            evidence=_last_words(path, said),
            host_seconds=took,
        )


def _last_words(path: Path, said: Judgement) -> str:
    """Return the end of what a test printed that failed without a subtest to blame for it."""
    leaves = (leaf for each in said.subtests for _, leaf in each.leaves())
    if said.status is not Status.FAIL or any(leaf.status.blames_kernel for leaf in leaves):
        return ""
    return "\n".join(_text(path).rstrip().splitlines()[-_LAST_WORDS:])


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


@dataclass
class _Job:
    """One test that runs in a guest, its output on its way into a file.

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
        folder = f"{GUEST_ROOT}/{test.collection.name}"
        self.agent.start_job([_SHELL, _SCRIPT, folder, test.name], self._soon())
        self.began = time.monotonic()
        while self._elapsed() < self.limit and self.size <= _MOST_OUTPUT:
            if news := self._ended():
                return self._end_of(news)
            self._check_host()
        flooded = self.size > _MOST_OUTPUT
        return self._end_of(self._stop(), overrun=not flooded, flooded=flooded)

    def _elapsed(self) -> float:
        """Return the seconds of the clock that limits are for."""
        if self.lab.clock is Clock.VIRTUAL:
            return self.guest_seconds
        return time.monotonic() - self.began

    def _check_host(self) -> None:
        took = time.monotonic() - self.began
        if took >= self._patience(self.limit):
            raise LabError(
                f"this host is too slow: in {took:.0f} s of its time the test came to "
                f"{self.guest_seconds:.0f} s of the {self.limit:.0f} s that it may take"
            )

    def _stop(self) -> JobNews | None:
        """End it, kindly first: what it says while it cleans up may tell why it took so long."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.agent.signal_job(number, self._soon())
            until = self._elapsed() + _GRACE
            while self._elapsed() < until:
                if news := self._ended():
                    return news
        return None

    def _ended(self) -> JobNews | None:
        """Take what it printed; return its end if it came."""
        news = self.agent.job_news(_TURN[self.lab.clock], self._soon())
        self.guest_seconds = news.measure.seconds
        if news.output:
            self.file.write(news.output)
            self.file.flush()
            self.size += len(news.output)
            self.line = _last_line(news.output) or self.line
        self.tell(self.line, self.guest_seconds)
        return news if news.wait_status is not None else None

    def _soon(self) -> float:
        return time.monotonic() + self._patience(_TURN[self.lab.clock])

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

