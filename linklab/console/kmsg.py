"""The kernel's own log: did the kernel write a line of the console, or a program?

`/dev/kmsg` gives each record with its facility, which is 0 for the kernel's
words alone (`devkmsg_write` in kernel/printk/printk.c; the format is in
Documentation/ABI/testing/dev-kmsg).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from linklab.console.lines import without_control
from linklab.console.report import Report

_RECORD = re.compile(r"(?P<priority>\d+),\d+,(?P<microseconds>\d+),[^;]*;(?P<text>.*)")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_CLOSE = 1e-3  # s: the console shows microseconds, the log holds them, and a line may be split


@dataclass(frozen=True)
class Record:
    """A record of the kernel's log."""

    priority: int
    seconds: float
    text: str

    @property
    def is_kernels(self) -> bool:
        """Whether the kernel said it."""
        return self.priority < 8


def records_in(content: str) -> Iterator[Record]:
    """Yield the records in what was read from `/dev/kmsg`, oldest first."""
    for line in content.splitlines():
        if found := _RECORD.fullmatch(line):
            text = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), found["text"])
            seconds = int(found["microseconds"]) / 1e6
            yield Record(int(found["priority"]), seconds, without_control(text))


def is_confirmed(report: Report, records: Sequence[Record]) -> bool:
    """Whether the kernel's log holds the line that a report begins with.

    True also where the log cannot tell, because it does not reach back so far.
    """
    if report.seconds is None or not records or records[0].seconds > report.seconds:
        return True
    return any(
        record.is_kernels
        and abs(record.seconds - report.headline_seconds) < _CLOSE
        and report.headline in record.text
        for record in records
    )
