"""What makes a revision bad: a kernel's fault, or a figure that is too large."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import KernelFault, LinklabError, UsageError
from linklab.options import choose, number
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import MAX_COUNT
from linklab.scenarios.grouping.ways import Arm, why_not

_THRESHOLD = re.compile(r"(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>%|x|s|ms|us)")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class FaultKind(StrEnum):
    """What a kernel can do wrong, as `--fault` names it."""

    CRASH = "crash"
    HANG = "hang"
    FAIL = "fail"
    WARNING = "warning"


@dataclass(frozen=True)
class Symptom:
    """A fault of one run, as far as telling one from another goes.

    `fingerprint` is that of the kernel's report; empty where it made none.
    """

    kind: FaultKind
    text: str
    fingerprint: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class FaultRule:
    """Which faults make a revision bad; any other fault is a skip.

    `title` is a text that the report must hold, in whatever case, or its
    fingerprint. With `same` only the fault that the revision claimed bad has
    counts.
    """

    kinds: tuple[FaultKind, ...] = tuple(FaultKind)
    title: str = ""
    same: bool = False

    def wants(self, symptom: Symptom, first: str = "") -> bool:
        """Tell whether a fault is the one that is looked for.

        `first` is the fingerprint of the fault that the bad revision has,
        once that is known.
        """
        if symptom.kind not in self.kinds:
            return False
        if self.same and first and symptom.fingerprint != first:
            return False
        return self.title.casefold() in symptom.text.casefold() or self.title == symptom.fingerprint

    @property
    def text(self) -> str:
        """What is looked for, in words."""
        words = "any fault" if self.kinds == tuple(FaultKind) else " or ".join(self.kinds)
        if self.title:
            words += f' with "{self.title}"'
        return f"{words}, the same as --bad has" if self.same else words


@dataclass(frozen=True)
class Metric:
    """What is measured: one operation by one arm on so many interfaces."""

    operation: Operation
    arm: Arm
    interfaces: int

    @property
    def text(self) -> str:
        """As it is typed."""
        return f"{self.operation}/{self.arm}/{self.interfaces}"


@dataclass(frozen=True)
class Threshold:
    """From where on a figure is bad: a ratio to the good kernel's, or seconds."""

    text: str
    ratio: float | None = None
    seconds: float | None = None


def parse_metric(text: str) -> Metric:
    """Return what `--metric operation/arm/interfaces` names; raise `UsageError`."""
    words = text.split("/")
    if len(words) != 3:
        raise UsageError(
            f"--metric {text}: operation/arm/interfaces is expected, such as mtu/group/1024"
        )
    operation = choose("metric", words[0], Operation)
    arm = choose("metric", words[1], Arm)
    if reason := why_not(arm, operation):
        raise UsageError(f"--metric {text}: {arm} cannot do {operation}: {reason}")
    return Metric(operation, arm, number("metric", words[2], 1, MAX_COUNT))


def parse_threshold(text: str) -> Threshold:
    """Return what `--above` says: 10% or 1.1x of the good kernel's, or 0.2s, 200ms, 50us."""
    found = _THRESHOLD.fullmatch(text.strip())
    if found is None or not float(found["value"]):
        raise UsageError(
            f"--above {text}: expected a share (10%), a ratio (1.5x) or a time (0.2s, 200ms, 50us)"
        )
    value, unit = float(found["value"]), found["unit"]
    if unit in _SECONDS:
        return Threshold(text, seconds=value * _SECONDS[unit])
    ratio = 1 + value / 100 if unit == "%" else value
    if ratio <= 1:
        raise UsageError(f"--above {text}: a ratio above 1x is expected")
    return Threshold(text, ratio=ratio)


def symptoms(faults: Iterable[LinklabError]) -> list[Symptom]:
    """Return the faults of a kernel among what a run found, one for each of its reports."""
    found: list[Symptom] = []
    for fault in faults:
        if isinstance(fault, KernelFault):
            found += [_reported(fault, report) for report in fault.reports] or [_silent(fault)]
    return found


def _reported(fault: KernelFault, report: Report) -> Symptom:
    kind = FaultKind(report.verdict.value)
    if report.fault is Fault.WARNING:
        kind = FaultKind.WARNING
    # The fault's own evidence is of its first report, shortened for people.
    evidence = fault.evidence if report is fault.reports[0] else report.text
    return Symptom(kind, f"{fault.message}\n{report.title}", report.fingerprint, evidence)


def _silent(fault: KernelFault) -> Symptom:
    return Symptom(FaultKind(fault.verdict.value), fault.message, "", fault.evidence)
