"""Reports of the kernel on file: beside the console's log, decoded where that is possible."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.console.lines import read_line
from linklab.console.report import Report
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


@dataclass(frozen=True)
class Finding:
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


def file_findings(
    reports: Iterable[Report], console_log: Path, symbols: Path | None, *, known: bool = False
) -> tuple[Finding, ...]:
    """Write each report into a file beside the console's log; return what was written.

    `symbols` is a vmlinux with debug information; one that cannot be read only
    means that nothing is decoded. `known`: they are noise, and told apart by name.
    """
    findings = []
    for number, report in enumerate(reports, 1):
        text, is_decoded = _decoded(report, symbols)
        path = _path(console_log, number, known=known)
        finding = Finding(report, path, text, is_decoded)
        _write(finding)
        findings.append(finding)
    return tuple(findings)


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


def _write(finding: Finding) -> None:
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
