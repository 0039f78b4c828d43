"""The functions in a report's stack, and which of them is to blame.

That is the first one that is not skipped: neither the machinery that made the
report, nor a primitive that every caller shares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from linklab.console.skipped_frames import SkippedFrames

# What `%pS`, `%pB` and the unwinder print: symbol, offset, size, module.
FUNCTION = r"(?P<function>[A-Za-z_][\w.$]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
_MODULE = r"(?: \[(?P<module>[\w-]+)[^\]]*\])?"
_PLACE = r"(?: \(\w+\)| [\w./+-]+:\d+.*)?"  # arm64's remark; the source line, where it was decoded
_FRAME = re.compile(
    rf"(?:kmemleak: )?\s*(?:\[<[0-9a-fx]+>\] )?(?P<unsure>\? )?{FUNCTION}{_MODULE}{_PLACE}\s*$"
)
_RIP = re.compile(rf"\s*RIP: 0010:(?:\[<[0-9a-f]+>\] )?{FUNCTION}{_MODULE}")

# Where another stack begins: of the allocation, of an older lock.
_OTHER_STACK = re.compile(
    r"\s*(?:Allocated (?:by|in) |Freed (?:by|in) |Last potentially |Second to last |Uninit was |"
    r"Local variable |The buggy address |allocated by |freed by |no locks held|"
    r".* locks? held by |Showing all locks|-> #\d|\.\.\. acquired at|"
    r"irq event stamp|hardirqs last |softirqs last |Preemption disabled at)"
)
_THIS_STACK = re.compile(r"\s*(?:Call Trace:|stack backtrace:|Backtrace:|kmemleak:   backtrace)")

_SUFFIX = re.compile(r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv)(?:\.\w+)?)+$")


@dataclass(frozen=True)
class Frame:
    """A place in the kernel's code."""

    function: str
    offset: int
    size: int
    module: str | None = None
    is_pointer: bool = False  # the instruction pointer itself, not a return address
    is_sure: bool = True

    @property
    def name(self) -> str:
        """The function's name in the source."""
        return source_name(self.function)


def source_name(function: str) -> str:
    """Return a function's name without the suffixes of gcc and clang."""
    return _SUFFIX.sub("", function)


def frame_in(text: str) -> Frame | None:
    """Return the frame that a line of a report shows, if it shows one."""
    pointer = _RIP.match(text)
    found = pointer or _FRAME.match(text)
    if found is None:
        return None
    offset, size = (int(found[word], 16) for word in ("offset", "size"))
    is_sure = pointer is not None or not found["unsure"]
    return Frame(found["function"], offset, size, found["module"], pointer is not None, is_sure)


def reliable(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames that the unwinder is sure of; all where it is sure of none.

    A frame with `?` is something that looked like a return address on the
    stack. A kernel with CONFIG_UNWINDER_GUESS has no others.
    """
    sure = tuple(frame for frame in frames if frame.is_sure)
    return sure if any(not frame.is_pointer for frame in sure) else tuple(frames)


def stack_of(texts: Sequence[str], *, after_backtrace: bool = False) -> tuple[Frame, ...]:
    """Return the stack that a report is about, innermost first.

    `after_backtrace`: a lockdep report shows older stacks first, and its own
    after the words `stack backtrace:`.
    """
    if after_backtrace:
        at = next((i for i, text in enumerate(texts) if text.startswith("stack backtrace:")), None)
        texts = texts[at + 1 :] if at is not None else texts
    frames: list[Frame] = []
    ours, in_nmi = True, False
    for text in texts:
        if _THIS_STACK.match(text) and not frames:
            ours = True
        elif _OTHER_STACK.match(text):
            if any(not frame.is_pointer for frame in frames):
                break
            ours = False
        elif text.strip() in ("<NMI>", "</NMI>", "<#DF>", "</#DF>"):
            in_nmi = text.strip() == "<NMI>"
        elif _ends_stack(text, frames):
            break
        elif (ours or "RIP:" in text) and not in_nmi and (frame := frame_in(text)):
            frames.append(frame)
    return reliable(_without_echo(frames))


def _ends_stack(text: str, frames: Sequence[Frame]) -> bool:
    """Whether the stack ends here: the task's part is over, or a second stack begins."""
    has_trace = any(not frame.is_pointer for frame in frames)
    return has_trace and (
        text.strip() in ("</TASK>", "Call Trace:") or text.startswith(("---[ end", "====="))
    )


def _without_echo(frames: Iterable[Frame]) -> list[Frame]:
    """Leave out a frame that only repeats the instruction pointer before it."""
    kept: list[Frame] = []
    for frame in frames:
        last = [(each.function, each.offset) for each in kept[-1:]]
        if (frame.function, frame.offset) not in last:
            kept.append(frame)
    return kept


def blamed_function(frames: Iterable[Frame], skipped: SkippedFrames) -> str | None:
    """Return the first function that is not skipped, by its name in the source."""
    return next((f.name for f in frames if f.name not in skipped), None)
