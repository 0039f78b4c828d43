"""The toy scenario's guests: kernels that differ in how fast they read, and in what they lose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_guest import _argv, _measure
from fake_lab import FakeLab, lab_of, subject
from fake_perf import PerfGuest

from linklab.agent.protocol import Field, FieldReader
from linklab.commands import judging, workflow
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.lab import lab as lab_module
from linklab.lab.lab import Lab, Subject

TOY = str(Path(__file__).with_name("toy_scenario.py"))
REAL = MachineOptions(boot="direct", clock="real")
RATE = 100.0  # reads a second
LOOP = 1e-5  # what a loop of the slowed kernel adds, as a share
_GROUPING = re.compile(
    r"interface|\bmtu\b|(?<!nosysfs )with(out)? sysfs|grouping|by group|listener|netlink"
)
_TIME = re.compile(r"slower than|faster|longer|less time|as long as|seconds of")


@dataclass
class ToyGuest(PerfGuest):
    """Reads at some pace, and loses the last reads."""

    takes: Callable[[], float] = lambda: 1 / RATE  # seconds of one read
    lost: int = 0

    def _do_run_each(self, reader: FieldReader) -> list[Field]:
        _first, count, _dump = reader.take_int(), reader.take_int(), reader.take_int()
        assert _argv(reader)[0] in ("/bin/cat", "/bin/dd")
        nanoseconds = round(1e9 * count * self.takes())
        measure = _measure(nanoseconds, processes=count)
        return [count - self.lost, 256 * bool(self.lost), *measure, b""]


@dataclass(frozen=True)
class ToyLab(FakeLab):
    """A lab of such guests: by the kernel's name, how many times as fast they read, what is lost.

    `loops` in a kernel's parameters make it slower as the scenario's patch would.
    """

    speed: Callable[[str], float] = lambda _: 1.0
    lost: Callable[[str], int] = lambda _: 0
    spread: float = 0.005
    random: Random = field(default_factory=lambda: Random(4))

    @contextmanager
    def session(self, subject: Subject, console_log: Path, draw: int = 0) -> Iterator[Any]:
        """Yield what the trials need of a session."""
        loops = sum(int(word.partition("=")[2]) for word in subject.parameters)
        seconds = (1 + LOOP * loops) / RATE / self.speed(subject.name)

        def takes() -> float:
            return seconds * self.random.lognormvariate(0, self.spread)

        with super().session(subject, console_log, draw) as session:
            session.agent = ToyGuest(takes=takes, lost=self.lost(subject.name))
            yield session


def toy_lab(**other: Any) -> ToyLab:
    """Return a lab of toy guests."""
    return ToyLab(**vars(lab_of()) | other)


class Bench:
    """What stands in for compilers and QEMU in every command that measures."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: dict[str, Any] = {}  # how the next lab's guests are
        monkeypatch.chdir(folder)
        monkeypatch.setenv("LINKLAB_CACHE", str(folder / "cache"))
        monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)
        for module in (workflow, judging):
            monkeypatch.setattr(module, "set_up_lab", self._lab)
        monkeypatch.setattr(workflow, "prepare_subjects", self._subjects)

    def _lab(self, _options: MachineOptions, memory: int, *_: object) -> Lab:
        return toy_lab(memory=memory, **self.made)

    def _subjects(self, options: KernelOptions, *_: object) -> list[Subject]:
        return [subject(name) for name in options.names.split(",")]


def plain(text: str) -> str:
    """Return a text on one line, once it has nothing of the grouping scenario, nor of a time."""
    line = " ".join(text.split())
    assert not (found := _GROUPING.search(line)), f"{found} in {line}"
    assert not (found := _TIME.search(line)), f"{found} in {line}"
    return line


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command printed, the same way; its notes are looked at, too."""
    captured = capsys.readouterr()
    plain(captured.err)
    return plain(captured.out)
