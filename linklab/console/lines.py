"""A console's bytes, as they come, to lines of the kernel's and of others; what is new in them.

The prefix is printk's (`info_print_prefix` in the kernel's
kernel/printk/printk.c): `<N>` with `console_msg_format=syslog`, the time with
`printk.time=1`, the task or CPU with CONFIG_PRINTK_CALLER.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_LINE = 4096  # bytes; the kernel's own records are at most 1 KiB

_PREFIX = re.compile(
    r"(?:<(?P<priority>\d{1,4})>)?"
    r"\[ *(?P<seconds>\d+\.\d{6})\]"
    r"(?:\[ *(?P<caller>[TC]\d+)\])?"
    r"(?: (?P<text>.*))?$",
    re.DOTALL,
)

# The kernel goes on behind what stands in the line: a prompt, its own word on lost lines.
_IN_FRONT = re.compile(
    r"(?:\*\* \d+ printk messages dropped \*\* ?"
    r"|.{0,80}?(?:login: |[Pp]assword: |[#$] |^> |\(initramfs\) ))(?=<\d{1,4}>\[|\[)"
)
# Colours and cursor, a window's title, character sets (ECMA-48, 5.4 and 5.6); then what is left.
_CONTROL = re.compile(
    r"(?:\x1b\[|\x9b)[0-9;:<=>?]*[!\"'$ ]?[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,256}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[()*+#%][0-9A-Za-z]|\x1b[=>78]"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
_PRIORITY = re.compile(r"<\d{1,4}>(?=\[)")
# From boot to boot times, addresses, sizes and frequencies differ.
_CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A line of the console.

    `text` is what follows the kernel's prefix, or the whole of a line without
    one, without control characters. `seconds` is the kernel's time, None for a
    line that is not printk's.
    `caller` is `T` and the task's id, or `C` and the CPU's number. `priority`
    is syslog's: eight times the facility, and the level.
    """

    raw: str
    text: str
    seconds: float | None = None
    caller: str | None = None
    priority: int | None = None

    @property
    def is_kernels(self) -> bool:
        """Whether the kernel said it, and not a program through /dev/kmsg.

        `devkmsg_write` gives a program facility 1 or higher, whatever it
        writes; facility 0 is the kernel's alone.
        """
        return self.seconds is not None and (self.priority is None or self.priority < 8)

    @property
    def shown(self) -> str:
        """The line for a person: without the priority and control characters."""
        said = without_control(self.raw)
        return _PRIORITY.sub("", said, count=1) if self.priority is not None else said


def without_control(said: str) -> str:
    """Return what was said without NUL, colours and other control characters, but with tabs."""
    return said if said.isprintable() else _CONTROL.sub("", said)


def read_line(raw: str) -> Line:
    """Return a line with its prefix taken apart."""
    said = without_control(raw)
    found = _PREFIX.match(said)
    if found is None and (front := _IN_FRONT.match(said)):
        found = _PREFIX.match(said, front.end())
    if found is None:
        return Line(raw, said)
    priority = found["priority"]
    return Line(
        raw,
        found["text"] or "",
        float(found["seconds"]),
        found["caller"],
        int(priority) if priority is not None else None,
    )


class LineSplitter:
    """Joins pieces to lines, wherever they are torn.

    A line longer than `MAX_LINE` is cut there, and its rest is dropped: its
    middle is not the start of a line.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[Line]:
        """Take the next bytes; yield the lines that are complete now."""
        *lines, partial = (self._partial + data).split(b"\n")
        self._partial = b""
        for line in lines:
            if self._dropping:
                self._dropping = False
            else:
                yield _decoded(line)
        if self._dropping:
            return
        if len(partial) > MAX_LINE:
            self._dropping = True
            yield _decoded(partial)
        else:
            self._partial = partial

    def finish(self) -> Iterator[Line]:
        """Yield what is left without a newline: nothing more will come."""
        if self._partial:
            yield _decoded(self._partial)
        self._partial = b""

    @property
    def partial(self) -> str:
        """The beginning of the line that is not complete."""
        return self._partial.rstrip(b"\r").decode(errors="replace")


def _decoded(line: bytes) -> Line:
    return read_line(line[:MAX_LINE].rstrip(b"\r").decode(errors="replace"))


def new_lines(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Return the kernel's lines that only the later logs have, each once, whatever its numbers."""
    known = {_CHANGING.sub("0", line) for line in _kernel_lines(before)}
    found: list[str] = []
    for line in _kernel_lines(after):
        kind = _CHANGING.sub("0", line)
        if kind not in known:
            known.add(kind)
            found.append(line)
    return found


def _kernel_lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        lines = (read_line(raw.rstrip()) for raw in text.splitlines())
        yield from (line.text for line in lines if line.is_kernels and line.text)
