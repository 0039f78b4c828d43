"""What a kernel says on its console that another one did not say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from linklab.console.lines import read_line

# From boot to boot times, addresses, sizes and frequencies differ.
_CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+", re.IGNORECASE)


def new_lines(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Return what the kernel says in the later texts alone, each line once, numbers apart."""
    known = {_kind(line) for line in _said(before)}
    found: list[str] = []
    for line in _said(after):
        if _kind(line) not in known:
            known.add(_kind(line))
            found.append(line)
    return found


def _said(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for raw in text.splitlines():
            line = read_line(raw.rstrip())
            if line.is_kernels and line.text:
                yield line.text


def _kind(line: str) -> str:
    return _CHANGING.sub("0", line)
