"""`invoke profile`: where a guest's CPU time goes during one operation, or what it costs more."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab import paths
from linklab.commands.compare import MAX_TIME
from linklab.commands.fleet import FleetOptions
from linklab.commands.kernels import ONE_KERNEL, KernelOptions, KernelSide, pair_against
from linklab.commands.machines import MachineOptions
from linklab.commands.workflow import (
    Finished,
    LabRequest,
    LabWork,
    MeasuringOptions,
)
from linklab.errors import UsageError, Verdict
from linklab.events import Note
from linklab.host.accel import Accel
from linklab.host.cache import hash_file
from linklab.host.packages import PROFILING, require
from linklab.image.userland import Entry, additions
from linklab.kernel.kconfig import flavours
from linklab.lab.lab import Subject, choose_memory
from linklab.machine.spec import Clock
from linklab.options import group, number, option, seconds, split_list
from linklab.profile.recorder import Event, Recorder, choose_event
from linklab.profile.stacks import SamplingRule
from linklab.profile.store import (
    DIFFERENCE_FILE,
    GRAPH_FILE,
    PROFILE_FILE,
    SIDES,
    TABLE_FILE,
    StoredProfile,
    as_stored,
    read_profile,
    write_difference,
    write_profile,
)
from linklab.results.result_kinds import DIFFERENCE, PROFILE, read_other
from linklab.results.store import claim, utc_now
from linklab.trials.guest import hosts_in
from linklab.trials.plan import Plan
from linklab.trials.subjects import tested_on

if TYPE_CHECKING:
    from rich.console import RenderableType

    from linklab.trials.profile import Profile, Task

IMAGE = paths.IMAGES / "profile"
FRAGMENT = IMAGE / "kernel.config"
DEFAULT_SECONDS = 300.0
_FREQUENCIES = (10, 20_000)  # a tick of 4 ms is not divided into more than 80 samples
_MOST_SAMPLES = 10_000_000
_TO_SUBTRACT = 10_000  # samples of A by default: half a per cent more in one function is seen


@dataclass(frozen=True)
class ProfileOptions(MeasuringOptions):
    """The options of `invoke profile`, as typed: of one cell."""

    kernels: KernelOptions = group(KernelOptions, {"names": ONE_KERNEL}, names="sysfs")
    machine: MachineOptions = group(MachineOptions, without=("boot",))
    fleet: FleetOptions = group(FleetOptions, without=("address", "insecure"))
    against: str = option(
        "",
        "a second kernel, as `invoke compare` takes it: `+fix.patch`, `sysfs`, `@v6.13`; both are "
        "profiled, and the first one's costs subtracted from this one's",
    )
    samples: str = option(
        "",
        "samples of the work to take; default: until the top symbol's share is known within 2 "
        "points at 95 %, 1000 at least; 10000 of the first kernel with --against",
    )
    frequency: str = option("997", "samples a second on each CPU")
    max_time: str = option("", MAX_TIME)


@dataclass(frozen=True)
class ProfileRequest(LabRequest):
    """The same, checked. `sides` is one kernel, or two whose profiles are to be subtracted."""

    sides: tuple[KernelSide, ...]
    task: Task
    plan: Plan
    frequency: int


class Profiling(LabWork[ProfileOptions, ProfileRequest]):
    """`invoke profile` at its work."""

    @property
    def image(self) -> Path:
        """The scenario's own image where it has one, else the one with perf in it."""
        return self.options.kind.image or IMAGE

    @property
    def more(self) -> tuple[Entry, ...]:
        """What perf needs, where the image lacks it."""
        return tuple(additions(IMAGE)) if self.options.kind.image else ()

    def check(self) -> ProfileRequest:
        """Check every option that can be checked without building anything."""
        from linklab.trials.profile import Task, profile_memory

        options = self.options
        kernels, kind = options.kernels.with_scenario(options.kind), options.kind
        sides: tuple[KernelSide, ...] = (KernelSide("", kernels),)
        if options.against:
            sides = pair_against(kernels, options.against)
        for side in sides:
            profiled(side.options).check()
        options.machine.check()
        plan = options.cell_plan(kind.profiled)
        (cell,) = plan.cells
        wanted = options.samples or (str(_TO_SUBTRACT) if options.against else "")
        samples = number("samples", wanted, 1, _MOST_SAMPLES) if wanted else None
        limit = seconds("max-time", options.max_time or "0") or DEFAULT_SECONDS
        frequency = number("frequency", options.frequency, *_FREQUENCIES)
        needed = profile_memory(kind, plan.whole(cell), options.machine.checked_cpus())
        needed = max(side.options.memory(needed) for side in sides)
        asked = options.machine.checked_memory()
        setup = kind.shape.in_words(cell.of(kind.shape.per_guest))
        memory = choose_memory(asked, needed, f"perf and {setup}")
        if self.place.is_guests:
            raise UsageError(
                "--place guests: perf samples the one guest that it runs in, and no other host "
                "would be in the profile: --place spaces has all of them in it"
            )
        self.place.check(self.network, memory, options.kind)
        require(PROFILING, "invoke profile")
        task = Task(cell, SamplingRule(samples), limit)
        return ProfileRequest(self._claim(), memory, sides, task, plan, frequency)

    def _claim(self) -> Path:
        output = self.options.output
        written = (PROFILE_FILE, DIFFERENCE_FILE, *(SIDES if self.options.against else ()))
        if output and any((Path(output) / name).exists() for name in written):
            raise UsageError(f"{output} already holds a profile: name another folder with --output")
        return claim(output, PROFILE)

    def sides(self) -> Sequence[KernelSide]:
        """Return one kernel or two, with what perf needs."""
        return [replace(side, options=profiled(side.options)) for side in self.request.sides]

    def work(self) -> Finished:
        """Take a profile, or two and their difference, and store it."""
        self.prepare()
        folder, is_pair = self.request.folder, len(self.subjects) > 1
        places = [folder / name for name in SIDES] if is_pair else [folder]
        taken: StoredProfile | None = None
        for side, subject, place in zip(self.request.sides, self.subjects, places, strict=True):
            place.mkdir(exist_ok=True)
            taken = self._take(side, subject, place, taken)
        if is_pair:
            self._subtract()
        return Finished(folder)

    def _take(
        self, side: KernelSide, subject: Subject, folder: Path, like: StoredProfile | None
    ) -> StoredProfile:
        """Profile one kernel and store it; `like` another, by the same event and as often."""
        from linklab.report.profile import as_text, graph_of
        from linklab.trials.profile import Profiler

        asked, lab, listener = self.request, self.lab, self.listener
        begun, task, plan = utc_now(), asked.task, asked.plan
        if like:
            task = replace(task, repetitions=len(like.about["sampled"]))
        (setup,) = plan.setups
        log = folder / f"console-{subject.label}-{setup.text.replace('/', '-')}.log"
        with lab.session(subject, log) as session:
            if like:
                event, why = Event(like.about["event"]["name"]), str(like.about["event"]["why"])
            else:
                event, why = choose_event(session.agent, emulated=lab.accel is Accel.TCG)
            idle = lab.clock is not Clock.VIRTUAL
            recorder = Recorder(session.agent, event, asked.frequency, idle)
            hosts = hosts_in(session, lab, plan, setup)
            profile = Profiler(plan.kind(plan.given), hosts, recorder, task, listener).take(setup)
        about = {
            "command": shlex.join(self.command),
            "start": begun,
            "end": utc_now(),
            **self._about(side, subject),
            "event": {"name": event.value, "frequency": asked.frequency, "why": why},
            **_figures(profile, task),
        }
        if not about["rule"]["met"]:
            listener(Note("there are fewer samples than wanted: --max-time gives more time"))
        write_profile(folder, StoredProfile(about, profile.samples.stacks))
        stored = read_profile(folder)  # the table and the graph are made from what is stored
        (folder / TABLE_FILE).write_text(as_text(stored))
        (folder / GRAPH_FILE).write_text(graph_of(stored))
        return stored

    def _about(self, side: KernelSide, subject: Subject) -> dict[str, Any]:
        """Return what went into a profile."""
        found = tested_on(self.lab, [subject])
        (kernel,) = found.pop("kernels")
        plan, cell = self.request.plan, self.request.task.cell
        return {
            "scenario": plan.kind.name,
            **cell,
            "axes": list(cell),
            "given": dict(plan.given),
            "work": plan.shape.in_words(cell),
            "kernel": kernel,
            "source": side.options.source,
            **side.options.content(),
            "fragment": hash_file(FRAGMENT) if profiled(side.options) != side.options else None,
            **found,
            "qemu": {
                "version": self.lab.qemu.version,
                "command_line": shlex.join(self.lab.argv_for(subject)),
            },
        }

    def _both(self) -> tuple[StoredProfile, StoredProfile]:
        a, b = (read_profile(self.request.folder / name) for name in SIDES)
        return a, b

    def _subtract(self) -> None:
        """Store what the two profiles differ in, with its table and its graph."""
        from linklab.report.profile import difference_graph_of

        folder, (a, b) = self.request.folder, self._both()
        (folder / TABLE_FILE).write_text(self.text())
        (folder / GRAPH_FILE).write_text(difference_graph_of(a, b))
        write_difference(folder, as_stored(a, b))

    def table(self) -> RenderableType:
        """Return the table of where the time goes, or of what the difference is made of."""
        if self.options.against:
            from linklab.report.profile import render_difference

            return render_difference(*self._both())
        from linklab.report.profile import render

        return render(read_profile(self.request.folder))

    def document(self) -> dict[str, Any]:
        """Return what is stored of the profile, or of the difference."""
        folder = self.request.folder
        if self.options.against:
            return {DIFFERENCE: read_other(folder, DIFFERENCE)}
        return {PROFILE: read_profile(folder).about}

    def closing(self, finished: Finished) -> str:
        """Return where the flame graph and the results are."""
        return f"flame graph: {finished.folder / GRAPH_FILE}   results: {finished.folder}"


def profiled(options: KernelOptions) -> KernelOptions:
    """Return the same kernel, one of the lab's with what perf needs.

    Raises `UsageError` unless it is exactly one.
    """
    names = split_list("kernel", options.names)
    if len(names) != 1:
        raise UsageError(f"--kernel {options.names}: a profile takes exactly one kernel")
    if names[0] not in flavours():
        return options
    return replace(options, configs=(*options.configs, str(FRAGMENT)))


def _figures(profile: Profile, task: Task) -> dict[str, Any]:
    samples = profile.samples
    return {
        "rule": {"text": task.text, "met": not task.missing(profile)},
        "samples": {
            "work": samples.work,
            "idle": samples.idle,
            "sampler": samples.sampler,
            "total": samples.total,
        },
        "unsampled": [dict(metrics) for metrics in profile.unsampled],
        "sampled": [dict(metrics) for metrics in profile.sampled],
    }


def main(options: ProfileOptions, command: Sequence[str]) -> Verdict:
    """Take a profile and show it: a table to a person, one document to a script."""
    return Profiling(options, command).carry_out()
