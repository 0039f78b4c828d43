"""`invoke profile`: where a guest's CPU time goes during one operation, or what it costs more."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab import paths
from linklab.commands.compare import on_one_machine
from linklab.commands.equip import Purpose
from linklab.commands.outcome import print_document, print_shown, tested_on
from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    prepare_lab,
    prepare_subjects,
)
from linklab.commands.sides import Side, sides_against
from linklab.commands.work import ScenarioOptions
from linklab.errors import LabError, UsageError, Verdict
from linklab.events import Listener, Note
from linklab.host.accel import Accel
from linklab.host.cache import Cache, hash_file
from linklab.host.packages import PROFILING, unmet
from linklab.image.userland import Entry, additions
from linklab.kernel.kconfig import flavours
from linklab.lab.lab import Lab, Subject, choose_memory
from linklab.machine.spec import Clock
from linklab.options import JSON, group, number, option, seconds, split_list
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
from linklab.results.result_kinds import DIFFERENCE, PROFILE, kind_in, read_other
from linklab.results.shape import Value
from linklab.results.store import claim, removed_if_empty, utc_now
from linklab.scenarios.scenario import GUEST, Scenario
from linklab.trials.guest import host_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from linklab.trials.profile import Profile, Task

NAME = "profile"
IMAGE = paths.IMAGES / "profile"
FRAGMENT = IMAGE / "kernel.config"
DEFAULT_SECONDS = 300.0
_FREQUENCIES = (10, 20_000)  # a tick of 4 ms is not divided into more than 80 samples
_MOST_SAMPLES = 10_000_000
_TO_SUBTRACT = 10_000  # samples of A by default: half a per cent more in one function is seen


@dataclass(frozen=True)
class ProfileOptions(ScenarioOptions):
    """The options of `invoke profile`, as typed: of one cell."""

    kernels: KernelOptions = group(KernelOptions, names="sysfs")
    machine: MachineOptions = group(MachineOptions, without=("boot",))
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
    max_time: str = option("", "seconds after which no further repetition begins; default 300")
    output: str = option("", "a folder for the results; default results/<UTC time>-profile")
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it.

    `sides` is one kernel, or two whose profiles are to be subtracted.
    """

    sides: tuple[Side, ...]
    task: Task
    given: Mapping[str, Value]
    kind: type[Scenario]
    frequency: int
    memory: int
    folder: Path


def check(options: ProfileOptions) -> Request:
    """Check every option that can be checked without building anything."""
    from linklab.trials.profile import Task, profile_memory

    sides = _sides(options)
    options.machine.check()
    kind = options.kind
    cell = options.cell(kind.profiled)
    setup = cell.of(kind.shape.per_guest)
    wanted = options.samples or (str(_TO_SUBTRACT) if options.against else "")
    samples = number("samples", wanted, 1, _MOST_SAMPLES) if wanted else None
    limit = seconds("max-time", options.max_time or "0") or DEFAULT_SECONDS
    frequency = number("frequency", options.frequency, *_FREQUENCIES)
    needed = profile_memory(kind, cell, options.machine.checked_cpus())
    needed = max(side.options.memory(needed) for side in sides)
    asked = options.machine.checked_memory()
    memory = choose_memory(asked, needed, f"perf and {kind.shape.in_words(setup)}")
    _check_host()
    folder = _folder(options)
    task = Task(cell, SamplingRule(samples), limit)
    return Request(sides, task, options.given(), kind, frequency, memory, folder)


def _sides(options: ProfileOptions) -> tuple[Side, ...]:
    """Return what is to be profiled, checked as it is going to be built."""
    kernels = options.kernels.with_scenario(options.kind)
    sides = sides_against(kernels, options.against) if options.against else (Side("", kernels),)
    for side in sides:
        profiled(side.options).check()
    return sides


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


def _folder(options: ProfileOptions) -> Path:
    output = options.output
    written = (PROFILE_FILE, DIFFERENCE_FILE, *(SIDES if options.against else ()))
    if output and any((Path(output) / name).exists() for name in written):
        raise UsageError(f"{output} already holds a profile: name another folder with --output")
    return claim(output, NAME)


def _check_host() -> None:
    if lacking := unmet(PROFILING):
        packages = " ".join(need.packages[0] for need in lacking)
        raise LabError(
            f"`invoke profile` needs Debian's package {packages}, which `invoke setup` leaves "
            f"out: as root, type `apt-get install --no-install-recommends -y {packages}`"
        )


def run(options: ProfileOptions, command: Sequence[str], listener: Listener) -> Path:
    """Take a profile, or two and their difference, and store it; return its folder."""
    request = check(options)
    with removed_if_empty(request.folder):
        return _run(options, request, command, listener)


@dataclass(frozen=True)
class _Setting:
    """What the profiles of one command have in common."""

    request: Request
    lab: Lab
    command: Sequence[str]
    listener: Listener


def _run(
    options: ProfileOptions, request: Request, command: Sequence[str], listener: Listener
) -> Path:
    cache, folder = Cache(), request.folder
    image, more = IMAGE, tuple[Entry, ...]()
    if request.kind.image:
        image, more = request.kind.image, tuple(additions(IMAGE))
    lab = prepare_lab(options.machine, request.memory, cache, listener, image, more)
    purpose = replace(Purpose.of(request.kind, lab), image=image, more=more)
    subjects = []
    for side in request.sides:
        (subject,) = prepare_subjects(profiled(side.options), purpose, cache, listener)
        subjects.append(replace(subject, name=side.label or subject.name))
    setting = _Setting(request, on_one_machine(lab, subjects, listener), command, listener)
    places = [folder / name for name in SIDES] if options.against else [folder]
    taken: StoredProfile | None = None
    for side, subject, place in zip(request.sides, subjects, places, strict=True):
        place.mkdir(exist_ok=True)
        taken = _take(setting, side, subject, place, taken)
    if options.against:
        _subtract(folder)
    return folder


def _take(
    setting: _Setting,
    side: Side,
    subject: Subject,
    folder: Path,
    like: StoredProfile | None = None,
) -> StoredProfile:
    """Profile one kernel and store it; `like` another, by the same event and as often."""
    from linklab.trials.profile import Profiler

    request, lab, listener = setting.request, setting.lab, setting.listener
    begun, task = utc_now(), request.task
    if like:
        task = replace(task, repetitions=len(like.about["sampled"]))
    setup = task.cell.of(request.kind.shape.per_guest)
    log = folder / f"console-{subject.label}-{setup.text.replace('/', '-')}.log"
    with lab.session(subject, log) as session:
        if like:
            event, why = Event(like.about["event"]["name"]), str(like.about["event"]["why"])
        else:
            event, why = choose_event(session.agent, emulated=lab.accel is Accel.TCG)
        idle = lab.clock is not Clock.VIRTUAL
        recorder = Recorder(session.agent, event, request.frequency, idle)
        hosts = {GUEST: host_of(session, lab, request.kind, setup, None)}
        scenario = request.kind(request.given)
        profile = Profiler(scenario, hosts, recorder, task, listener).take(setup)
    about = {
        "command": shlex.join(setting.command),
        "start": begun,
        "end": utc_now(),
        **_about(request, lab, side, subject),
        "event": {"name": event.value, "frequency": request.frequency, "why": why},
        **_outcome(profile, task),
    }
    if not about["rule"]["met"]:
        listener(Note("there are fewer samples than wanted: --max-time gives more time"))
    return _write(folder, StoredProfile(about, profile.samples.stacks))


def _about(request: Request, lab: Lab, side: Side, subject: Subject) -> dict[str, Any]:
    """Return what went into a profile."""
    found = tested_on(lab, [subject])
    (kernel,) = found.pop("kernels")
    return {
        "scenario": request.kind.name,
        **request.task.cell,
        "axes": list(request.task.cell),
        "given": dict(request.given),
        "work": request.kind.shape.in_words(request.task.cell),
        "kernel": kernel,
        "source": side.options.source,
        **side.options.content(),
        "fragment": hash_file(FRAGMENT) if profiled(side.options) != side.options else None,
        **found,
        "qemu": {
            "version": lab.qemu.version,
            "command_line": shlex.join(lab.argv_for(subject)),
        },
    }


def _outcome(profile: Profile, task: Task) -> dict[str, Any]:
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


def _write(folder: Path, profile: StoredProfile) -> StoredProfile:
    """Store a profile and return it; the table and the graph are made from what is stored."""
    from linklab.report.profile import as_text, graph_of

    write_profile(folder, profile)
    stored = read_profile(folder)
    (folder / TABLE_FILE).write_text(as_text(stored))
    (folder / GRAPH_FILE).write_text(graph_of(stored))
    return stored


def _subtract(folder: Path) -> None:
    """Store what the two profiles in a folder differ in, with its table and its graph."""
    from linklab.report.grid import plain_text
    from linklab.report.profile import difference_graph_of, render_difference

    a, b = _read_both(folder)
    (folder / TABLE_FILE).write_text(plain_text(render_difference(a, b)))
    (folder / GRAPH_FILE).write_text(difference_graph_of(a, b))
    write_difference(folder, as_stored(a, b))


def _read_both(folder: Path) -> tuple[StoredProfile, StoredProfile]:
    a, b = (read_profile(folder / name) for name in SIDES)
    return a, b


def main(options: ProfileOptions, command: Sequence[str]) -> Verdict:
    """Take a profile and show it: a table to a person, one document to a script."""
    from linklab.report.progress import progress

    with progress() as listener:
        folder = run(options, command, listener)
    if options.as_json:
        print_document({"folder": str(folder), **_document(folder)})
        return Verdict.PASS

    print_shown(_shown(folder))
    print(f"\nflame graph: {folder / GRAPH_FILE}   results: {folder}")
    return Verdict.PASS


def _document(folder: Path) -> dict[str, Any]:
    if kind_in(folder) == DIFFERENCE:
        return {DIFFERENCE: read_other(folder, DIFFERENCE)}
    return {PROFILE: read_profile(folder).about}


def _shown(folder: Path) -> RenderableType:
    if kind_in(folder) == DIFFERENCE:
        from linklab.report.profile import render_difference

        return render_difference(*_read_both(folder))
    from linklab.report.profile import render

    return render(read_profile(folder))
