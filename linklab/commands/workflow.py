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

import json
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from linklab.commands.scenarios import ScenarioOptions, TrialOptions
from linklab.errors import Interrupted, LinklabError, UsageError, Verdict
from linklab.events import Listener, Note, Timings, ignore, timed
from linklab.options import ResultOptions, group, option
from linklab.paths import LIVE

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from rich.console import RenderableType

    from linklab.host.cache import Cache
    from linklab.image.userland import Entry
    from linklab.lab.lab import Fleet, Lab, Subject
    from linklab.lab.topology import Topology
    from linklab.results.model import Run
    from linklab.results.outcomes import Suite
    from linklab.results.store import RunFolder
    from linklab.trials.subjects import Requirements

TABLE = "table.txt"
_MAY_GO_ON = (None, Verdict.INTERRUPTED.value, Verdict.ERROR.value)


@dataclass(frozen=True)
class ResumeOptions(ResultOptions):
    """The options of a command that can go on where it was interrupted, as typed."""

    resume: str = option(
        "",
        "go on with what was interrupted, asked for as it was then: its folder, a part of its "
        "name, or `last`; nothing that was measured is measured again",
    )


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
        from linklab.kernel.kernel import build_ahead
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
            every = [self.place.kernels(side.options, self.network) for side in sides]
            builds = (build for options in every for build in options.builds())
            build_ahead(builds, self.cache, self.listener)
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
    defined_by: ClassVar[tuple[str, ...]] = ()  # entries that must be as they were to go on
    says_how_to_go_on = True  # where it was begun by the command that a person typed
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

    def joined(self, fleet: FleetOptions) -> Fleet | None:
        """Join a fleet until the end, if there is one."""
        return self.held.enter_context(fleet.joined(self.cache, self.listener))

    @property
    def _noun(self) -> str:
        from linklab.results.result_kinds import NOUN

        return NOUN.get(self.kind, "run")

    @property
    def resumes(self) -> str:
        """What is to be gone on with, as typed; nothing where it is a new one."""
        return self.options.resume if isinstance(self.options, ResumeOptions) else ""

    @cached_property
    def before(self) -> Run | None:
        """What is gone on with, if anything. Raises `UsageError` where that cannot be."""
        from linklab.results.history import find

        if not self.resumes:
            return None
        if self.options.output:
            raise UsageError("--resume and --output both name a folder: give one of them")
        return self.begun_in(find(self.resumes))

    def begun_in(self, folder: Path) -> Run:
        """Return what was begun in a folder. Raises `UsageError` where it cannot go on."""
        from linklab.results.store import read_about, read_run

        about, what = read_about(folder), self._noun
        if about.get("kind", "") != self.kind:
            raise UsageError(f"{folder} holds no {what}: name another folder")
        if about.get("verdict") not in _MAY_GO_ON:
            raise UsageError(
                f"the {what} in {folder} has come to its end ({about['verdict']}): a new one takes "
                "another folder, and `invoke show` prints this one"
            )
        self.options = replace(self.options, output=str(folder))
        return read_run(folder)

    def claimed(self, name: str = "") -> Path:
        """Return the folder: a new one, or that of what is gone on with. Raises `UsageError`."""
        from linklab.results.store import claim

        if self.before is not None:
            return Path(self.options.output)
        return claim(self.options.output, name or self.kind)

    def run(self) -> Finished:
        """Do all of it but show it, with options as what is gone on with has them."""
        _ = self.before
        return super().run()

    def work(self) -> Finished:
        """Do all of it while no other process is at the same record."""
        from linklab.results.store import held

        with held(self.request.folder, self._noun):
            return self._recorded()

    def _recorded(self) -> Finished:
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
        """Return the record: a new one, or the one to go on with where all is as it was."""
        from linklab.results.model import Run
        from linklab.results.store import RunFolder, utc_now

        before, folder = self.before, self.request.folder
        if before is None:
            return RunFolder(folder, about)
        now = Run(json.loads(json.dumps(about)), ())
        if found := [*self._changed(before, now)]:
            raise UsageError(
                f"{folder} cannot be gone on with, as not all is as it was: a new "
                f"{self._noun} takes another folder",
                "\n".join(found),
            )
        resumed = [*(before.about.get("resumed") or ()), utc_now()]
        return RunFolder.continued(folder, end=None, verdict=None, message="", resumed=resumed)

    def _changed(self, before: Run, now: Run) -> Iterator[str]:
        """Yield in what a command is not the one that is gone on with."""
        from linklab.report.compare import obstacles

        for each in obstacles(before, now):
            # A series has its kernels later, and on what machine they boot.
            if now.kernels or each.what != "machine type":
                yield f"{each.what}: {each.before} then, {each.now} now"
        was, are = ({kernel.name: kernel.sha256 for kernel in run.kernels} for run in (before, now))
        for name in dict.fromkeys((*was, *are)) if are else ():
            if name not in was:
                yield f"kernel {name} is new"
            elif are.get(name) != was[name]:
                yield f"kernel {name} is another one"
        plans = [{**run.plan, "jobs": None} for run in (before, now)]
        for name in dict.fromkeys((*plans[0], *plans[1])):
            then, wanted = (plan.get(name) for plan in plans)
            if then != wanted:
                yield f"plan, {name}: {then} then, {wanted} now"
        for name in self.defined_by:
            if before.about.get(name) != now.about.get(name):
                yield f"{name} is not what it was"

    def ended(
        self,
        faults: Sequence[LinklabError],
        verdict: Verdict = Verdict.PASS,
        message: str = "",
        **entries: Any,
    ) -> Finished:
        """Store the end; `verdict` and `message` are for one without faults.

        Of a fleet with which host ran which guests.
        """
        from linklab.results.store import utc_now

        if faults:
            verdict, message = faults[0].verdict, faults[0].message
        can_go_on = self.says_how_to_go_on and isinstance(self.options, ResumeOptions)
        if can_go_on and verdict.value in _MAY_GO_ON:
            again = [*_without_folder(self.command), "--resume", str(self.folder.path)]
            self.listener(Note(f"`{shlex.join(again)}` goes on"))
        if self.lab.fleet is not None:
            entries["hosts"] = self.lab.fleet.measured
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

    def begun_in(self, folder: Path) -> Run:
        """Return what was begun in a folder, of which what was drawn is drawn again."""
        before = super().begun_in(folder)
        if isinstance(self.options, TrialOptions) and not self.options.seed:
            self.options = replace(self.options, seed=str(before.plan["seed"]))
        return before

    def prepare(self) -> None:
        """Join the fleet, and prepare the lab and the kernels."""
        fleet = self.joined(self.options.fleet)
        super().prepare()
        self.lab = replace(self.lab, fleet=fleet)


def _without_folder(command: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command but for those that name a folder of results."""
    words = iter(command)
    for each in words:
        flag, equals, _ = each.partition("=")
        if flag not in ("--output", "--resume"):
            yield each
        elif not equals:
            next(words, None)


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
