"""Lines to reports: where one begins, what belongs to it, where it ends.

CPUs report at the same time. Where the kernel says who speaks
(CONFIG_PRINTK_CALLER) each speaker has a report of its own; in the report of a
kernel that stands still other CPUs say where they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from linklab.console.formats import Pattern, continues, is_consequence, pattern_for
from linklab.console.frames import frame_in
from linklab.console.lines import Line
from linklab.console.report import Report, make_report

MAX_REPORTS = 20
MAX_LINES = 600  # of one report: a KASAN report with its history has about 150
_MAX_BETWEEN = 60  # lines from a report's end to the panic that it leads to
_MAX_BEFORE = 12  # lines from "cut here" to the one that says what it is

# s of the kernel's time after which a line is another matter
_PAUSE = 5.0
_PAUSE_AFTER_STACK = 1.0
_PAUSE_STANDING = 15.0  # an NMI backtrace of all CPUs waits 10 s for them (lib/nmi_backtrace.c)

_CUT_HERE = re.compile(r"-{4,}\[ cut here \]-{4,}")
_RULE = re.compile(r"={20,}$")
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
_STACK = re.compile(r"\s*(?:Call Trace:|stack backtrace:)")
_STACK_OVER = re.compile(r"\s*</TASK>")


@dataclass(eq=False)
class _Telling:
    """A report on its way: `pattern` and `start` come with the line that says what it is."""

    caller: str | None
    number: int  # in the order of their beginnings
    lines: list[Line] = field(default_factory=list)
    pattern: Pattern | None = None
    start: Line | None = None
    has_stack: bool = False
    stack_is_over: bool = False
    made: Report | None = None  # once it has ended

    def add(self, line: Line) -> None:
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
        self.has_stack |= bool(_STACK.match(line.text)) or frame_in(line.text) is not None
        self.stack_is_over |= bool(_STACK_OVER.match(line.text))

    def is_past_at(self, seconds: float | None) -> bool:
        last = self.lines[-1].seconds
        if last is None or seconds is None:
            return False
        if self.pattern is not None and self.pattern.stands_still:
            return seconds - last > _PAUSE_STANDING
        return seconds - last > (_PAUSE_AFTER_STACK if self.stack_is_over else _PAUSE)

    def is_of(self, line: Line) -> bool:
        if self.pattern is not None and self.pattern.stands_still:
            return True
        return None in (self.caller, line.caller) or self.caller == line.caller

    def is_told_before(self, pattern: Pattern) -> bool:
        """Whether this report is over where one of another kind begins."""
        if self.pattern is None:
            return False
        return self.has_stack or not continues(pattern, self.pattern)

    def names_more(self, pattern: Pattern, line: Line) -> bool:
        """Whether the line is what this very report comes to: whom the OOM killer chose."""
        details = pattern.details if pattern is self.pattern else None
        return details is not None and details.search(line.text) is not None

    def report(self, *, complete: bool) -> Report | None:
        if self.pattern is None or self.start is None:
            return None
        return make_report(self.pattern, self.start, self.lines, complete=complete)


class Collector:
    """Takes the console's lines, one by one, and keeps the reports in them.

    At most `MAX_REPORTS` with different fingerprints are kept, the first ones;
    `more` counts those that were left out.
    """

    def __init__(self) -> None:
        self._open: list[_Telling] = []
        self._closed: list[_Telling] = []
        self._last: _Telling | None = None  # the one that ended last: a panic may follow
        self._since: list[Line] = []  # ... and what was said since
        self._rule: Line | None = None  # what stands above a title
        self._begun = 0
        self.more = 0

    def take(self, line: Line) -> None:
        """Take the next line of the console."""
        if not line.is_kernels:
            return
        for told in [told for told in self._open if told.is_past_at(line.seconds)]:
            self._close(told, complete=True)
        mine = next((told for told in self._open if told.is_of(line)), None)
        pattern = pattern_for(line.text)
        if _CUT_HERE.search(line.text):
            self._begin_block(mine, line)
        elif pattern is not None:
            self._begin(mine, pattern, line)
        elif mine is not None:
            self._go_on(mine, line)
        elif len(self._since) < _MAX_BETWEEN:
            self._since.append(line)
        self._rule = line if _RULE.match(line.text) else None

    def finish(self) -> None:
        """Take all that is open as it stands: nothing more will come."""
        for told in list(self._open):
            self._close(told, complete=told.stack_is_over)

    @property
    def is_open(self) -> bool:
        """Whether a report is being told that has no end yet."""
        return any(told.pattern is not None for told in self._open)

    @property
    def reports(self) -> tuple[Report, ...]:
        """All reports, first the one that was first; an open one as far as it is told."""
        closed = [(told.number, told.made) for told in self._closed if told.made]
        known = {report.fingerprint for _, report in closed}
        going = [(told.number, told.report(complete=False)) for told in self._open]
        new = [(n, report) for n, report in going if report and report.fingerprint not in known]
        return tuple(report for _, report in sorted([*closed, *new], key=lambda pair: pair[0]))

    def _begin_block(self, mine: _Telling | None, line: Line) -> None:
        """A line "cut here": what it is stands below."""
        if mine is not None and not mine.has_stack:
            mine.add(line)
            return
        if mine is not None:
            self._close(mine, complete=True)
        self._start(line)

    def _begin(self, mine: _Telling | None, pattern: Pattern, line: Line) -> None:
        led = mine or self._led_to(line)
        if led is not None and (is_consequence(line.text) or led.names_more(pattern, line)):
            led.add(line)
            return
        if mine is not None and mine.is_told_before(pattern):
            self._close(mine, complete=True)
            mine = None
        if mine is None:
            mine = self._start(line)
        else:
            mine.add(line)
        if mine.pattern is None:
            mine.pattern, mine.start = pattern, line
        if pattern.whole and mine.start is line:
            self._close(mine, complete=True)

    def _go_on(self, mine: _Telling, line: Line) -> None:
        mine.add(line)
        if mine.pattern is None and len(mine.lines) > _MAX_BEFORE:
            self._open.remove(mine)
        elif _END.search(line.text) or (mine.has_stack and _RULE.match(line.text)):
            self._close(mine, complete=True)

    def _start(self, line: Line) -> _Telling:
        self._begun += 1
        told = _Telling(line.caller, self._begun)
        if self._rule is not None:
            told.add(self._rule)
        told.add(line)
        self._open.append(told)
        return told

    def _close(self, told: _Telling, *, complete: bool) -> None:
        self._open.remove(told)
        told.made = told.report(complete=complete)
        if told.made is None or told in self._closed:  # a panic was added to it
            return
        self._last, self._since = told, []
        known = {other.made.fingerprint for other in self._closed if other.made}
        if told.made.fingerprint in known or len(self._closed) >= MAX_REPORTS:
            self.more += 1
        else:
            self._closed.append(told)

    def _led_to(self, line: Line) -> _Telling | None:
        """Return the report that ended just now, open again, where it led to this panic."""
        last = self._last
        if last is None or not is_consequence(line.text):
            return None
        if not last.is_of(line) or last.is_past_at(line.seconds):
            return None
        for said in self._since:
            last.add(said)
        self._open.append(last)
        return last


def reports_in(text: str) -> tuple[Report, ...]:
    """Return the reports in a text: a console's log, or what kmemleak's file says.

    Lines without printk's prefix are taken for the kernel's where none has one.
    """
    from linklab.console.lines import read_line

    lines = [read_line(raw) for raw in text.splitlines()]
    if not any(line.seconds is not None for line in lines):
        lines = [Line(line.raw, line.text, 0.0) for line in lines]
    collector = Collector()
    for line in lines:
        collector.take(line)
    collector.finish()
    return collector.reports
