"""Samples: `perf script`'s text to collapsed stacks, and each symbol's share of the work.

A collapsed stack is Brendan Gregg's format: the frames from the process's name
to the function that ran, with semicolons between them, `_[k]` behind those of
the kernel. User space is one frame, the program or the library that ran or
called the kernel: Debian's programs have neither symbols nor frame pointers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from linklab.errors import LabError

KERNEL_MARK = "_[k]"
_IDLE = "swapper"
_SAMPLER = "perf"
_UNKNOWN = "[unknown]"
_KERNEL_SPACE = 1 << 63
_Z = 1.959964  # of the normal distribution, for 95 %
LEAST = 1000  # samples: a symbol with a share of 1 % is known to about 0.6 points then
WIDTH = 0.02  # of the work, to either side
_HEAD = re.compile(r"^ *(?P<comm>\S.*?) +(?P<pid>\d+) *(?P<rest>.*)$")
_FRAME = re.compile(r"^\s*(?P<ip>[0-9a-f]+) (?P<symbol>.+) \((?P<dso>.+)\)$")

Stack = tuple[str, ...]
Stacks = Mapping[Stack, int]


@dataclass
class Samples:
    """The stacks of the work, and how many samples were left out.

    `idle` are those of the idle task, with the interrupts while it ran;
    `sampler` are perf's own.
    """

    stacks: Counter[Stack] = field(default_factory=Counter)
    idle: int = 0
    sampler: int = 0

    @property
    def work(self) -> int:
        """How many samples the stacks come from."""
        return self.stacks.total()

    @property
    def total(self) -> int:
        """How many samples were taken in all."""
        return self.work + self.idle + self.sampler

    def add(self, other: Samples) -> None:
        """Add further samples of the same work."""
        self.stacks += other.stacks
        self.idle += other.idle
        self.sampler += other.sampler


def is_kernel(frame: str) -> bool:
    """Tell whether a frame is the kernel's."""
    return frame.endswith(KERNEL_MARK)


def space_of(frame: str) -> str:
    """Return where a frame runs: "kernel" or "user"."""
    return "kernel" if is_kernel(frame) else "user"


def frame_name(frame: str) -> str:
    """Return a frame without its mark."""
    return frame.removesuffix(KERNEL_MARK)


def read_script(text: str) -> Samples:
    """Return the samples in what `perf script -F comm,pid,ip,sym,dso` printed.

    Raises `LabError` for a line that is no part of a sample.
    """
    samples = Samples()
    for comm, frames in _samples_of(text):
        if comm == _IDLE:
            samples.idle += 1
        elif comm == _SAMPLER:
            samples.sampler += 1
        else:
            samples.stacks[(comm, *reversed(_reliable(frames)))] += 1
    return samples


def _samples_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each sample: the process's name, and its frames from the innermost."""
    comm, frames = "", list[str]()
    for line in text.splitlines():
        if line.startswith("\t"):
            frames.append(_frame(line))
            continue
        if comm:
            yield comm, frames or [_UNKNOWN]
        comm, frames = "", []
        if line.strip():
            head = _HEAD.match(line)
            if head is None:
                raise LabError(f"`perf script` printed what is no sample: {line!r}")
            comm = _stable_name(head["comm"])
            frames = [_frame(head["rest"])] if head["rest"] else []
    if comm:
        yield comm, frames or [_UNKNOWN]


def _reliable(frames: list[str]) -> list[str]:
    """Return the kernel's frames and the one below them.

    The place where user space entered the kernel is known. The frames beyond it
    are guessed from a register that Debian's programs use for other things.
    """
    kernel = next((at for at, frame in enumerate(frames) if not is_kernel(frame)), len(frames))
    return frames[: kernel + 1]


def _stable_name(comm: str) -> str:
    """Return a process's name, the same for all kernel workers."""
    return "kworker" if comm.startswith("kworker/") else comm.replace(";", ":")


def _frame(text: str) -> str:
    found = _FRAME.match(text)
    if found is None:
        raise LabError(f"`perf script` printed what is no frame: {text!r}")
    if int(found["ip"], 16) & _KERNEL_SPACE:
        return found["symbol"].replace(";", ":") + KERNEL_MARK
    dso = found["dso"].strip("[]").rpartition("/")[2]
    return f"[{dso.replace(';', ':')}]"


def collapsed(stacks: Stacks) -> str:
    """Return stacks as text, a line each, in alphabetical order."""
    return "".join(f"{';'.join(stack)} {stacks[stack]}\n" for stack in sorted(stacks))


def read_collapsed(text: str) -> Counter[Stack]:
    """Return the stacks in a collapsed text. Raises `LabError` for a line that is none."""
    stacks: Counter[Stack] = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if not frames or not count.isdigit():
            raise LabError(f"no collapsed stack: {line!r} (`frame;frame 12` expected)")
        stacks[tuple(frames.split(";"))] += int(count)
    return stacks


@dataclass(frozen=True)
class Share:
    """A part of the work, with its 95 % interval. All but `samples` from 0 to 1."""

    samples: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class SymbolShare:
    """One symbol: `own` is when it ran itself, `total` when it or what it called ran."""

    symbol: str
    space: str  # "kernel" or "user"
    own: Share
    total: Share


def share_of(samples: int, among: int) -> Share:
    """Return `samples` as a part of `among`, with its 95 % interval.

    The interval is Wilson's (Journal of the American Statistical Association
    22, 1927): unlike the common one it holds for shares near 0 and 1.
    """
    if among <= 0:
        return Share(0, 0.0, 0.0, 1.0)
    part = samples / among
    scale = 1 + _Z**2 / among
    middle = (part + _Z**2 / (2 * among)) / scale
    reach = _Z / scale * math.sqrt(part * (1 - part) / among + _Z**2 / (4 * among**2))
    low = max(0.0, middle - reach) if samples else 0.0
    high = min(1.0, middle + reach) if samples < among else 1.0
    return Share(samples, part, low, high)


def symbol_shares(stacks: Stacks) -> list[SymbolShare]:
    """Return every symbol's share, the one that ran most first."""
    own, total = own_samples(stacks), Counter[str]()
    for stack, count in stacks.items():
        for frame in set(stack[1:]):  # behind the process's name
            total[frame] += count
    among = own.total()
    return [
        SymbolShare(frame_name(f), space_of(f), share_of(own[f], among), share_of(total[f], among))
        for f in sorted(total, key=lambda f: (-own[f], -total[f], f))
    ]


def own_samples(stacks: Stacks) -> Counter[str]:
    """Return in how many samples each frame ran itself."""
    own: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
    return own


def kernel_share(stacks: Stacks) -> Share:
    """Return the part of the work that ran in the kernel."""
    kernel = sum(count for stack, count in stacks.items() if is_kernel(stack[-1]))
    return share_of(kernel, sum(stacks.values()))


@dataclass(frozen=True)
class SamplingRule:
    """When there are enough samples of the work.

    With `samples`: that many. Without: `LEAST`, and until the share of the top
    symbol is known within `WIDTH` to either side at 95 %.
    """

    samples: int | None = None

    @property
    def text(self) -> str:
        """The rule, in words."""
        if self.samples is not None:
            return f"at least {self.samples} samples"
        return (
            f"at least {LEAST} samples, and until the top symbol's share is known "
            f"within {WIDTH * 100:g} points to either side at 95 %"
        )

    def missing(self, stacks: Stacks) -> int:
        """Return how many more samples are needed, as estimated from these; 0 when it is met."""
        have = sum(stacks.values())
        if self.samples is not None:
            return max(0, self.samples - have)
        if have < LEAST:
            return LEAST - have
        top = symbol_shares(stacks)[0].own
        if (top.high - top.low) / 2 <= WIDTH:
            return 0
        needed = math.ceil(top.share * (1 - top.share) * (_Z / WIDTH) ** 2)
        return max(needed - have, have // 20 + 1)
