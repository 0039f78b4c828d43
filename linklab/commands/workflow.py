"""The workflow of every command that tests kernels and keeps what comes of it.

Check the options, claim the folder, set up the lab, build the kernels, save
their guests, begin the folder's record, do the work, store how it ended, show
it and export it: in this order for each of them, so that a wrong option is
refused before anything is claimed or built, what cannot be begun leaves
nothing behind, and what was begun is kept however it ends. A command is a
subclass that says what is its own: of `LabWork` where it measures a scenario,
of `RunRecord` where its record is a `run.json`, of `Measurement` where both are
so, of `Workflow` in any case.
"""

from __future__ import annotations

import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from linklab.commands.exit_status import print_document, print_shown, show_fault
from linklab.commands.exports import ExportOptions, failure_written, write_exports
from linklab.commands.fleet import FleetOptions
from linklab.commands.kernels import KernelOptions, KernelSide, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.commands.places import PlaceOptions
from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import Interrupted, LinklabError, Verdict
from linklab.events import Listener, Note, Timings, ignore, timed
from linklab.options import ResultOptions, group
from linklab.paths import LIVE

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from rich.console import RenderableType

    from linklab.host.cache import Cache
    from linklab.image.userland import Entry
    from linklab.lab.lab import Lab, Subject
    from linklab.lab.topology import Topology
    from linklab.results.model import Run
    from linklab.results.outcomes import Suite
    from linklab.results.store import RunFolder
    from linklab.trials.subjects import Requirements

TABLE = "table.txt"


@dataclass(frozen=True)
class MeasuringOptions(ResultOptions, ScenarioOptions):
    """The options of a command that measures a scenario on machines, as typed."""

    machine: MachineOptions = group(MachineOptions)
    place: PlaceOptions = group(PlaceOptions)
    fleet: FleetOptions = group(FleetOptions)


@dataclass(frozen=True)
class Request:
    """What a command was asked for, checked: nothing was started, and its folder is claimed."""

    folder: Path


@dataclass(frozen=True)
class LabRequest(Request):
    """The same of a command that measures a scenario; `memory` is each guest's, in MiB."""

    memory: int


@dataclass(frozen=True)
class Finished:
    """What is over and on disk; the first of the faults gives the verdict."""

    folder: Path
    verdict: Verdict = Verdict.PASS
    faults: Sequence[LinklabError] = ()


Asked = TypeVar("Asked", bound=ResultOptions)
Measured = TypeVar("Measured", bound=MeasuringOptions)
Checked = TypeVar("Checked", bound=Request)
Ready = TypeVar("Ready", bound=LabRequest)


class Workflow(ABC, Generic[Asked, Checked]):
    """One command at its work. `request` is there once the options are checked."""

    request: Checked

    def __init__(
        self, options: Asked, command: Sequence[str] = (), listener: Listener = ignore
    ) -> None:
        self.options = options
        self.command = command
        self.listener = listener
        self.held = ExitStack()  # what is given back at the end

    # What is a command's own

    @abstractmethod
    def check(self) -> Checked:
        """Check every option that can be checked without building anything, then claim a folder.

        Raises `UsageError`.
        """

    @abstractmethod
    def work(self) -> Finished:
        """Do the work, and store it. What it raises ends the command."""

    @abstractmethod
    def table(self) -> RenderableType:
        """Return what a person is shown."""

    def text(self) -> str:
        """Return what the file with the table holds."""
        from linklab.report.grid import plain_text

        return plain_text(self.table())

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Return what a script is told beside `where`."""

    def where(self, finished: Finished) -> dict[str, str]:
        """Return where the results are, for a script."""
        return {"folder": str(finished.folder)}

    def closing(self, finished: Finished) -> str:
        """Return what a person is told below the table."""
        return f"verdict: {finished.verdict.value}   results: {finished.folder}"

    def exports(self) -> tuple[ExportOptions, str, Sequence[str]]:
        """Return the files to export to, and what and which kernels would fail as a whole."""
        return ExportOptions(), "", ()

    def suites(self) -> Sequence[Suite]:
        """Return what is exported."""
        return ()

    # What is the same for all

    def carry_out(self) -> Verdict:
        """Do all of it, show it, and return the verdict."""
        from linklab.report.progress import progress

        exports, name, kernels = self.exports()
        with progress() as shown, failure_written(exports, name, kernels):
            self.listener = times = Timings(shown)
            finished = self.run()
        with timed(self.listener, "table and files"):
            try:
                self.present(finished)
            finally:  # who reads only the table's beginning gets the files all the same
                if exports.files():
                    write_exports(exports, self.suites())
        self.tell_times(times.seconds)
        for fault in finished.faults:
            show_fault(fault)
        return finished.verdict

    def run(self) -> Finished:
        """Do all of it but show it. Raises `LinklabError` where there is nothing to keep."""
        from linklab.results.store import removed_if_empty

        with timed(self.listener, "check the options"):
            self.request = self.check()
        with removed_if_empty(self.request.folder), self.held:
            return self.work()

    def present(self, finished: Finished) -> None:
        """Write the table, and show it to a person, or all of it as one document to a script."""
        (finished.folder / TABLE).write_text(self.text(), encoding="utf-8")
        try:
            if self.options.as_json:
                print_document({**self.where(finished), **self.document()})
            else:
                print_shown(self.table())
                print(f"\n{self.closing(finished)}")
            sys.stdout.flush()
        finally:
            self.illustrate(finished)

    def illustrate(self, finished: Finished) -> None:
        """Write the page and the like, for which nobody is to wait who reads the table."""

    def tell_times(self, _seconds: dict[str, float]) -> None:
        """Say what each stage took, where that is asked for."""

    @cached_property
    def cache(self) -> Cache:
        """The store of what is built."""
        from linklab.host.cache import Cache

        return Cache()


class LabWork(Workflow[Measured, Ready]):
    """A command that measures a scenario on some kernels: `lab` and `subjects` once prepared."""

    saves_guests: ClassVar[bool] = True  # with --boot resume, before the work begins
    lab: Lab
    subjects: Sequence[Subject] = ()

    @property
    def machine(self) -> MachineOptions:
        """The machine's options, with what the command decides of them."""
        return self.place.machine(self.options.machine, self.options.kind)

    @property
    def place(self) -> PlaceOptions:
        """Where the hosts of a topology are, as typed."""
        return self.options.place

    @cached_property
    def network(self) -> Topology | None:
        """The topology of the scenario, if it has one."""
        return self.options.kind.network(self.options.given())

    @property
    def image(self) -> Path:
        """The folder of the image that guests boot."""
        return self.options.kind.image or LIVE

    @property
    def more(self) -> tuple[Entry, ...]:
        """What the image has beyond its manifest."""
        return ()

    @property
    def comparisons(self) -> int:
        """How many comparisons are corrected together."""
        return 1

    @abstractmethod
    def sides(self) -> Sequence[KernelSide]:
        """Return what kernels are tested; those of different sides are compared."""

    def prepare(self) -> None:
        """Set up the lab, build the kernels, and save their guests where they are resumed."""
        from linklab.machine.spec import Boot
        from linklab.trials.subjects import Requirements

        with timed(self.listener, "machine and image"):
            memory = self.request.memory
            lab = set_up_lab(self.machine, memory, self.cache, self.listener, self.image, self.more)
            lab = self.options.with_hold(lab, self.listener)
            lab = replace(lab, boots=self.options.saved_guests(lab.clock, self.comparisons))
            self.lab = self.place.lab(lab, self.network, self.cache, self.listener)
        with timed(self.listener, "kernels"):
            wanted = Requirements.of(self.options.kind, self.lab)
            wanted = replace(wanted, image=self.image, more=self.more)
            sides = self.sides()
            self.subjects = [
                replace(subject, name=side.label or subject.name)
                for side in sides
                for subject in self._built(side.options, wanted)
            ]
            if len(sides) > 1:
                self.lab = on_one_machine(self.lab, self.subjects, self.listener)
        if self.saves_guests and self.lab.boot is Boot.RESUME:
            with timed(self.listener, "saved guests"):
                self.lab = self.lab.with_snapshots(self.subjects, self.cache, self.listener)

    def _built(self, options: KernelOptions, wanted: Requirements) -> Sequence[Subject]:
        kernels = self.place.kernels(options, self.network)
        built = prepare_subjects(kernels, wanted, self.cache, self.listener)
        return self.place.subjects(options.names, built, self.network)


class RunRecord(Workflow[Asked, Checked]):
    """A command whose record is a `run.json` of some `kind`, in `folder` once it has begun."""

    kind: ClassVar[str] = ""
    lab: Lab
    subjects: Sequence[Subject]
    folder: RunFolder

    @abstractmethod
    def prepare(self) -> None:
        """Make all that the work needs. Where that fails, nothing is left behind."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what run.json says of it when it begins, beside what is the same for all."""

    @abstractmethod
    def measure(self) -> None:
        """Do the work. What it raises is the verdict, and what was done by then is kept."""

    @abstractmethod
    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Return what came of it by `ended`."""

    def work(self) -> Finished:
        """Prepare, begin the record, measure, and store how it ended."""
        from linklab.trials.subjects import tested_on

        self.prepare()
        about = {
            **({"kind": self.kind} if self.kind else {}),
            "command": shlex.join(self.command),
            **tested_on(self.lab, self.subjects),
            **self.about(),
        }
        self.folder = self.begun(about)
        return self.finish(stopped_by(self.measure))

    def begun(self, about: Mapping[str, Any]) -> RunFolder:
        """Return the record, begun with what run.json says."""
        from linklab.results.store import RunFolder

        return RunFolder(self.request.folder, about)

    def ended(
        self,
        faults: Sequence[LinklabError],
        verdict: Verdict = Verdict.PASS,
        message: str = "",
        **entries: Any,
    ) -> Finished:
        """Store the end; `verdict` and `message` are for one without faults."""
        from linklab.results.store import utc_now

        if faults:
            verdict, message = faults[0].verdict, faults[0].message
        self.folder.update(**entries, end=utc_now(), verdict=verdict.value, message=message)
        return Finished(self.folder.path, verdict, faults)

    @property
    def stored(self) -> Run:
        """What is on disk."""
        return self.folder.run

    def suites(self) -> Sequence[Suite]:
        """Return what is exported."""
        from linklab.results.suites import suites_of

        return suites_of(self.stored)


class Measurement(LabWork[Measured, Ready], RunRecord[Measured, Ready]):
    """A command that measures a scenario, and whose record is a `run.json`."""

    def run(self) -> Finished:
        """Do all of it but show it, on other hosts where that is asked for."""
        self.options.fleet.check(keeps=self.options.keep)
        return super().run()

    def prepare(self) -> None:
        """Prepare the lab and the kernels, and join the fleet."""
        super().prepare()
        self.lab = self.held.enter_context(self.options.fleet.joined(self.lab, self.listener))

    def ended(self, faults: Sequence[LinklabError], *words: Any, **entries: Any) -> Finished:
        """Store the end, and which host of a fleet ran which guests."""
        if self.lab.fleet is not None:
            entries["hosts"] = self.lab.fleet.measured
        return super().ended(faults, *words, **entries)


def stopped_by(work: Callable[[], object]) -> list[LinklabError]:
    """Do some work and return what ended it early, if anything did."""
    try:
        work()
    except KeyboardInterrupt:
        return [Interrupted("what was done so far is kept")]
    except LinklabError as error:
        return [error]
    return []


def on_one_machine(lab: Lab, subjects: Sequence[Subject], listener: Listener) -> Lab:
    """Return a lab that boots all of them on machines of one type, or their seconds say nothing."""
    from linklab.machine.spec import MachineType

    types = {subject.name: lab.machine_for(subject) for subject in subjects}
    if len(set(types.values())) == 1:
        return lab
    own = ", ".join(f"{name} on {machine}" for name, machine in types.items())
    listener(Note(f"left alone they boot on different machines ({own}): both on pc"))
    return replace(lab, machine=MachineType.PC)
