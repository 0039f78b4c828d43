"""`invoke profile`: where a guest's CPU time goes during one operation."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab import paths
from linklab.build.flavours import flavours
from linklab.commands.equip import Purpose
from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    prepare_lab,
    prepare_subjects,
)
from linklab.commands.work import ARMS, WorkOptions
from linklab.errors import LabError, UsageError, Verdict
from linklab.events import Listener, Note
from linklab.host.accel import Accel
from linklab.host.cache import Cache, hash_file
from linklab.host.packages import PROFILING, unmet
from linklab.lab import Lab, Subject, choose_memory, host_cpu
from linklab.options import JSON, group, number, option, seconds, split_list
from linklab.profile.recorder import Recorder, choose_event
from linklab.profile.shares import Rule
from linklab.profile.store import (
    GRAPH_FILE,
    PROFILE_FILE,
    TABLE_FILE,
    StoredProfile,
    read_profile,
    write_profile,
)
from linklab.results.store import claim_default_folder, claim_folder, utc_now
from linklab.scenarios.grouping.plan import NAME as GROUPING

if TYPE_CHECKING:
    from linklab.scenarios.grouping.profile import Profile, Task

NAME = "profile"
IMAGE = paths.IMAGES / "profile"
FRAGMENT = IMAGE / "kernel.config"
DEFAULT_SECONDS = 300.0
_FREQUENCIES = (10, 20_000)  # a tick of 4 ms is not divided into more than 80 samples
_MOST_SAMPLES = 10_000_000


@dataclass(frozen=True)
class ProfileOptions(WorkOptions):
    """The options of `invoke profile`, as typed: one operation, by one arm, on one count."""

    counts: str = option("1024", "the number of interfaces")
    operations: str = option(
        "mtu", "what to profile: create, mtu, up, down, address, group or delete"
    )
    arms: str = option("process", f"the way to do it. {ARMS}")
    kernels: KernelOptions = group(KernelOptions, names="sysfs")
    machine: MachineOptions = group(MachineOptions, without=("boot",))
    samples: str = option(
        "",
        "samples of the work to take; default: until the top symbol's share is known within 2 "
        "points at 95 %, 1000 at least",
    )
    frequency: str = option("997", "samples a second on each CPU")
    max_time: str = option("", "seconds after which no further repetition begins; default 300")
    output: str = option("", "a folder for the results; default results/<UTC time>-profile")
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it."""

    kernels: KernelOptions
    task: Task
    count: int
    frequency: int
    memory: int
    folder: Path


def check(options: ProfileOptions) -> Request:
    """Check every option that can be checked without building anything."""
    from linklab.scenarios.grouping.profile import Task, profile_memory

    kernels = profiled(options.kernels)
    kernels.check()
    options.machine.check()
    operation, arm, count = options.one()
    samples = number("samples", options.samples, 1, _MOST_SAMPLES) if options.samples else None
    limit = seconds("max-time", options.max_time or "0") or DEFAULT_SECONDS
    frequency = number("frequency", options.frequency, *_FREQUENCIES)
    needed = profile_memory(count, options.machine.checked_cpus())
    asked = options.machine.checked_memory()
    memory = choose_memory(asked, options.kernels.memory(needed), f"perf and {count} interfaces")
    _check_host()
    folder = _folder(options.output)
    task = Task(operation, arm, Rule(samples), limit)
    return Request(kernels, task, count, frequency, memory, folder)


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


def _folder(output: str) -> Path:
    if not output:
        return claim_default_folder(NAME)
    if (Path(output) / PROFILE_FILE).exists():
        raise UsageError(f"{output} already holds a profile: name another folder with --output")
    return claim_folder(Path(output))


def _check_host() -> None:
    if lacking := unmet(PROFILING):
        packages = " ".join(need.packages[0] for need in lacking)
        raise LabError(
            f"`invoke profile` needs Debian's package {packages}, which `invoke setup` leaves "
            f"out: as root, type `apt-get install --no-install-recommends -y {packages}`"
        )


def run(options: ProfileOptions, command: Sequence[str], listener: Listener) -> Path:
    """Take a profile and store it; return its folder."""
    request = check(options)
    try:
        return _run(options, request, command, listener)
    except BaseException:
        if not any(request.folder.iterdir()):
            request.folder.rmdir()
        raise


def _run(
    options: ProfileOptions, request: Request, command: Sequence[str], listener: Listener
) -> Path:
    from linklab.scenarios.grouping.experiment import Guest
    from linklab.scenarios.grouping.profile import take_profile

    begun, cache = utc_now(), Cache()
    lab = prepare_lab(options.machine, request.memory, cache, listener, IMAGE)
    purpose = Purpose(lab.boot, (GROUPING,), lab.machine, IMAGE, lab.clock)
    (subject,) = prepare_subjects(request.kernels, purpose, cache, listener)
    log = request.folder / f"console-{subject.label}-{request.count}.log"
    with lab.session(subject, log) as session:
        event, why = choose_event(session.agent, emulated=lab.accel is Accel.TCG)
        recorder = Recorder(session.agent, event, request.frequency)
        guest = Guest(session.agent, request.count, lab.accel)
        profile = take_profile(guest, recorder, request.task, listener)
    about = {
        "command": shlex.join(command),
        "start": begun,
        "end": utc_now(),
        **_about(options, request, lab, subject),
        "event": {"name": event.value, "frequency": request.frequency, "why": why},
        **_outcome(profile, request.task),
    }
    if not about["rule"]["met"]:
        listener(Note("there are fewer samples than wanted: --max-time gives more time"))
    _write(request.folder, StoredProfile(about, profile.samples.stacks))
    return request.folder


def _about(options: ProfileOptions, request: Request, lab: Lab, subject: Subject) -> dict[str, Any]:
    """Return what went into a profile."""
    return {
        "scenario": "grouping",
        "operation": request.task.operation.value,
        "arm": request.task.arm.value,
        "interfaces": request.count,
        "kernel": {
            "name": subject.name,
            "release": subject.release,
            "sha256": subject.sha256,
            "inputs": subject.inputs,
        },
        "source": options.kernels.source,
        **options.kernels.content(),
        "fragment": hash_file(FRAGMENT) if request.kernels != options.kernels else None,
        "image": dict(lab.image),
        "accel": lab.accel.value,
        "clock": lab.clock.value,
        "boot": lab.boot.value,
        "machine": lab.machine_for(subject).value,
        "cpus": lab.cpus,
        "memory": lab.memory,
        "qemu": {
            "version": lab.qemu.version,
            "command_line": shlex.join(lab.argv_for(subject)),
        },
        "host": {
            "cpu": host_cpu(),
            "cpus": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
        },
    }


def _outcome(profile: Profile, task: Task) -> dict[str, Any]:
    samples = profile.samples
    return {
        "rule": {"text": task.rule.text, "met": not task.rule.missing(samples.stacks)},
        "samples": {
            "work": samples.work,
            "idle": samples.idle,
            "sampler": samples.sampler,
            "total": samples.total,
        },
        "unsampled": [asdict(measure) for measure in profile.unsampled],
        "sampled": [asdict(measure) for measure in profile.sampled],
    }


def _write(folder: Path, profile: StoredProfile) -> None:
    """Store a profile; the table and the graph are made from what is stored."""
    from linklab.report.profile import as_text, graph_of

    write_profile(folder, profile)
    stored = read_profile(folder)
    (folder / TABLE_FILE).write_text(as_text(stored))
    (folder / GRAPH_FILE).write_text(graph_of(stored))


def main(options: ProfileOptions, command: Sequence[str]) -> Verdict:
    """Take a profile and show it: a table to a person, one document to a script."""
    from linklab.report.progress import progress

    with progress() as listener:
        folder = run(options, command, listener)
    stored = read_profile(folder)
    if options.as_json:
        json.dump({"folder": str(folder), "profile": stored.about}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return Verdict.PASS
    from rich.console import Console

    from linklab.report.profile import render

    Console(highlight=False).print(render(stored))
    print(f"\nflame graph: {folder / GRAPH_FILE}   results: {folder}")
    return Verdict.PASS
