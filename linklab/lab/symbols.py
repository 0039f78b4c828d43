"""From function and offset to file and line, by a vmlinux with debug information.

Names and offsets are what a report has: they hold wherever the kernel was
loaded. The work is done by binutils' `nm` and `addr2line`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from linklab.console.frames import Frame, frame_in, reliable
from linklab.console.lines import read_line
from linklab.host.run import run

_NM_LIMIT = 120.0  # s; half a second for a kernel of the lab
_ADDR2LINE_LIMIT = 300.0  # s; it reads all debug information once
_SYMBOL = re.compile(r"([0-9a-f]+) (?:([0-9a-f]+) )?[tTwW] (\S+)")
_LANDMARK = ("panic", "/kernel/panic.c")  # a function and its file: where the source's root is
_UNKNOWN = "??"


@dataclass(frozen=True)
class Place:
    """A line of the source. `inlined` is a function that has no frame of its own there."""

    function: str
    file: str
    line: str
    inlined: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class _Symbol:
    address: int
    size: int


@cache
def _symbols(vmlinux: Path, _changed: int) -> Mapping[str, Sequence[_Symbol]]:
    """Return a kernel's functions by name; static ones may share theirs."""
    table: dict[str, list[_Symbol]] = {}
    listed = run(["nm", "-S", "--defined-only", vmlinux], deadline=_NM_LIMIT).text
    for line in listed.splitlines():
        if found := _SYMBOL.fullmatch(line):
            table.setdefault(found[3], []).append(
                _Symbol(int(found[1], 16), int(found[2] or "0", 16))
            )
    return table


def places_of(frames: Iterable[Frame], vmlinux: Path) -> dict[Frame, tuple[Place, ...]]:
    """Return where each frame is in the source, what was inlined there first.

    Leaves out what is not in the vmlinux, such as a module's functions. Raises
    `CommandFailed` or `CommandMissing` where binutils cannot read it.
    """
    table = _symbols(vmlinux, vmlinux.stat().st_mtime_ns)
    addresses = {
        frame: address
        for frame in frames
        if frame.module is None
        and frame.size  # otherwise it has been decoded before
        and (address := _address(frame, table)) is not None
    }
    landmark = next(iter(table.get(_LANDMARK[0], [])), None)
    wanted = [*addresses.values(), *([landmark.address] if landmark else [])]
    found = _lines(vmlinux, tuple(dict.fromkeys(wanted)))
    root = _root(found.get(landmark.address, ()) if landmark else ())
    return {
        frame: tuple(_relative(place, root) for place in found[address])
        for frame, address in addresses.items()
        if found.get(address)
    }


def decoded(text: str, vmlinux: Path) -> str:
    """Return a report with the source's file and line behind each of its functions.

    What was inlined stands in lines of its own, as the unwinder would show it.
    """
    lines = text.splitlines()
    frames = [frame_in(read_line(line).text) for line in lines]
    places = places_of([frame for frame in frames if frame], vmlinux)
    certain = set(reliable([frame for frame in frames if frame]))
    shown: list[str] = []
    for line, frame in zip(lines, frames, strict=True):
        found = places.get(frame) if frame else None
        if not found:
            shown.append(line)
            continue
        *inner, own = found
        indent = line[: len(line) - len(read_line(line).text.lstrip())]
        if frame in certain:
            shown += [f"{indent}{place.function} {place} [inline]" for place in inner]
        shown.append(f"{line} {own}")
    return "\n".join(shown)


def _address(frame: Frame, table: Mapping[str, Sequence[_Symbol]]) -> int | None:
    """Return the address of a frame's code, of a return address that of the call before it.

    kallsyms takes the distance to the next symbol for a function's size, so
    the nearest size that is not above it is the right one of several.
    """
    named = [symbol for symbol in table.get(frame.function, ()) if frame.offset <= frame.size]
    fitting = [symbol for symbol in named if symbol.size <= frame.size] or named
    if not fitting:
        return None
    best = max(fitting, key=lambda symbol: symbol.size)
    return best.address + frame.offset - (0 if frame.is_pointer else 1)


def _lines(vmlinux: Path, addresses: tuple[int, ...]) -> dict[int, tuple[Place, ...]]:
    asked = "".join(f"{address:#x}\n" for address in addresses)
    options = ("-a", "-i", "-f", "-e")
    answer = run(
        ["addr2line", *options, vmlinux], stdin=asked.encode(), deadline=_ADDR2LINE_LIMIT
    ).text
    blocks = re.split(r"^0x([0-9a-f]+)\n", answer + "\n", flags=re.MULTILINE)[1:]
    found: dict[int, tuple[Place, ...]] = {}
    for address, block in zip(blocks[::2], blocks[1::2], strict=True):
        said = block.splitlines()
        pairs = [p for p in zip(said[::2], said[1::2], strict=False) if _UNKNOWN not in p[1]]
        found[int(address, 16)] = tuple(
            _place(function, where, inlined=i + 1 < len(pairs))
            for i, (function, where) in enumerate(pairs)
        )
    return found


def _place(function: str, where: str, *, inlined: bool) -> Place:
    file, _, line = where.partition(" (")[0].rpartition(":")
    return Place(function, file, line, inlined)


def _root(landmark: Sequence[Place]) -> str:
    """Return the folder that the source was built in, as far as the debug information says."""
    file = landmark[-1].file if landmark else ""
    return file.removesuffix(_LANDMARK[1]) + "/" if file.endswith(_LANDMARK[1]) else ""


def _relative(place: Place, root: str) -> Place:
    file = place.file.removeprefix(root) if root else place.file
    file = file.rpartition("/./")[2]  # what was generated lies in the folder of the objects
    return Place(place.function, file, place.line, place.inlined)
