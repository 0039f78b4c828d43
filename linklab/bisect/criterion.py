"""What makes a revision bad: a kernel's fault, or a figure that is too large."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import KernelFault, LinklabError, UsageError
from linklab.results.shape import Better, Metric

_THRESHOLD = re.compile(r"(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>\S*)")
AUTO = "auto"
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
class Threshold:
    """From where on a figure is bad: a ratio to the good kernel's, or a value.

    The ratio is how many times worse: of a metric of which more is better, the
    good kernel's to the other's. With neither it is the middle between the good and the bad
    end, once they are measured.
    """

    text: str
    ratio: float | None = None
    value: float | None = None

    @property
    def is_middle(self) -> bool:
        """Whether it is the middle between two ends."""
        return self.ratio is None and self.value is None

    @property
    def is_relative(self) -> bool:
        """Whether it refers to what the good kernel gives."""
        return self.value is None


def parse_threshold(text: str, metric: Metric) -> Threshold:
    """Return what `--above` says: auto, 10% or 1.1x worse than the good kernel, or a value.

    A value has the metric's unit, of a time also ms and us. Raises `UsageError`.
    """
    is_compared = not metric.zero and metric.better is not Better.NEITHER
    if text == AUTO and is_compared:
        return Threshold("the middle of good and bad")
    found = _THRESHOLD.fullmatch(text.strip())
    units = list(_SECONDS) if metric.is_time else [metric.unit]
    value, unit = (float(found["value"]), found["unit"]) if found else (0.0, "")
    ratio = 1 + value / 100 if unit == "%" else value
    if not found or unit not in ("%", "x", *units) or not (value or metric.zero):
        example = "a time (0.2s, 200ms, 50us)" if metric.is_time else f"a value (20{metric.unit})"
        raise UsageError(f"--above {text}: expected a share (10%), a ratio (1.5x) or {example}")
    if unit in units:
        return Threshold(text, value=value * (_SECONDS[unit] if metric.is_time else 1))
    if ratio <= 1:
        raise UsageError(f"--above {text}: a ratio above 1x is expected")
    if not is_compared:
        example = "a time" if metric.is_time else f"a value in {metric.unit or 'numbers'}"
        raise UsageError(f"--above {text}: {metric.name} is compared by no ratio: name {example}")
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
