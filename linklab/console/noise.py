"""Known noise: reports that somebody has looked at and wants to be passed over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from linklab.console.report import Report
from linklab.errors import UsageError


@dataclass(frozen=True)
class Noise:
    """Patterns of titles, each a regular expression that fits the whole title."""

    patterns: tuple[re.Pattern[str], ...] = ()

    def covers(self, report: Report) -> bool:
        """Whether a report is known noise."""
        return any(pattern.fullmatch(report.title) for pattern in self.patterns)

    def split(self, reports: Iterable[Report]) -> tuple[list[Report], list[Report]]:
        """Return the reports that count, and the known ones."""
        counting: list[Report] = []
        known: list[Report] = []
        for report in reports:
            (known if self.covers(report) else counting).append(report)
        return counting, known

    def __add__(self, other: Noise) -> Noise:
        return Noise((*self.patterns, *other.patterns))


def read_noise(text: str, name: str) -> Noise:
    """Return the patterns in a text, one a line; `#` at a line's start is a comment.

    Raises `UsageError` with the line's number for what is no regular expression.
    """
    patterns = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            patterns.append(re.compile(words))
        except re.error as error:
            raise UsageError(
                f"{name}, line {number}: {words!r} is no regular expression ({error}); "
                "a line is a pattern of titles, such as: WARNING in dev_.*"
            ) from None
    return Noise(tuple(patterns))


NO_NOISE = Noise()
