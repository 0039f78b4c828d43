"""`invoke bench`: the lab's own figures, each against what it aims at."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from linklab.agent.client import Agent
from linklab.build.iso import IMAGE
from linklab.build.kernel import BuildOptions, KernelSpec, build_kernel, resolve_kernel
from linklab.build.source import open_source
from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    iso_of,
    prepare_lab,
    prepare_subjects,
)
from linklab.errors import UsageError
from linklab.events import Listener, StepAdvanced, ignore, step
from linklab.host.cache import Cache, discard
from linklab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.options import number, split_list
from linklab.report.progress import progress
from linklab.report.table import ACCEL_TEXT

_MEMORY = 256
_ROUND_TRIPS = 1000  # in each guest
_STEP = "bench"
_TOUCHED = "net/core/rtnetlink.c"
_FLAVOURS = ("sysfs", "nosysfs")


@dataclass(frozen=True)
class Figure:
    """One figure of the lab: its values, and the most that it should be."""

    name: str
    unit: str
    values: tuple[float, ...]
    aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """The median as a part of the aim: below 1 it is met."""
        return median(self.values) / self.aim if self.aim else None


def main(names: str, repeat_text: str) -> None:
    """Measure and print. Kernels and images are built first, untimed."""
    repeat = number("repeat", repeat_text, 1, 1000)
    name, *others = split_list("kernel", names)
    if others:
        raise UsageError(f"--kernel {names}: the bench takes one kernel")
    with progress() as listener:
        cache = Cache()
        lab = prepare_lab(MachineOptions(), _MEMORY, cache, listener)
        (subject,) = prepare_subjects(KernelOptions(name), Boot.ISO, cache, listener)
        figures = list(_figures(lab, subject, name, repeat, cache, listener))
    Console(highlight=False).print(_table(lab, subject, figures))


def _figures(
    lab: Lab, subject: Subject, name: str, repeat: int, cache: Cache, listener: Listener
) -> Iterator[Figure]:
    with step(listener, _STEP, 3 * repeat):
        boots, trips = _boots(lab, subject, repeat, listener, 0)
        yield Figure("boot direct, QEMU's start to hello", "s", boots, aim=0.7)
        yield Figure("request and reply", "ms", trips, aim=2.0)
        iso_lab = replace(lab, boot=Boot.ISO)
        boots, trips = _boots(iso_lab, subject, repeat, listener, repeat)
        yield Figure("boot from the ISO, QEMU's start to hello", "s", boots, aim=1.6)
        yield Figure("request and reply, second UART of pc", "ms", trips, aim=2.0)
        yield from _sizes(lab, subject, cache, listener)
        if subject.known:
            rebuilds = _rebuilds(name, repeat, cache, listener, 2 * repeat)
            yield Figure(f"rebuild after {_TOUCHED} changed", "s", rebuilds, aim=15)


def _boots(
    lab: Lab, subject: Subject, repeat: int, listener: Listener, done: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return seconds of boots, and the median round trip in ms of each guest."""
    boots, trips = [], []
    with tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder:
        for turn in range(repeat):
            listener(StepAdvanced(_STEP, done + turn, f"{lab.boot} boot"))
            with lab.session(subject, Path(folder) / "console.log") as session:
                boots.append(session.boot_seconds)
                trips.append(median(_round_trips(session.agent)))
    return tuple(boots), tuple(trips)


def _round_trips(agent: Agent) -> Iterator[float]:
    """Yield the milliseconds of requests that make the guest do next to nothing."""
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        agent.read_file("/dev/null", time.monotonic() + 30)
        yield (time.perf_counter() - began) * 1e3


def _rebuilds(
    name: str, repeat: int, cache: Cache, listener: Listener, done: int
) -> tuple[float, ...]:
    """Return seconds from a changed line in one file to a new bzImage."""
    source = open_source(None, cache, listener)
    assert source is not None
    blob = ["cat-file", "blob", f"{source.tree}:{_TOUCHED}"]
    head = source.store.git(blob).stdout.decode().splitlines()[:3]
    seconds = []
    with tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder:
        for turn in range(repeat):
            listener(StepAdvanced(_STEP, done + turn, f"rebuild after {_TOUCHED} changed"))
            patch = Path(folder) / f"{turn}.patch"
            patch.write_text(_one_line_patch(f"{time.time_ns()}", head))
            began = time.monotonic()
            built = build_kernel(KernelSpec(name, BuildOptions(patches=(patch,))), cache, ignore)
            seconds.append(time.monotonic() - began)
            discard(built.path)  # nobody will ask for this one again
    return tuple(seconds)


def _one_line_patch(mark: str, head: list[str]) -> str:
    """Return a patch that puts a comment in front of a file that begins with `head`."""
    lines = [
        f"--- a/{_TOUCHED}",
        f"+++ b/{_TOUCHED}",
        f"@@ -1,{len(head)} +1,{len(head) + 1} @@",
        f"+/* {mark} */",
        *(f" {line}" for line in head),
    ]
    return "\n".join(lines) + "\n"


def _sizes(lab: Lab, subject: Subject, cache: Cache, listener: Listener) -> Iterator[Figure]:
    yield Figure("initramfs, as booted direct", "MB", (lab.initramfs.stat().st_size / 1e6,))
    if subject.image_bytes:
        yield Figure("ISO with one kernel", "MB", (subject.image_bytes / 1e6,), aim=5.5)
    if subject.known:
        options = KernelOptions("sysfs,nosysfs")
        both = [resolve_kernel(n, options.build_options(), cache, listener) for n in _FLAVOURS]
        size = iso_of(both, options, cache, listener).file(IMAGE).stat().st_size
        yield Figure("ISO with both kernels", "MB", (size / 1e6,))


def _table(lab: Lab, subject: Subject, figures: list[Figure]) -> Table:
    title = (
        f"{ACCEL_TEXT[lab.accel.value]}\n"
        f"kernel {subject.name} {subject.release}, QEMU {lab.qemu.version}, medians"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("figure", "median", "least", "most", "runs", "aim", "of the aim"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in figures:
        values = figure.values
        table.add_row(
            figure.name,
            f"{median(values):.3g} {figure.unit}",
            f"{min(values):.3g}",
            f"{max(values):.3g}",
            str(len(values)),
            f"{figure.aim:g} {figure.unit}" if figure.aim else "",
            f"{figure.ratio:.2f}" if figure.ratio else "",
        )
    return table
