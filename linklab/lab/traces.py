"""Links that carry as much as a trace says, in mahimahi's format.

Each line is a millisecond at which one packet of 1500 bytes can go; equal ones are
several packets. After the last line the trace begins anew there (Netravali et al.,
Mahimahi, USENIX ATC 2015; mahimahi's mm-link(1)).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from random import Random

from linklab.errors import UsageError

DRIVE = "drive"
_OPPORTUNITY = 1500 * 8  # bits
_MOST_LINES = 1_000_000
# A car on a road with LTE, of our own making: no measurement. What it resembles are the
# traces of Winstein et al., Sprout, NSDI 2013: a rate that walks between 0 and tens of
# Mbit/s within seconds, and now and then no link at all.
_SECONDS, _STEP = 60, 0.1  # s
_USUAL, _LEAST, _MOST = 9e6, 2e5, 40e6  # bit/s
_PULL, _WALK = 0.05, 0.9  # each step towards what is usual, and away from it, of the rate's log
_HANDOVER, _GONE = 0.01, (2, 7)  # of steps; and steps without a link then


def trace_word(text: str) -> str:
    """Return what `--param trace=` takes: nothing, drive, a file. Raises `UsageError`."""
    if text in ("", DRIVE):
        return text
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:  # nobody is called so
        raise UsageError(f"trace {text}: {error}") from error
    _check(path)
    return str(path)


def trace_text(word: str) -> str:
    """Return the lines of a trace that `trace_word` has named. Raises `UsageError`."""
    if word == DRIVE:
        return "".join(f"{at}\n" for at in _drive())
    return _check(Path(word))


def mean_rate(text: str) -> float:
    """Return the Mbit/s that a trace carries, on the average."""
    lines = text.split()
    return len(lines) * _OPPORTUNITY / int(lines[-1]) / 1e3


def _check(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise UsageError(f"trace {path}: cannot be read: {error}") from error
    before, lines = 0, text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.isdecimal() or len(line) > 8:
            raise UsageError(f"trace {path}, line {number}: {line!r}, a millisecond is expected")
        if int(line) < before:
            raise UsageError(f"trace {path}, line {number}: {line} comes after {before}")
        before = int(line)
    if not before:
        raise UsageError(f"trace {path}: no line has a millisecond after 0, so it never ends")
    if len(lines) > _MOST_LINES:
        raise UsageError(f"trace {path}: {len(lines)} lines; at most {_MOST_LINES} are read")
    return "".join(f"{line}\n" for line in lines)


def _drive() -> Iterator[int]:
    """Yield the milliseconds of the drive: the same each time."""
    random, rate, gone, owed = Random(1), log(_USUAL), 0, 0.0
    steps = round(_SECONDS / _STEP)
    for step in range(steps):
        rate += _PULL * (log(_USUAL) - rate) + _WALK * (random.random() - 0.5)
        rate = min(max(rate, log(_LEAST)), log(_MOST))
        if not gone and random.random() < _HANDOVER:
            gone = _GONE[0] + int(random.random() * (_GONE[1] - _GONE[0]))
        gone -= bool(gone)
        for ms in range(round(_STEP * 1000)):
            owed += 0.0 if gone else exp(rate) / 1000 / _OPPORTUNITY
            while owed >= 1:
                owed -= 1
                yield round(step * _STEP * 1000) + ms + 1
    yield _SECONDS * 1000
