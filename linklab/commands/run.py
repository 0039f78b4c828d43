"""`invoke run`: kernels, a scenario, a table and a verdict.

Its options are stored under their names on the command line, so that a reader
needs to know nothing of the code; `invoke rerun` takes them from there. See
`linklab/results/rerun_command.py`.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.exports import ExportOptions
from linklab.commands.kernels import SEVERAL_KERNELS, KernelOptions, KernelSide
from linklab.commands.machines import MachineOptions, decide_clock
from linklab.commands.scenarios import DEFAULT_BOOTS, ScenarioOptions, TrialOptions, memory_for
from linklab.commands.workflow import (
    Finished,
    LabRequest,
    Measurement,
    MeasuringOptions,
    ResumeOptions,
)
from linklab.errors import LabError, LinklabError, UsageError, Verdict
from linklab.events import Note
from linklab.kernel.kconfig import flavours
from linklab.options import flat, group, made, number, option
from linklab.results.rerun_command import (
    ENTRY,
    FILES,
    command_of,
    files_of,
    options_of,
    typed_command,
)

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from rich.console import RenderableType

    from linklab.machine.spec import Clock
    from linklab.results.model import Run
    from linklab.trials.engine import Engine
    from linklab.trials.plan import Plan

MAX_REPEAT = 10_000
AUTO = "auto"  # the kernels that a scenario names
KERNELS = f"{SEVERAL_KERNELS}; auto: sysfs,nosysfs, but sysfs alone for a scenario with a network"
_OF_THE_COMMAND = frozenset(
    {"output", "keep", "record", "json", "timings", "junit", "ktap", "kcidb", "kcidb_origin"}
    | {"while_building", "fleet", "insecure", "resume"}
)  # not of the run itself
_ALWAYS = frozenset(
    {"kernel", "scenario", "counts", "operations", "arms", "repeat", "timeout"}
)  # what every version has kept


@dataclass(frozen=True)
class RunOptions(MeasuringOptions, TrialOptions, ResumeOptions):
    """The options of `invoke run`, as typed."""

    kernels: KernelOptions = group(KernelOptions, {"names": KERNELS}, names=AUTO)
    repeat: str = option("1", "trials of each cell and kernel, in shuffled order")
    warmup: str = option(
        "", "trials before them that are thrown away; default 1 where several are kept, else 0"
    )
    fresh_guest: bool = option(
        False, "a guest of its own for each trial, instead of one for each kernel and set-up"
    )
    while_building: str = option(
        "",
        "a kernel that needs no building (debian, or a bzImage), to show a first table of while "
        "the others are built",
    )
    timings: bool = option(False, "say at the end what each stage of the command took")
    record: bool = option(
        False, "record each guest, and keep that of one that failed for `invoke gdb --replay`"
    )
    exports: ExportOptions = group(ExportOptions)

    def saved_guests(self, clock: Clock, _comparisons: int) -> int:
        """Return how many guests are saved of each kernel: several where each trial has its own."""
        several = min(DEFAULT_BOOTS[clock], number("repeat", self.repeat, 1, MAX_REPEAT))
        return several if self.fresh_guest else 1


@dataclass(frozen=True)
class RunRequest(LabRequest):
    """The same, checked."""

    plan: Plan


class Running(Measurement[RunOptions, RunRequest]):
    """`invoke run` at its work."""

    def __init__(self, options: RunOptions, *words: Any) -> None:
        if options.kernels.names == AUTO:
            named = replace(options.kernels, names=options.kind.kernels)
            options = replace(options, kernels=named)
        super().__init__(options, *words)
        self._before = seconds_since_start()

    @property
    def machine(self) -> MachineOptions:
        """The machine's options, with what a recording decides of them."""
        machine = super().machine
        if self.options.record:
            from linklab.commands.gdb import recordable

            return recordable(machine)
        return machine

    def check(self) -> RunRequest:
        """Check every option that can be checked without building anything."""
        options = self.options
        kernels = [self.place.kernels(side.options, self.network) for side in self.sides()]
        for each in kernels:
            each.check()
        options.machine.check()
        options.exports.check()
        if options.while_building:
            check_meanwhile(options)
        plan = self.planned(decide_clock(self.machine, self.listener))
        if options.record and self.place.is_guests:
            raise UsageError("--record: a guest that hears others cannot be replayed alone")
        if options.record and self.place.capture:
            raise UsageError("--record: what a guest writes to its ports is not in a recording")
        if options.record:
            from linklab.commands.gdb import check_record

            check_record(options.kernels, options.machine, plan.jobs, keeps=options.keep)
        memory = max(memory_for(options.machine, plan, each) for each in kernels)
        for network in plan.networks or (None,):
            self.place.check(network, memory, options.kind, plan)
        return RunRequest(self.claimed(self.options.kind.name), memory, plan)

    def planned(self, clock: Clock) -> Plan:
        """Return the plan of the trials. Raises `UsageError`."""
        options = self.options
        repeat = number("repeat", options.repeat, 1, MAX_REPEAT)
        return options.trials_plan(
            clock,
            {},
            repeat=repeat,
            warmup_rounds=number("warmup", options.warmup or int(repeat > 1), 0, MAX_REPEAT),
            fresh_guest=options.fresh_guest,
        )

    def sides(self) -> Sequence[KernelSide]:
        """Return the kernels, none of them under another name."""
        return [KernelSide("", self.options.kernels.with_scenario(self.options.kind))]

    def prepare(self) -> None:
        """Prepare the lab and the kernels; for a recording, one that can be looked at."""
        if self.options.while_building:
            from linklab.commands.meanwhile import meanwhile

            shown = self.listener
            with meanwhile(shown, meanwhile_words(self.options)) as self.listener:
                super().prepare()
            self.listener = shown
        else:
            super().prepare()
        if self.request.plan.jobs == 1 and self.lab.fleet is None:
            self.lab = replace(self.lab, meanwhile=import_reports)
        if self.options.record:
            from linklab.commands.gdb import check_symbols

            check_symbols(self.subjects)
            self.lab = self.lab.recording()
            self.listener(
                Note("--record: times count instructions and compare with no other run's")
            )

    def about(self) -> dict[str, Any]:
        """Return what run.json says of a run when it begins."""
        from linklab.trials.subjects import experiment

        options, plan, lab = self.options, self.request.plan, self.lab
        decided = {
            "accel": lab.accel.value,
            "clock": lab.clock.value,
            "memory": str(lab.memory),
            "seed": str(plan.seed),
            **options.decided({}),
        }
        return {
            ENTRY: stored_options(options, **decided),
            FILES: stored_files(options),
            **experiment(plan, lab),
            "source": options.kernels.source,
            **options.kernels.content(),
        }

    def measure(self) -> None:
        """Do all trials."""
        self._engine.run(self.subjects)

    @cached_property
    def _engine(self) -> Engine:
        from linklab.trials.engine import Engine

        return Engine(self.lab, self.request.plan, self.folder, self.listener)

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end, with what the scenario makes of the samples."""
        own: list[LinklabError] = []
        claims: list[dict[str, str]] = []
        try:
            claims += (claim.to_json() for claim in self.options.kind.claims(self.stored))
        except Exception as error:  # the author's, and no reason to lose what was measured
            text = f"the claims of scenario {self.options.kind.name} have a fault: {error!r}"
            own.append(LabError(text, traceback.format_exc().rstrip()))
        return self.ended([*faults, *own, *self._engine.faults], claims=claims)

    def table(self) -> RenderableType:
        """Return the run's table."""
        from linklab.report.tables import render

        return render(self.stored)

    def document(self) -> dict[str, Any]:
        """Return the run with its samples and claims."""
        return document(self.stored)

    def illustrate(self, finished: Finished) -> None:
        """Write the plots and the page."""
        from linklab.report.page import write_pages

        write_pages(finished.folder, self.stored)

    def closing(self, finished: Finished) -> str:
        """Return the verdict, and where the results and the page are."""
        from linklab.results.store import PAGE_FILE

        return f"{super().closing(finished)}   page: {finished.folder / PAGE_FILE}"

    def exports(self) -> tuple[ExportOptions, str, Sequence[str]]:
        """Return the files to export to, and what would fail as a whole."""
        options = self.options
        return options.exports, options.kind.name, options.kernels.names.split(",")

    def tell_times(self, seconds: dict[str, float]) -> None:
        """Say what each stage took, where that is asked for."""
        if self.options.timings:
            print_timings({"start of Python and Invoke": self._before, **seconds})


def main(options: RunOptions, command: Sequence[str]) -> Verdict:
    """Run, show what came out, and return the verdict."""
    return Running(options, command).carry_out()


def import_reports() -> None:
    """Import what shows a run: a tenth of a second, which the boot of the first guest hides."""
    from linklab import templating  # noqa: F401
    from linklab.report import page  # noqa: F401


def document(stored: Run) -> dict[str, Any]:
    """Return everything about a stored run, as JSON takes it."""
    return {
        "run": stored.document(),
        "samples": [sample.to_json() for sample in stored.samples],
        "claims": list(stored.about.get("claims") or ()),
    }


# --while-building


def _meanwhile(options: RunOptions) -> RunOptions:
    """Return the same run of the kernel that needs no building, which has none of its changes."""
    kernels = KernelOptions(options.while_building, modules=options.kernels.modules)
    return replace(options, kernels=kernels, while_building="")


def check_meanwhile(options: RunOptions) -> None:
    """Raise `UsageError` where `--while-building` names no kernel that is there already."""
    name = options.while_building
    if name in flavours() or "," in name:
        raise UsageError(f"--while-building {name}: one kernel that needs no building: debian")
    if options.as_json:
        raise UsageError("--while-building shows a table, and --json no more than one document")
    _meanwhile(options).kernels.check()


def meanwhile_words(options: RunOptions) -> list[str]:
    """Return the command of that run."""
    return shlex.split(command_of({ENTRY: stored_options(_meanwhile(options))}))


# --timings


def seconds_since_start(stat: Path = Path("/proc/self/stat")) -> float:
    """Return how long this process has lived, to the kernel's tick of 10 ms."""
    fields = stat.read_text().rpartition(")")[2].split()
    ticks = int(fields[19])  # starttime, the 22nd field of proc_pid_stat(5)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def print_timings(stages: Mapping[str, float]) -> None:
    """Print each stage to standard error; one that is part of another counts in both."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="where the time went", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage, seconds in stages.items():
        table.add_row(stage, f"{seconds:.3f}")
    table.add_row("whole command, so far", f"{seconds_since_start():.3f}")
    Console(file=sys.stderr, highlight=False).print(table)


# Options as they are stored, and back again


def stored_options(options: RunOptions, **decided: Any) -> dict[str, Any]:
    """Return the options by name, paths absolute, and `decided` in place of what was open."""
    kernels, machine = options.kernels.absolute(), options.machine.absolute()
    found = flat(replace(options.absolute(), kernels=kernels, machine=machine)) | decided
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in found.items()
        if name not in _OF_THE_COMMAND
    }


def hashes_of(*named: KernelOptions | MachineOptions | ScenarioOptions) -> dict[str, str]:
    """Return the SHA-256 of each file that options name, by its absolute path."""
    from linklab.host.cache import hash_file

    return {str(path.absolute()): hash_file(path) for each in named for path in each.files}


def stored_files(options: RunOptions) -> dict[str, str]:
    """Return the same of each file of a run."""
    return hashes_of(options.kernels, options.machine, options)


def revived(about: Mapping[str, Any], output: str, *, as_json: bool) -> RunOptions:
    """Return the options of a stored run, to run once more.

    Raises `UsageError` when it kept none, when this version does not know one
    of them, or when a file that they name is not what it was.
    """
    options = options_of(about)
    if about.get("kind"):
        raise repeated_by(about)
    if options is None:
        raise UsageError(
            "the run did not keep its options, so it cannot be repeated exactly. "
            f"This is how it was started: {command_of(about)}"
        )
    before = files_of(about)
    check_files(before)
    if unknown := options.keys() - (flat(RunOptions()).keys() - _OF_THE_COMMAND):
        named = ", ".join(f"--{name}" for name in sorted(unknown))
        raise UsageError(f"the run was done with {named}, which this version does not know")
    if missing := _ALWAYS - options.keys():
        raise UsageError(f"the run's options lack {', '.join(sorted(missing))}")
    again = replace(made(RunOptions, options), output=output, as_json=as_json)
    if FILES in about and (more := [path for path in stored_files(again) if path not in before]):
        raise UsageError(
            f"{more[0]} was not there when it was begun, and would be used now: "
            "put back what was there, or start a new one"
        )
    return again


def repeated_by(about: Mapping[str, Any]) -> UsageError:
    """Return why `rerun` does not do what another command did: that command does it."""
    return UsageError(f"this is no `invoke run`: repeat it by its command: {typed_command(about)}")


def check_files(files: Mapping[str, str]) -> None:
    """Raise `UsageError` where a file is not what it was, by its path and SHA-256."""
    from linklab.host.cache import hash_file

    for path, expected in files.items():
        try:
            found = hash_file(Path(path))
        except OSError as error:
            raise UsageError(
                f"{path}, which it was begun with, cannot be read: {error.strerror or error}"
            ) from error
        if found != expected:
            raise UsageError(
                f"{path} is not what it was begun with: its SHA-256 is {found}, "
                f"then it was {expected}"
            )
