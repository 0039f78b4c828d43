"""Samples as stacks: `perf script`'s text in, collapsed stacks out.

A collapsed stack is Brendan Gregg's format: the frames from the process's name
to the function that ran, with semicolons between them, `_[k]` behind those of
the kernel. User space is one frame, the program or the library that ran or
that called the kernel: Debian's programs have no symbols and no frame pointers
to tell more from.
"""

from __future__ import annotations

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
_HEAD = re.compile(r"^ *(?P<comm>\S.*?) +(?P<pid>\d+) *(?P<rest>.*)$")
_FRAME = re.compile(r"^\s*(?P<ip>[0-9a-f]+) (?P<symbol>.+) \((?P<dso>.+)\)$")

Stack = tuple[str, ...]
Stacks = Mapping[Stack, int]


@dataclass
class Samples:
    """What was sampled: the work's stacks, and how many samples were left out.

    `idle` are those of the idle task, with the interrupts that came while it
    ran; `sampler` are perf's own.
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
        """Take another lot of the same work in."""
        self.stacks += other.stacks
        self.idle += other.idle
        self.sampler += other.sampler


def is_kernel(frame: str) -> bool:
    """Tell whether a frame is the kernel's."""
    return frame.endswith(KERNEL_MARK)


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
            samples.stacks[(comm, *reversed(_trusted(frames)))] += 1
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


def _trusted(frames: list[str]) -> list[str]:
    """Return the kernel's frames and the one below them.

    Where user space entered the kernel is known. The frames behind that are
    guessed from a register that Debian's programs use for other things.
    """
    kernel = next((at for at, frame in enumerate(frames) if not is_kernel(frame)), len(frames))
    return frames[: kernel + 1]


def _stable_name(comm: str) -> str:
    """Return a process's name without what tells one kernel worker from the next."""
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
