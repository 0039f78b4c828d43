"""`invoke bench --networks`: TCP over emulated links, beside what others published."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from linklab.commands.equip import Purpose
from linklab.commands.network_flows import (
    EXPERIMENTS,
    FRAGMENT,
    IMAGE,
    MEMORY,
    NEEDS,
    TOLERANCE,
    Experiment,
    Flow,
    run_flow,
)
from linklab.commands.outcome import print_shown
from linklab.commands.prepare import KernelOptions, MachineOptions, prepare_lab, prepare_subjects
from linklab.errors import UsageError
from linklab.events import Listener, StepAdvanced, step
from linklab.host.cache import Cache
from linklab.image.programs import TRAFFIC, TRAFFIC_PATH, build_static
from linklab.image.userland import File
from linklab.kernel.kconfig import flavours
from linklab.lab.lab import Lab, Subject, choose_memory
from linklab.options import number
from linklab.report.progress import progress
from linklab.results.figures import seconds_are

_STEP = "networks"
_COLUMNS = ("link", "TCP", "guest s", "goodput Mbit/s", "mean RTT ms", "host s")
_RULE = (
    f"reproduced: every run is within {TOLERANCE:.0%} of what the message of Linux commit "
    "0f8782ea1497 says.\n"
    "A figure that stands alone is the same in every run, to the last byte and microsecond."
)


def main(names: str, machine: MachineOptions, times: str) -> None:
    """Run every experiment so many `times`, each in a fresh guest, and print the table."""
    repeat = number("repeat", times or "2", 1, 1000)
    kernels = networked(names)
    machine.check()
    memory = choose_memory(None, kernels.memory(MEMORY), "networks")
    with progress() as listener:
        lab, subject = prepare(kernels, machine, memory, Cache(), listener)
        groups = run_all(lab, subject, EXPERIMENTS, repeat, listener)
    print_shown(table(lab, subject, groups))


def networked(names: str) -> KernelOptions:
    """Return the kernel, one of the lab's with what networks need. Raises `UsageError`."""
    name, *others = KernelOptions(names).check()
    if others:
        raise UsageError(f"--kernel {names}: the bench takes one kernel")
    return KernelOptions(name, configs=(str(FRAGMENT),) if name in flavours() else ())


def prepare(
    kernels: KernelOptions, machine: MachineOptions, memory: int, cache: Cache, listener: Listener
) -> tuple[Lab, Subject]:
    """Return the lab and the kernel, both built with what the networks need."""
    traffic = build_static(TRAFFIC, cache, listener).file(TRAFFIC.file)
    more = (File(TRAFFIC_PATH, 0o755, traffic, TRAFFIC.name),)
    lab = prepare_lab(machine, memory, cache, listener, IMAGE, more)
    purpose = Purpose(lab.boot, (NEEDS,), image=IMAGE, clock=lab.clock, more=more)
    (subject,) = prepare_subjects(kernels, purpose, cache, listener)
    return lab, subject


def run_all(
    lab: Lab,
    subject: Subject,
    experiments: Sequence[Experiment],
    repeat: int,
    listener: Listener,
) -> list[list[Flow]]:
    """Return the flows of each experiment, every one from a guest of its own."""
    groups: list[list[Flow]] = [[] for _ in experiments]
    turns = [(group, turn) for group in range(len(experiments)) for turn in range(repeat)]
    with (
        tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder,
        step(listener, _STEP, len(turns)),
    ):
        for done, (group, _turn) in enumerate(turns):
            experiment = experiments[group]
            listener(StepAdvanced(_STEP, done, f"{experiment.link.text}, {experiment.algorithm}"))
            flow = run_flow(lab, subject, experiment, Path(folder) / "console.log")
            groups[group].append(flow)
    return groups


def agreed(values: Sequence[float], decimals: int) -> str:
    """Return one figure, to six decimals, where all runs agree; else each, so that they differ."""
    distinct = len(set(values))
    if distinct == 1:
        return f"{values[0]:.6f}".rstrip("0").rstrip(".")
    while len({f"{value:.{decimals}f}" for value in values}) < distinct:
        decimals += 1
    return ", ".join(f"{value:.{decimals}f}" for value in values)


def verdict(flows: Sequence[Flow]) -> str:
    """Return what was published of an experiment, what came here, and whether that is the same."""
    published = flows[0].experiment.published
    if published is None:
        return ""
    here = [flow.figure(published.quantity) for flow in flows]
    is_near = all(abs(value / published.value - 1) <= TOLERANCE for value in here)
    word = "reproduced" if is_near else "not reproduced"
    return f"{published.quantity}: {published.value:g}; here {agreed(here, 2)}: {word}"


def table(lab: Lab, subject: Subject, groups: Sequence[Sequence[Flow]]) -> Table:
    """Return the table, a row for each experiment."""
    about = {"accel": lab.accel.value, "clock": lab.clock.value}
    kernel = f"kernel {subject.name} {subject.release}, QEMU {lab.qemu.version}"
    title = f"{seconds_are(about)}\n{kernel}"
    shown = Table(
        title=Text(title),
        title_justify="left",
        caption=Text(_RULE),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in _COLUMNS:
        shown.add_column(column, justify="left" if column in _COLUMNS[:2] else "right")
    shown.add_column("published, and here")
    for flows in groups:
        experiment = flows[0].experiment
        shown.add_row(
            experiment.link.text,
            experiment.algorithm,
            str(experiment.seconds),
            agreed([flow.goodput for flow in flows], 3),
            agreed([flow.mean_rtt for flow in flows], 2),
            ", ".join(f"{flow.host_seconds:.1f}" for flow in flows),
            verdict(flows),
        )
    return shown
