"""The kernel's reports in one guest: which count, and which do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from linklab.console.kmsg import Record, is_confirmed
from linklab.console.report import NO_NOISE, Noise, Report
from linklab.console.watch import ConsoleWatch


@dataclass
class KernelReports:
    """What a console's watch found, sorted.

    `is_private`: no program of the guest can write to the console, so what
    looks like a report is one. Otherwise it is held against the kernel's own
    log as soon as somebody can be asked for that.
    """

    watch: ConsoleWatch
    noise: Noise = NO_NOISE
    is_private: bool = True
    _confirmed: set[str] = field(default_factory=set)
    _refuted: set[str] = field(default_factory=set)

    @property
    def counting(self) -> tuple[Report, ...]:
        """The reports that make a verdict, first the first."""
        return tuple(r for r in self._believed() if not self.noise.covers(r))

    @property
    def ignored(self) -> tuple[Report, ...]:
        """The reports that are known noise."""
        return tuple(r for r in self._believed() if self.noise.covers(r))

    @property
    def look_alikes(self) -> tuple[Report, ...]:
        """What looked like a report on the console, and is not in the kernel's log."""
        return tuple(r for r in self.watch.reports if r.text in self._refuted)

    @property
    def are_due(self) -> bool:
        """Whether a report counts beyond doubt, and is told to its end."""
        if self.watch.is_in_report:
            return False
        return any(self.is_private or r.text in self._confirmed for r in self.counting)

    def confirm(self, read_log: Callable[[], list[Record] | None]) -> None:
        """Hold what is in doubt against the kernel's log; `read_log` reads that.

        Where it cannot be read, the console's word counts.
        """
        doubtful = [r for r in self.counting if r.text not in self._confirmed]
        if self.is_private or self.watch.is_in_report or not doubtful:
            return
        records = read_log()
        for report in doubtful:
            real = records is None or is_confirmed(report, records)
            (self._confirmed if real else self._refuted).add(report.text)

    def _believed(self) -> list[Report]:
        return [r for r in self.watch.reports if r.text not in self._refuted]
