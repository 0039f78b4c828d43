"""A report of the kernel's, whole: its class, title, guilty function, fingerprint, text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from linklab.console.faults import Fault
from linklab.console.formats import Pattern, without_addresses
from linklab.console.frames import Frame, guilty, plain_name, stack_of
from linklab.console.lines import Line
from linklab.errors import Verdict

_FINGERPRINT_FRAMES = 6  # behind the helpers; farther out is how it was reached
_VARYING = re.compile(r"\d+")
_LONGEST_TITLE = 120


@dataclass(frozen=True)
class Report:
    """What the kernel said of one fault.

    `seconds` is the kernel's time of its first line, None where it has none.
    `text` is every line of it, without `<N>`; `headline` the words that say what
    it is, said at `headline_seconds`. `complete` says that its end was
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
        """Return the same, told where: by a stack that was found out afterwards."""
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
        printed.
        """
        what = self.stack_key or (_VARYING.sub("N", self.title),)
        return hashlib.sha256("\n".join((self.fault.value, *what)).encode()).hexdigest()[:16]


def make_report(pattern: Pattern, start: Line, lines: Sequence[Line], *, complete: bool) -> Report:
    """Return the report that `lines` make; `start` is the one that the pattern matched."""
    texts = [line.text for line in lines]
    # A second report, or the panic that follows, has a stack of its own.
    frames = stack_of(texts[lines.index(start) :], after_backtrace=pattern.after_backtrace)
    found = pattern.start.match(start.text)
    groups = {key: value for key, value in (found.groupdict() if found else {}).items() if value}
    if pattern.details:
        for text in texts:
            if more := pattern.details.search(text):
                groups |= more.groupdict()
                break
    function = None
    if "{function}" in pattern.title:
        function = _guilty(pattern, groups.get("function"), frames)
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


def _guilty(pattern: Pattern, named: str | None, frames: Sequence[Frame]) -> str | None:
    if named and plain_name(named) not in pattern.helpers:
        return plain_name(named)
    if pattern.stands_still:
        pointers = [frame for frame in frames if frame.is_pointer]
        if found := guilty(pointers, pattern.helpers):
            return found
    found = guilty(frames, pattern.helpers)
    return found or (plain_name(named) if named else None)


def _title(pattern: Pattern, groups: dict[str, str], function: str | None) -> str:
    template = pattern.title
    if function is None:
        template = template.replace(" in {function}", "")
    values = {key: without_addresses(value) for key, value in groups.items()}
    values["function"] = function or ""
    words = template.format_map(_Blank(values)).split()
    return " ".join(words)[:_LONGEST_TITLE].rstrip(" .:")


class _Blank(dict[str, str]):
    """Gives nothing for what a report does not say."""

    def __missing__(self, _key: str) -> str:
        return ""


def _stack_key(pattern: Pattern, frames: Sequence[Frame], function: str | None) -> tuple[str, ...]:
    if function is None:
        return ()
    # What the unwinder guesses is left over from other calls, each time others.
    names = [f.name for f in frames if f.is_sure and f.name not in pattern.helpers]
    after = names[names.index(function) :] if function in names else names
    unique = [name for i, name in enumerate(after) if name != (after[i - 1] if i else function)]
    return (function, *unique[:_FINGERPRINT_FRAMES])
