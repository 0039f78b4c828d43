"""The watch over a guest's console: its reports, where each begins and ends, and its last lines.

CPUs report at the same time. Where the kernel prints the caller
(CONFIG_PRINTK_CALLER) each one has a report of its own; in the report of a
kernel that stands still other CPUs print their stacks, told to by an NMI.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TypeVar

from linklab.console.formats import (
    LEAKS_FOUND,
    Fault,
    Pattern,
    continues,
    is_consequence,
    pattern_for,
)
from linklab.console.frames import frame_in
from linklab.console.lines import Line, LineSplitter, read_line
from linklab.console.report import Report, make_report

_T = TypeVar("_T")

TAIL_LINES = 40
MAX_REPORTS = 20
MAX_LINES = 600  # of one report: a KASAN report with its history has about 150
_MAX_BETWEEN = 60  # lines from a report's end to the panic that it leads to
_MAX_BEFORE = 12  # lines from "cut here" to the one that says what it is

# s of the kernel's time after which a line belongs to no report
_PAUSE = 5.0
_PAUSE_AFTER_STACK = 1.0
_PAUSE_STANDING = 15.0  # an NMI backtrace of all CPUs waits 10 s for them (lib/nmi_backtrace.c)

_CUT_HERE = re.compile(r"-{4,}\[ cut here \]-{4,}")
_RULE = re.compile(r"={20,}$")
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
_STACK = re.compile(r"\s*(?:Call Trace:|stack backtrace:)")
_OLD_POINTER = re.compile(r"E?IP: ")  # before 4.15 it stood before "Oops:"
_TOLD_TO_PRINT = re.compile(r"NMI backtrace for cpu \d")
_STACK_OVER = re.compile(r"\s*</TASK>")
_INLINED = "[inline]"
_LEAK = re.compile(r"BUG: memory leak$|unreferenced object 0x")
_BANNER = re.compile(r"Linux version \d+\.\d+\S* \(")
_BOOT_TIME = 1.0  # s: a kernel prints its banner at 0


@dataclass(eq=False)
class _OpenReport:
    """A report that goes on: `pattern` and `start` come with the line that says what it is."""

    caller: str | None
    number: int  # in the order in which they begin
    lines: list[Line] = field(default_factory=list)
    pattern: Pattern | None = None
    start: Line | None = None
    has_stack: bool = False
    stack_is_over: bool = False
    speakers: set[str | None] = field(default_factory=set)  # other CPUs that print their stacks
    made: Report | None = None  # once it has ended

    def add(self, line: Line) -> None:
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
        if _TOLD_TO_PRINT.match(line.text):
            self.speakers.add(line.caller)
        is_frame = frame_in(line.text) is not None and not _OLD_POINTER.match(line.text)
        self.has_stack |= bool(_STACK.match(line.text)) or is_frame
        self.stack_is_over |= bool(_STACK_OVER.match(line.text))

    def is_past_at(self, seconds: float | None) -> bool:
        last = self.lines[-1].seconds
        if last is None or seconds is None:
            return False
        if self.pattern is not None and self.pattern.stands_still:
            return seconds - last > _PAUSE_STANDING
        return seconds - last > (_PAUSE_AFTER_STACK if self.stack_is_over else _PAUSE)

    def is_of(self, line: Line) -> bool:
        if None in (self.caller, line.caller) or self.caller == line.caller:
            return True
        if self.pattern is None or not self.pattern.stands_still:
            return False
        return line.caller in self.speakers or _TOLD_TO_PRINT.match(line.text) is not None

    @property
    def is_one(self) -> bool:
        """Whether it is a report, as far as is known by now."""
        return self.pattern is not None and (self.has_stack or not self.pattern.advises)

    def says_again(self, pattern: Pattern) -> bool:
        """Whether the last line named an inlined function, and the next one the one around it."""
        is_inlined = self.start is not None and self.start.text.endswith(_INLINED)
        return is_inlined and pattern is self.pattern and self.start is self.lines[-1]

    def ends_before(self, pattern: Pattern) -> bool:
        """Whether this report ends where a line begins one of another kind."""
        if self.pattern is None:
            return False
        return self.has_stack or not continues(pattern, self.pattern)

    def names_more(self, pattern: Pattern, line: Line) -> bool:
        """Whether the line is the result of this report, such as whom the OOM killer chose."""
        details = pattern.details if pattern is self.pattern else None
        return details is not None and details.search(line.text) is not None

    def finished(self, *, complete: bool) -> Report | None:
        if self.pattern is None or self.start is None or not self.is_one:
            return None
        return make_report(self.pattern, self.start, self.lines, complete=complete)


class Collector:
    """Takes the console's lines, one by one, and keeps the reports in them.

    At most `MAX_REPORTS` with different fingerprints are kept, the first ones;
    `more` counts those that were left out.
    """

    def __init__(self) -> None:
        self._open: list[_OpenReport] = []
        self._closed: list[_OpenReport] = []
        # Each speaker's report that ended last, for a panic may follow, and his lines since then.
        self._last: dict[str | None, tuple[_OpenReport, list[Line]]] = {}
        self._rules: dict[str | None, Line] = {}  # each speaker's line above a title
        self._begun = 0
        self.more = 0  # repeated reports, and those past the limit

    def take(self, line: Line) -> None:
        """Take the next line of the console."""
        if not line.is_kernels:
            return
        for past in [each for each in self._open if each.is_past_at(line.seconds)]:
            self._close(past, complete=True)
        pattern = pattern_for(line.text)
        mine = self._open_for(line)
        is_cut = _CUT_HERE.search(line.text) is not None
        if mine is not None and mine.pattern and not mine.is_one and (is_cut or pattern):
            self._close(mine, complete=True)  # it was advice
            mine = None
        if is_cut:
            self._begin_block(mine, line)
        elif pattern is not None:
            self._begin(mine, pattern, line)
        elif mine is not None:
            self._go_on(mine, line)
        elif line.caller in self._last and len(self._last[line.caller][1]) < _MAX_BETWEEN:
            self._last[line.caller][1].append(line)
        self._rules.pop(line.caller, None)
        if _RULE.match(line.text):
            _remember(self._rules, line.caller, line)

    def finish(self) -> None:
        """End the reports that are open: nothing more will come."""
        for each in list(self._open):
            self._close(each, complete=each.stack_is_over)

    @property
    def is_in_report(self) -> bool:
        """Whether the end of a report is still to come."""
        return any(each.is_one for each in self._open)

    @property
    def reports(self) -> tuple[Report, ...]:
        """All reports in the order in which they began; an open one as far as it goes."""
        closed = [(each.number, each.made) for each in self._closed if each.made]
        known = {report.fingerprint for _, report in closed}
        going = [(each.number, each.finished(complete=False)) for each in self._open]
        new = [(n, report) for n, report in going if report and report.fingerprint not in known]
        return tuple(report for _, report in sorted([*closed, *new], key=lambda pair: pair[0]))

    def _open_for(self, line: Line) -> _OpenReport | None:
        """Return the report that a line belongs to: its caller's own one, if there is one."""
        fitting = [each for each in self._open if each.is_of(line)]
        own = (each for each in fitting if each.caller == line.caller)
        return next(own, None) or next(iter(fitting), None)

    def _begin_block(self, mine: _OpenReport | None, line: Line) -> None:
        """Take a line "cut here": the one that says what it is comes below."""
        if mine is not None and not mine.has_stack:
            mine.add(line)
            return
        if mine is not None:
            self._close(mine, complete=True)
        self._start(line)

    def _begin(self, mine: _OpenReport | None, pattern: Pattern, line: Line) -> None:
        led = mine or self._led_to(line)
        if led is not None and (is_consequence(line.text) or led.names_more(pattern, line)):
            led.add(line)
            return
        if mine is not None and mine.says_again(pattern):
            mine.add(line)
            mine.start = line
            return
        if mine is not None and mine.is_one and pattern.advises and not mine.stack_is_over:
            mine.add(line)  # the unwinder's, or somebody else's
            return
        if mine is not None and pattern.aside and not mine.stack_is_over:
            self._close(self._start(line, pattern), complete=True)
            return
        if mine is not None and mine.ends_before(pattern):
            self._close(mine, complete=True)
            mine = None
        if mine is None:
            mine = self._start(line, pattern)
        else:
            mine.add(line)
        if mine.pattern is None:
            mine.pattern, mine.start = pattern, line
        if pattern.whole and mine.start is line:
            self._close(mine, complete=True)

    def _go_on(self, mine: _OpenReport, line: Line) -> None:
        mine.add(line)
        if mine.pattern is None and len(mine.lines) > _MAX_BEFORE:
            self._open.remove(mine)
        elif _END.search(line.text) or (mine.has_stack and _RULE.match(line.text)):
            self._close(mine, complete=True)

    def _start(self, line: Line, pattern: Pattern | None = None) -> _OpenReport:
        self._begun += 1
        start = line if pattern is not None else None
        new = _OpenReport(line.caller, self._begun, pattern=pattern, start=start)
        if line.caller in self._rules:
            new.add(self._rules[line.caller])
        new.add(line)
        self._open.append(new)
        return new

    def _close(self, mine: _OpenReport, *, complete: bool) -> None:
        self._open.remove(mine)
        mine.made = mine.finished(complete=complete)
        if mine.made is None or mine in self._closed:  # a panic was added to it
            return
        _remember(self._last, mine.caller, (mine, []))
        known = {other.made.fingerprint for other in self._closed if other.made}
        if mine.made.fingerprint in known or len(self._closed) >= MAX_REPORTS:
            self.more += 1
        else:
            self._closed.append(mine)

    def _led_to(self, line: Line) -> _OpenReport | None:
        """Return the report that ended last, open again, where it led to this panic."""
        last, since = self._last.get(line.caller, (None, []))
        if last is None or not is_consequence(line.text) or last.is_past_at(line.seconds):
            return None
        for each in since:
            last.add(each)
        self._open.append(last)
        return last


def _remember(known: dict[str | None, _T], caller: str | None, what: _T) -> None:
    """Put down what a speaker said last, and forget who has been silent for longest."""
    known.pop(caller, None)
    known[caller] = what
    if len(known) > MAX_REPORTS:
        known.pop(next(iter(known)))


def reports_in(text: str) -> tuple[Report, ...]:
    """Return the reports in a text: a console's log, or kmemleak's file.

    Lines without printk's prefix count as the kernel's where none has one, and
    where they are of kmemleak's file, which a program showed in between. What
    the kernel says in sum of the leaks is no report where they are there.
    """
    lines = [read_line(raw.rstrip("\r")) for raw in text.split("\n")]
    is_bare = all(line.seconds is None for line in lines)
    collector = Collector()
    seconds, in_leak = 0.0, False
    for line in lines:
        in_leak = bool(_LEAK.match(line.raw)) or (in_leak and line.raw.startswith(" "))
        seconds = seconds if line.seconds is None else line.seconds
        collector.take(replace(line, seconds=seconds) if is_bare or in_leak else line)
    collector.finish()
    has_leak = any(each.fault is Fault.LEAK and each.function for each in collector.reports)
    return tuple(r for r in collector.reports if not (has_leak and r.title == LEAKS_FOUND))


class ConsoleWatch(Collector):
    """Reads the console's bytes as they come; keeps its reports and its last lines.

    A reboot that nobody asked for is a report as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self._splitter = LineSplitter()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._banners = 0
        self._latest = 0.0
        self._reboot: Report | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the console."""
        for line in self._splitter.feed(data):
            self.take(line)

    def finish(self) -> None:
        """Take what is left without a newline: the machine is gone."""
        for line in self._splitter.finish():
            self.take(line)
        super().finish()

    def settle(self) -> None:
        """End the reports that are open: the console has been quiet for long enough."""
        super().finish()

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports so far; the first one is the one that counts."""
        found = super().reports
        return found if self._reboot is None else (*found, self._reboot)

    @property
    def tail(self) -> str:
        """The last lines of the console."""
        partial = self._splitter.partial
        return "\n".join([*self._tail, partial] if partial else self._tail)

    def take(self, line: Line) -> None:
        """Take the next line of the console."""
        self._tail.append(line.shown)
        if line.is_kernels and line.seconds is not None:
            self._notice_reboot(line, line.seconds)
            self._latest = max(self._latest, line.seconds)
        super().take(line)

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
