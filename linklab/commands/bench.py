"""`invoke bench`: the lab's own figures, each against what it aims at."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from linklab.bench import against, networks, nics
from linklab.bench.figures import (
    TOUCHED,
    BenchFigure,
    Teller,
    boots,
    edits,
    smallest_cell,
    smallest_exec,
    smallest_run,
    table,
    trials,
    virtme_ng,
)
from linklab.commands.exit_status import print_shown
from linklab.commands.kernels import (
    ONE_KERNEL,
    KernelOptions,
    iso_of,
    prepare_subjects,
)
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.commands.places import Place, PlaceOptions
from linklab.errors import UsageError
from linklab.events import Listener, StepAdvanced, step
from linklab.host.cache import Cache
from linklab.image.iso import IMAGE
from linklab.image.programs import WIRE, build_static
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import resolve_kernel
from linklab.lab.lab import Lab, Subject, choose_memory
from linklab.lab.spaces import NETWORKS
from linklab.machine.spec import Boot, Clock, NicModel
from linklab.options import group, number, option
from linklab.paths import ROOT
from linklab.report.progress import progress
from linklab.scenarios import DEFAULT, scenario_named
from linklab.scenarios.scenario import Scenario
from linklab.trials.subjects import Requirements

_MEMORY = 256
_STEP = "bench"


@dataclass(frozen=True)
class BenchOptions:
    """The options of `invoke bench`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions, {"names": ONE_KERNEL}, only=("names",), names="sysfs"
    )
    machine: MachineOptions = group(MachineOptions, only=("clock",))
    repeat: str = option(
        "", "runs of each figure; default 5, of the networks 2, of the interfaces 3"
    )
    networks: bool = option(
        False,
        "TCP over emulated links in place of the lab's own figures: goodput and RTT, beside what "
        "others published",
    )
    nics: bool = option(
        False,
        "what an unshaped link of two guests costs with each model of --nic, in place of the lab's "
        "own figures: goodput, CPU time, how long a request takes",
    )
    vng: str = option(
        "", "a kernel that virtme-ng boots: a row for it, on this machine and in this run"
    )
    against: str = option(
        "",
        "a checkout of another state of linklab: every figure of both in pairs, and the ratios; "
        "in host time unless --clock says otherwise",
    )


@dataclass(frozen=True)
class Bench:
    """What to measure: one kernel, `repeat` times, and virtme-ng where a kernel for it is named."""

    lab: Lab
    subject: Subject
    repeat: int
    vng: Path | None
    cache: Cache
    listener: Listener

    def teller(self, part: int) -> Teller:
        """Return what tells the progress of the part with that number, from 0."""

        def tell(turn: int, what: str) -> None:
            self.listener(StepAdvanced(_STEP, part * self.repeat + max(turn, 0), what))

        return tell


def main(options: BenchOptions) -> None:
    """Measure and print. Kernels and images are built first, untimed."""
    if options.networks or options.nics:
        only = "--networks" if options.networks else "--nics"
        if options.networks and options.nics:
            raise UsageError("--networks, --nics: one of them at a time")
        if options.vng:
            raise UsageError(f"--vng {options.vng}: {only} does without virtme-ng")
        (bench_networks if options.networks else bench_nics)(options)
        return
    repeat = number("repeat", options.repeat or "5", 1, 1000)
    options.kernels.check_one("the bench takes one kernel")
    if options.against:
        bench_against(options, repeat)
        return
    other = checked_vng(options.vng)
    options.machine.check()
    with progress() as listener:
        cache = Cache()
        lab = set_up_lab(options.machine, _MEMORY, cache, listener)
        wanted = Requirements(Boot.ISO, scenario_named(DEFAULT).all_needs())
        (subject,) = prepare_subjects(options.kernels, wanted, cache, listener)
        bench = Bench(lab, subject, repeat, other, cache, listener)
        with step(listener, _STEP, 9 * repeat):
            figures = [*_speed(bench), *_sizes(bench)]
    print_shown(table(lab, subject, figures))


def bench_against(options: BenchOptions, repeat: int) -> None:
    """Measure this state of the lab's code and another one in turn, and print the ratios."""
    if options.vng:
        raise UsageError(f"--vng {options.vng}: --against does without virtme-ng")
    kernel = options.kernels.names
    clock = options.machine.clock
    clock = Clock.REAL.value if clock == "auto" else clock
    total = repeat * (len(against.commands(kernel, clock)) + 1)
    done = itertools.count()
    with (
        tempfile.TemporaryDirectory(prefix="linklab-bench-") as results,
        progress() as listener,
        step(listener, _STEP, total),
    ):
        states = {"there": Path(options.against), "here": ROOT}
        there, here = (against.State.of(at, Path(results) / name) for name, at in states.items())

        def tell(_turn: int, what: str) -> None:
            listener(StepAdvanced(_STEP, next(done), what))

        figures = list(against.measure(there, here, kernel, clock, repeat, tell))
    print_shown(against.table(there, figures))


def bench_networks(options: BenchOptions) -> None:
    """Run every network so many times, each in a fresh guest, and print the table."""
    repeat = number("repeat", options.repeat or "2", 1, 1000)
    kernels = networked(options.kernels.names)
    options.machine.check()
    memory = choose_memory(None, kernels.memory(networks.MEMORY), "networks")
    with progress() as listener:
        lab, subject = prepare_networks(kernels, options.machine, memory, Cache(), listener)
        groups = networks.run_all(lab, subject, networks.EXPERIMENTS, repeat, listener)
    print_shown(networks.table(lab, subject, groups))


def bench_nics(options: BenchOptions) -> None:
    """Run every model of network interface so many times, and print what each costs."""
    repeat = number("repeat", options.repeat or "3", 1, 1000)
    place = PlaceOptions(Place.GUESTS.value)
    name = KernelOptions(options.kernels.names).check_one("the bench takes one kernel")
    fragment = str(NETWORKS / "kernel.config")
    kernels = place.kernels(KernelOptions(name, needed=(fragment,)), nics.TOPOLOGY)
    machine = place.machine(options.machine)
    machine.check()
    memory = choose_memory(None, kernels.memory(nics.MEMORY), "two guests")
    place.check(nics.TOPOLOGY, memory, Scenario)
    with progress() as listener:
        cache = Cache()
        lab = set_up_lab(machine, memory, cache, listener, NETWORKS)
        needs = (str(NETWORKS / "needs.toml"), *(f"nic-{model}" for model in NicModel))
        wanted = Requirements(lab.boot, needs, image=NETWORKS)
        (subject,) = prepare_subjects(kernels, wanted, cache, listener)
        wire = build_static(WIRE, cache, listener).cached(WIRE.file)
        costs = nics.cost_of_all(lab, subject, wire, repeat, listener)
    print_shown(nics.table(lab, subject, costs))


def networked(names: str) -> KernelOptions:
    """Return the kernel, one of the lab's with what networks need. Raises `UsageError`."""
    name = KernelOptions(names).check_one("the bench takes one kernel")
    return KernelOptions(name, configs=(str(networks.FRAGMENT),) if name in flavours() else ())


def prepare_networks(
    kernels: KernelOptions, machine: MachineOptions, memory: int, cache: Cache, listener: Listener
) -> tuple[Lab, Subject]:
    """Return the lab and the kernel, both built with what the networks need."""
    lab = set_up_lab(machine, memory, cache, listener, networks.IMAGE)
    wanted = Requirements(lab.boot, (networks.NEEDS,), image=networks.IMAGE, clock=lab.clock)
    (subject,) = prepare_subjects(kernels, wanted, cache, listener)
    return lab, subject


def checked_vng(kernel: str) -> Path | None:
    """Return the kernel for virtme-ng; raise `UsageError` where there is no such, or no vng."""
    if not kernel:
        return None
    if shutil.which("vng") is None:
        raise UsageError("--vng: virtme-ng is not installed (`pip install virtme-ng`)")
    if not Path(kernel).is_file():
        raise UsageError(f"--vng {kernel}: there is no such kernel")
    return Path(kernel).resolve()


def _speed(bench: Bench) -> Iterator[BenchFigure]:
    lab, subject, repeat = bench.lab, bench.subject, bench.repeat
    seconds, trips = boots(lab, subject, repeat, bench.teller(0))
    yield BenchFigure("boot direct, QEMU's start to hello", "s", seconds, aim=0.5)
    yield BenchFigure("request and reply", "ms", trips, aim=2.0)
    resumed = replace(lab, boot=Boot.RESUME).with_snapshots([subject], bench.cache, bench.listener)
    seconds, _ = boots(resumed, subject, repeat, bench.teller(1))
    yield BenchFigure("resume, QEMU's start to the first answer", "s", seconds, aim=0.2)
    seconds = trials(resumed, subject, repeat, bench.teller(1))
    work = scenario_named(DEFAULT).shape.in_words(smallest_cell())
    yield BenchFigure(f"host's time for {work}", "s", seconds)
    # An ISO's kernel command line knows nothing of virtual time.
    iso = replace(lab, boot=Boot.ISO, clock=Clock.REAL)
    seconds, trips = boots(iso, subject, repeat, bench.teller(2))
    yield BenchFigure("boot from the ISO, QEMU's start to hello", "s", seconds, aim=1.6)
    yield BenchFigure("request and reply, second UART of pc", "ms", trips, aim=2.0)
    resume = smallest_run(subject, "resume", lab.clock, repeat, bench.teller(3))
    yield BenchFigure("whole `invoke run`, 128 interfaces, resumed", "s", resume, aim=0.8)
    direct = smallest_run(subject, "direct", lab.clock, repeat, bench.teller(4))
    yield BenchFigure("whole `invoke run`, 128 interfaces, direct", "s", direct, aim=1.3)
    command = smallest_exec(subject, "resume", repeat, bench.teller(5))
    yield BenchFigure("whole `invoke exec true`, resumed", "s", command, aim=0.9)
    command = smallest_exec(subject, "direct", repeat, bench.teller(6))
    yield BenchFigure("whole `invoke exec true`, direct", "s", command, aim=1.5)
    if bench.vng:
        theirs = virtme_ng(bench.vng, lab.accel, repeat, bench.teller(7))
        yield BenchFigure(
            "whole `vng -- uname -r`, against our direct one", "s", theirs, median(command)
        )
    if subject.known:
        after = edits(subject.name, repeat, bench.cache, bench.teller(8))
        yield BenchFigure(f"rebuild after {TOUCHED} changed", "s", after.to_kernel)
        yield BenchFigure("edit to table, 128 and 256 interfaces", "s", after.to_table, aim=15)


def _sizes(bench: Bench) -> Iterator[BenchFigure]:
    yield BenchFigure("initramfs, as booted direct", "MB", (_megabytes(bench.lab.initramfs.path),))
    if bench.subject.iso:
        yield BenchFigure(
            "ISO with one kernel", "MB", (_megabytes(bench.subject.iso.path),), aim=5.5
        )
    if bench.subject.known:
        both = KernelOptions("sysfs,nosysfs")
        kernels = [
            resolve_kernel(name, both.build_options(), bench.cache, bench.listener)
            for name in both.check()
        ]
        iso = iso_of(kernels, both, bench.cache, bench.listener).file(IMAGE)
        yield BenchFigure("ISO with both kernels", "MB", (_megabytes(iso),))


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
