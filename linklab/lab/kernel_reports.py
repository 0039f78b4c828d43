"""The kernel's reports in one guest: which count, and those that are on file.

A filed report lies beside the console's log, decoded where that is possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linklab.console.kmsg import Record, is_confirmed
from linklab.console.lines import read_line
from linklab.console.report import NO_NOISE, Noise, Report
from linklab.console.watch import ConsoleWatch
from linklab.errors import LabError
from linklab.lab.symbols import decoded

_SHOWN_LINES = 60
# What a person can do without at first; the file has it.
_BALLAST = re.compile(
    r"\s*(?:R(?!IP)[A-Z0-9]{2}: |CR\d: |DR\d: |FS: |CS: |Code: |PGD |Modules linked in"
    r"|Hardware name|RIP: 0033|ORIG_RAX|#PF: error_code|Kernel Offset)"
)
_UNSURE = re.compile(r"\s*\? ")
NO_DEBUG_INFORMATION = (
    "no debug information, so no files and lines: `--kernel debug` is built with it, and "
    "`--config symbols` builds any other kernel so"
)


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
    def decisive(self) -> tuple[Report, ...]:
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
    def is_ready(self) -> bool:
        """Whether a report counts beyond doubt, and is told to its end."""
        if self.watch.is_in_report:
            return False
        return any(self.is_private or r.text in self._confirmed for r in self.decisive)

    def confirm(self, read_log: Callable[[], list[Record] | None]) -> None:
        """Hold what is in doubt against the kernel's log; `read_log` reads that.

        Where it cannot be read, the console's word counts.
        """
        doubtful = [r for r in self.decisive if r.text not in self._confirmed]
        if self.is_private or self.watch.is_in_report or not doubtful:
            return
        records = read_log()
        for report in doubtful:
            real = records is None or is_confirmed(report, records)
            (self._confirmed if real else self._refuted).add(report.text)

    def _believed(self) -> list[Report]:
        return [r for r in self.watch.reports if r.text not in self._refuted]


@dataclass(frozen=True)
class FiledReport:
    """A report that is on file. `text` is the whole of it, decoded if it could be."""

    report: Report
    path: Path
    text: str
    is_decoded: bool

    def to_json(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "class": self.report.fault.value,
            "title": self.report.title,
            "function": self.report.function,
            "fingerprint": self.report.fingerprint,
            "file": self.path.name,
        }

    @property
    def shown(self) -> str:
        """What a person sees of it at once: without registers, and not without end."""
        lines = [line for line in self.text.splitlines() if not self._is_ballast(line)]
        left_out = len(lines) - _SHOWN_LINES
        more = [f"... {left_out} lines more"] if left_out > 0 else []
        return "\n".join([*lines[:_SHOWN_LINES], *more])

    def _is_ballast(self, line: str) -> bool:
        said = read_line(line).text
        if _UNSURE.match(said):
            return any(frame.is_sure and not frame.is_pointer for frame in self.report.frames)
        return _BALLAST.match(said) is not None


def file_reports(
    reports: Iterable[Report], console_log: Path, symbols: Path | None, *, known: bool = False
) -> tuple[FiledReport, ...]:
    """Write each report into a file beside the console's log; return what was written.

    `symbols` is a vmlinux with debug information; one that cannot be read only
    means that nothing is decoded. `known`: they are noise, and told apart by name.
    """
    filed = []
    for number, report in enumerate(reports, 1):
        text, is_decoded = _decoded(report, symbols)
        path = _path(console_log, number, known=known)
        finding = FiledReport(report, path, text, is_decoded)
        _write(finding)
        filed.append(finding)
    return tuple(filed)


def _decoded(report: Report, symbols: Path | None) -> tuple[str, bool]:
    if symbols is None:
        return report.text, False
    try:
        return decoded(report.text, symbols), True
    except (LabError, OSError):
        return report.text, False


def _path(console_log: Path, number: int, *, known: bool) -> Path:
    kind = "known" if known else "report"
    stem = console_log.stem.replace("console", kind, 1)
    return console_log.with_name(f"{stem}-{number}.txt")


def _write(finding: FiledReport) -> None:
    report = finding.report
    head = (
        f"title:       {report.title}",
        f"class:       {report.fault.value}",
        f"fingerprint: {report.fingerprint}",
    )
    try:
        finding.path.write_text("\n".join((*head, "", finding.text, "")), encoding="utf-8")
    except OSError as error:
        raise LabError(f"{finding.path} cannot be written: {error.strerror}") from error
