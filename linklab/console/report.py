"""A complete report of the kernel: its class, title, function to blame, fingerprint, text.

Known noise are reports that somebody has looked at and wants to be ignored.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from linklab.console.formats import Fault, Pattern
from linklab.console.frames import Frame, blamed_function, source_name, stack_of
from linklab.console.lines import Line
from linklab.console.skipped_frames import COMMON, MACHINERY
from linklab.errors import UsageError, Verdict

_FINGERPRINT_FRAMES = 6  # behind those that are skipped; farther out are the callers
_ADDRESS = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{12,16})\b")
_VARYING = re.compile(r"\d+")
_LONGEST_TITLE = 120


@dataclass(frozen=True)
class Report:
    """A report of the kernel: what it printed of one fault.

    `seconds` is the kernel's time of its first line, None where it has none.
    `text` is every line of it, without `<N>`; `headline` the line that says what
    it is, printed at `headline_seconds`. `complete` says that its end was
    seen, and not only the end of the console or the limit of a report.
    """

    fault: Fault
    title: str
    function: str | None
    frames: tuple[Frame, ...]
    text: str
    seconds: float | None = None
    complete: bool = True
    headline: str = ""
    headline_seconds: float = 0.0
    stack_key: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What a run says of a kernel with this report."""
        return self.fault.verdict

    def placed(self, function: str, frames: tuple[Frame, ...], text: str) -> Report:
        """Return the same with its place, from a stack that was read afterwards."""
        return replace(
            self,
            title=f"{self.title} in {function}",
            function=function,
            frames=frames,
            text=f"{self.text}\n{text}",
            stack_key=(function,),
        )

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same fault in another guest, boot or build.

        A hash of the class and the functions of the stack, without addresses,
        offsets, process ids and CPU numbers; of the title where no stack was
        printed. Helpers count only where there is nothing else.
        """
        what = self.stack_key or (_VARYING.sub("N", self.title),)
        return hashlib.sha256("\n".join((self.fault.value, *what)).encode()).hexdigest()[:16]


def make_report(pattern: Pattern, start: Line, lines: Sequence[Line], *, complete: bool) -> Report:
    """Return the report that `lines` make; `start` is the one that the pattern matched."""
    texts = [line.text for line in lines]
    # A second report, or the panic that follows, has a stack of its own.
    frames = stack_of(texts[lines.index(start) :], pattern.behind)
    found = pattern.start.match(start.text)
    groups = {key: value for key, value in (found.groupdict() if found else {}).items() if value}
    named = [groups[key] for key in ("function", "bare") if key in groups]
    details = [more for text in texts if pattern.details and (more := pattern.details.search(text))]
    for more in details[:2]:  # of a deadlock: the lock that is asked for, and the one that is held
        groups = more.groupdict() | groups
        named += [more["function"]] if "function" in more.groupdict() else []
    function = _blamed(pattern, named, frames) if "{function}" in pattern.title else None
    return Report(
        fault=pattern.fault,
        title=_title(pattern, groups, function),
        function=function,
        frames=frames,
        text="\n".join(line.shown for line in lines),
        seconds=lines[0].seconds,
        complete=complete,
        headline=start.text,
        headline_seconds=start.seconds or 0.0,
        stack_key=_stack_key(pattern, frames, function),
    )


def _blamed(pattern: Pattern, named: Sequence[str], frames: Sequence[Frame]) -> str | None:
    names = [source_name(each) for each in named]
    for name in names:
        if name not in pattern.skipped:
            return name
    if pattern.stands_still:
        pointers = [frame for frame in frames if frame.is_pointer]
        return blamed_function([*pointers, *frames], pattern.skipped)
    found = blamed_function(frames, pattern.skipped) or blamed_function(frames, COMMON)
    # Nothing but helpers: the outermost one is the nearest to who called them.
    found = found or blamed_function(reversed(frames), MACHINERY)
    return found or next(iter(names), None)


def _title(pattern: Pattern, groups: dict[str, str], function: str | None) -> str:
    template = pattern.title
    if function is None:
        template = template.replace(" in {function}", "")
    values = defaultdict(str, {key: _ADDRESS.sub("ADDR", text) for key, text in groups.items()})
    values["function"] = function or ""
    words = template.format_map(values).split()
    return " ".join(words)[:_LONGEST_TITLE].rstrip(" .:")


def _stack_key(pattern: Pattern, frames: Sequence[Frame], function: str | None) -> tuple[str, ...]:
    if "{function}" not in pattern.title:
        return ()
    # What the unwinder guesses is left over from other calls, which differ each time.
    every = [frame.name for frame in frames if frame.is_sure]
    names = [name for name in every if name not in pattern.skipped] or every
    after = names[names.index(function) :] if function in names else names
    known = [function] if function else []
    key = [name for name, _ in groupby([*known, *after])]
    return tuple(key[: _FINGERPRINT_FRAMES + 1])


@dataclass(frozen=True)
class Noise:
    """Patterns of titles, each a regular expression that matches the whole title."""

    patterns: tuple[re.Pattern[str], ...] = ()

    def covers(self, report: Report) -> bool:
        """Whether a report is known noise."""
        return any(pattern.fullmatch(report.title) for pattern in self.patterns)

    def split(self, reports: Iterable[Report]) -> tuple[list[Report], list[Report]]:
        """Return the reports that count, and the known ones."""
        every = list(reports)
        known = [report for report in every if self.covers(report)]
        return [report for report in every if not self.covers(report)], known

    def __add__(self, other: Noise) -> Noise:
        return Noise((*self.patterns, *other.patterns))


def read_noise(text: str, name: str) -> Noise:
    """Return the patterns in a text, one a line; `#` at a line's start is a comment.

    Raises `UsageError` with the line's number for a line that is no regular expression.
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
