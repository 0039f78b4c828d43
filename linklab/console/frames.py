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
BARE_FUNCTION = r"(?P<bare>[A-Za-z_][\w.$]*)"
_MODULE = r"(?: \[(?P<module>[\w-]+)[^\]]*\])?"
_PLACE = r"(?: \(\w+\)| [\w./+-]+:\d+.*)?"  # arm64's remark; the source line, where it was decoded
_ADDRESSES = r"(?:\[<[0-9a-fx]+>\]\s+){0,2}"  # before 4.10
_INDENT = rf"(?:kmemleak: )?\s*{_ADDRESSES}(?P<unsure>\? )?"
_FRAME = re.compile(rf"{_INDENT}{FUNCTION}{_MODULE}{_PLACE}\s*$")
# `IP:` is that of a page fault before 4.15, `PC is at` that of 32-bit ARM.
_POINTER = rf"\s*(?:E?IP: |RIP: (?:[0-9a-f]{{4}}:)?|pc : |PC is at ){_ADDRESSES}"
_RIP = re.compile(rf"{_POINTER}{FUNCTION}{_MODULE}")
# What scripts/decode_stacktrace.sh puts in the place of offset and size.
_SOURCE = r"[\w./+-]+:\d+(?: \(discriminator \d+\))?"
_DECODED = re.compile(
    rf"(?P<pointer>{_POINTER})?(?:{_INDENT})?{BARE_FUNCTION} \({_SOURCE}(?: {_SOURCE})*\)"
    r"(?: \[?(?P<module>[\w-]+)\]?)?\s*$"
)

# Where another stack begins: of the allocation, of an older lock.
_OTHER_STACK = re.compile(
    r"\s*(?:(?:INFO: )?(?:Allocated|Freed) (?:by|in) |Last potentially |Second to last |"
    r"Uninit was |Local variable |The buggy address |allocated by |freed by |no locks held|"
    r"\d+ locks? held by |Showing all locks|-> #\d|\.\.\. (?:acquired at|which became)|"
    r"to a \S+-unsafe lock|page_owner |page last |"
    r"irq event stamp|hardirqs last |softirqs last |Preemption disabled at)"
)
_THIS_STACK = re.compile(r"\s*(?:Call [Tt]race:|stack backtrace:|Backtrace:|kmemleak:   backtrace)")
# RCU's own thread did not get to run; who kept it from that comes below.
_VICTIM = re.compile(r"(?:rcu: )?RCU grace-period kthread stack dump:")
_ANOTHER_TASK = re.compile(r"\s*(?:CPU: \d|NMI backtrace for cpu|RIP: |pc : |Sending NMI)")

_SUFFIX = re.compile(r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv)(?:\.\w+)?)+$")
_SYSTEM_CALL = re.compile(r"__(?:x64|ia32|arm64|do|se)_(?=(?:compat_)?sys_)")


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
    """Return a function's name without what compilers add, and SYSCALL_DEFINE's macros."""
    return _SYSTEM_CALL.sub("", _SUFFIX.sub("", function))


def frame_in(text: str) -> Frame | None:
    """Return the frame that a line of a report shows, if it shows one."""
    pointer = _RIP.match(text)
    found = pointer or _FRAME.match(text)
    if found is not None:
        offset, size = (int(found[word], 16) for word in ("offset", "size"))
        is_sure = pointer is not None or not found["unsure"]
        return Frame(found["function"], offset, size, found["module"], pointer is not None, is_sure)
    if decoded := _DECODED.match(text):
        is_pointer, is_sure = decoded["pointer"] is not None, not decoded["unsure"]
        return Frame(decoded["bare"], 0, 0, decoded["module"], is_pointer, is_sure)
    return None


def reliable(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames that the unwinder is sure of; all where it is sure of none.

    A frame with `?` is something that looked like a return address on the
    stack. A kernel with CONFIG_UNWINDER_GUESS has no others.
    """
    sure = tuple(frame for frame in frames if frame.is_sure)
    return sure if any(not frame.is_pointer for frame in sure) else tuple(frames)


def stack_of(texts: Sequence[str], behind: re.Pattern[str] | None = None) -> tuple[Frame, ...]:
    """Return the stack that a report is about, innermost first.

    `behind` is found in the line that it follows, where that line is there: a
    lockdep report shows older stacks first.
    """
    at = next((i for i, text in enumerate(texts) if behind and behind.search(text)), -1)
    frames: list[Frame] = []
    ours, in_nmi, is_victims = True, False, False
    for text in texts[at + 1 :]:
        is_victims = not _ANOTHER_TASK.match(text) if is_victims else bool(_VICTIM.match(text))
        if is_victims:
            continue
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
        text.strip() in ("</TASK>", "Call Trace:", "Call trace:")
        or text.startswith(("---[ end", "====="))
    )


def _without_echo(frames: Iterable[Frame]) -> list[Frame]:
    """Leave out a frame that only repeats the instruction pointer before it."""
    kept: list[Frame] = []
    for frame in frames:
        pointers = [(each.function, each.offset) for each in kept[-1:] if each.is_pointer]
        if (frame.function, frame.offset) not in pointers:
            kept.append(frame)
    return kept


def blamed_function(frames: Iterable[Frame], skipped: SkippedFrames) -> str | None:
    """Return the first function that is not skipped, by its name in the source."""
    return next((f.name for f in frames if f.name not in skipped), None)
