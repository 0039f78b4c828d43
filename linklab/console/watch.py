"""The watch over a console, through the whole run of a guest."""

from __future__ import annotations

import re
from collections import deque

from linklab.console.collect import Collector
from linklab.console.faults import Fault
from linklab.console.lines import Line, LineSplitter
from linklab.console.report import Report

TAIL_LINES = 40
_BANNER = re.compile(r"Linux version \d+\.\d+\S* \(")
_BOOT_TIME = 1.0  # s: a kernel says its banner at 0


class ConsoleWatch:
    """Reads the console's bytes as they come; keeps its reports and its last lines."""

    def __init__(self) -> None:
        self._splitter = LineSplitter()
        self._collector = Collector()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._banners = 0
        self._latest = 0.0
        self._reboot: Report | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the console."""
        for line in self._splitter.feed(data):
            self._take(line)

    def finish(self) -> None:
        """Take what is left without a newline: the machine is gone."""
        for line in self._splitter.finish():
            self._take(line)
        self._collector.finish()

    def settle(self) -> None:
        """Take an open report for told: the console has been quiet for long enough."""
        self._collector.finish()

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports so far, first the one that counts."""
        told = self._collector.reports
        return told if self._reboot is None else (*told, self._reboot)

    @property
    def more(self) -> int:
        """How many reports were left out: repeated ones, and those past the limit."""
        return self._collector.more

    @property
    def is_in_report(self) -> bool:
        """Whether the end of a report is still to come."""
        return self._collector.is_open

    @property
    def tail(self) -> str:
        """The last lines of the console."""
        partial = self._splitter.partial
        return "\n".join([*self._tail, partial] if partial else self._tail)

    def _take(self, line: Line) -> None:
        self._tail.append(line.shown)
        if line.is_kernels and line.seconds is not None:
            self._notice_reboot(line, line.seconds)
            self._latest = max(self._latest, line.seconds)
        self._collector.take(line)

    def _notice_reboot(self, line: Line, seconds: float) -> None:
        if not _BANNER.match(line.text):
            return
        self._banners += 1
        again = self._banners > 1 or self._latest > seconds + _BOOT_TIME
        if again and self._reboot is None:
            title = "unexpected kernel reboot"
            self._reboot = Report(
                Fault.REBOOT, title, None, (), line.shown, seconds, True, line.text, seconds
            )
