"""`invoke sweep FILE`: a scenario over its axes, its parameters and kernels, all in one plan.

What is typed counts before what the file says. A parameter with several values becomes
an axis of which another value needs another guest. So a sweep is a run with more axes:
it is planned, measured, stored and read as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.exports import ExportOptions
from linklab.commands.fleet import FleetOptions
from linklab.commands.kernels import KernelOptions, KernelSide, kernel_sides, split_host
from linklab.commands.machines import MachineOptions
from linklab.commands.places import PlaceOptions
from linklab.commands.run import AUTO, KERNELS, Running, RunOptions, RunRequest, document, hashes_of
from linklab.commands.sweepfile import Asked, read, said_of
from linklab.commands.workflow import Finished, ResumeOptions
from linklab.errors import (
    LinklabError,
    UsageError,
    Verdict,
)
from linklab.events import Note
from linklab.host.cache import hash_file
from linklab.machine.spec import Clock
from linklab.numbers import seconds_text
from linklab.options import (
    flat,
    group,
    options_of,
    split_list,
    word,
)
from linklab.results.model import Run
from linklab.results.rerun_command import FILES
from linklab.results.result_kinds import SWEEP
from linklab.results.shape import Value, values_on
from linklab.results.store import RUN_FILE
from linklab.results.sweep import KERNEL, Check, Place, checked
from linklab.trials.plan import Plan, swept
from linklab.trials.subjects import experiment

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_CELLS = 10_000  # of all kernels: days, of trials that take seconds


@dataclass(frozen=True)
class SweepOptions(ResumeOptions):
    """The options of `invoke sweep`, as typed: those of `invoke run` count before the file's."""

    file: str = word(
        "a TOML file: a scenario, values of its axes and parameters, and what must hold",
        lambda: sorted(map(str, Path().glob("*.toml"))),
    )
    kernels: KernelOptions = group(KernelOptions, {"names": KERNELS}, names=AUTO)
    machine: MachineOptions = group(MachineOptions)
    place: PlaceOptions = group(PlaceOptions)
    fleet: FleetOptions = group(FleetOptions)
    trials: RunOptions = group(
        RunOptions,
        only=("repeat", "warmup", "fresh_guest", "seed", "jobs", "leaks", "timeout", "keep",
              "timings"),
    )  # fmt: skip
    exports: ExportOptions = group(ExportOptions)


def typed(options: SweepOptions, command: Sequence[str]) -> dict[str, Any]:
    """Return the options of `invoke run` that were typed, by name: they count before a file's."""
    known = {each.name: each for each in options_of(RunOptions)}
    usual = flat(SweepOptions())
    flags = {each.partition("=")[0] for each in command}
    return {
        name: value
        for name, value in flat(options).items()
        if name in known and (value != usual[name] or known[name].flag in flags)
    }


class Sweeping(Running):
    """`invoke sweep` at its work."""

    kind = SWEEP

    def __init__(self, asked: Asked, resume: str, *words: Any) -> None:
        super().__init__(replace(asked.options, resume=resume), *words)
        self._asked = asked
        self._checks: tuple[Check, ...] = ()

    def check(self) -> RunRequest:
        """Check every option, and every check against the cells that there will be."""
        if len(self._asked.varied.get("topology", ())) > 1:
            if self.place.is_guests:
                text = "--place guests: one topology at a time: name one, or --place spaces"
                raise UsageError(text)
            if self.place.capture:
                raise UsageError("--capture: one topology at a time: name one")
        with self._said("kernel:" if "kernel" in self._asked.content else ""):
            for side in self.sides():
                self.place.kernels(side.options, self.network).check()
        with self._said():
            self.options.machine.check(no_iso="a sweep boots many guests: use direct or resume")
            return super().check()

    def _said(self, where: str = "") -> AbstractContextManager[None]:
        return said_of(self._asked.file, self._asked.content, where)

    def sides(self) -> Sequence[KernelSide]:
        """Return the kernels; those with patches of their own under another name."""
        kernels = self.options.kernels.with_scenario(self.options.kind)
        return [KernelSide("", kernels)] if self.place.is_guests else kernel_sides(kernels)

    @property
    def _kernel_names(self) -> list[str]:
        labels = [side.label for side in self.sides() if side.label]
        names = split_list("kernel", self.options.kernels.names)
        if self.place.is_guests and any(split_host(name)[0] for name in names):
            return [" ".join(sorted(names, key=lambda name: bool(split_host(name)[0])))]
        return labels or names

    @cached_property
    def before(self) -> Run | None:
        """The sweep to go on with, if there is one. Raises `UsageError` where it cannot be."""
        output = Path(self.options.output)
        if self.resumes or not (self.options.output and (output / RUN_FILE).is_file()):
            return super().before
        return self.begun_in(output)

    def begun_in(self, folder: Path) -> Run:
        """Return the sweep that was begun in a folder: of the same file."""
        before = super().begun_in(folder)
        if before.about.get(SWEEP, {}).get("content") != self._asked.content:
            raise UsageError(
                f"{folder} was begun with another content of {self._asked.file.name}: a new sweep "
                "takes another folder; --resume takes the file as it was"
            )
        return before

    def planned(self, clock: Clock) -> Plan:
        """Return the plan: of each set of parameters every cell. Raises `UsageError`."""
        every = (*self.options.values({}).values(), *self._asked.varied.values())
        if (cells := prod(map(len, every)) * len(self._kernel_names)) > MOST_CELLS:
            raise UsageError(
                f"{self._asked.file}: {cells} cells of all kernels: at most {MOST_CELLS} are "
                "measured in one sweep: name fewer values, or write several files"
            )
        plan = swept(super().planned(clock), self._asked.varied, self._asked.rows)
        for cell in plan.cells:
            if why := plan.kind.conflict(plan.known(cell), plan.given_in(cell)):
                raise UsageError(f"{self._asked.file}: {plan.shape.in_words(cell)}: {why}")
        self._checks = tuple(self._checks_on(plan))
        self.listener(Note(f"{self._asked.file.name}: {_amount(plan, len(self._kernel_names))}"))
        return plan

    def _checks_on(self, plan: Plan) -> Iterator[Check]:
        """Yield the checks by axes. Raises `UsageError` for a cell that is not measured."""
        kernels = self._kernel_names
        measured = {Place(kernel, cell) for kernel in kernels for cell in plan.cells}
        for number, said in enumerate(self._asked.checks, 1):
            name = f"{self._asked.file}: check {number}"
            where, against = (
                dict(self._chosen(f"{name}: {key}", said.get(key, {}), plan))
                for key in ("where", "against")
            )
            if several := [axis for axis, each in against.items() if len(each) > 1]:
                raise UsageError(
                    f"{name}: against has several values of {several[0]}: one is expected"
                )
            check = Check(
                said.get("metric", plan.shape.metric.name), said.get("at-least"),
                said.get("at-most"), where, {axis: each[0] for axis, each in against.items()},
            )  # fmt: skip
            places = list(check.places(kernels, plan.cells))
            if not places:
                raise UsageError(f"{name} is of no cell: none has all of what its where says")
            for place in places if against else ():
                if (other := place.moved(check.against)) not in measured:
                    cell = plan.shape.in_words(other.cell)
                    raise UsageError(f"{name}: against is not measured: {cell} on {other.kernel}")
            yield check

    def _chosen(
        self, name: str, table: Mapping[str, Any], plan: Plan
    ) -> Iterator[tuple[str, tuple[Value, ...]]]:
        """Yield what a check chooses on each axis: of values that are measured."""
        axes = {axis.parameter or axis.name: axis.name for axis in plan.shape.axes}
        fixed = {key: [value] for key, value in plan.given.items()}
        for key, typed_value in table.items():
            values = typed_value if isinstance(typed_value, list) else [typed_value]
            if key == KERNEL:
                known: Sequence[Value] = self._kernel_names
            else:
                known = values_on(axes[key], plan.cells) if key in axes else fixed[key]
            found = [self._as_measured(name, key, value, known, plan) for value in values]
            if key in axes or key == KERNEL:
                yield axes.get(key, key), tuple(found)

    def _as_measured(
        self, name: str, key: str, value: Value, known: Sequence[Value], plan: Plan
    ) -> Value:
        parameter = next((each for each in plan.kind.parameters if each.name == key), None)
        if parameter is not None and parameter.reader is not None:
            with self._said():
                value = parameter.parse(str(value))
        for each in known:
            if each == value:
                return each
        raise UsageError(
            f"{name}: {key} {value} is not measured: the sweep has {', '.join(map(str, known))}"
        )

    # At work

    def claimed(self, _name: str = "") -> Path:
        """Return the folder: a new one, or that of the sweep to go on with."""
        return super().claimed(SWEEP)

    def about(self) -> dict[str, Any]:
        """Return what run.json says of a sweep when it begins."""
        plan, sides = self.request.plan, self.sides()
        files = hashes_of(self.options.machine, self.options, *(side.options for side in sides))
        content = [
            {"name": s.label, "source": s.options.source, **s.options.content()} for s in sides
        ]
        return {
            FILES: {str(self._asked.file.absolute()): hash_file(self._asked.file), **files},
            **experiment(plan, self.lab),
            **({"sides": content} if len(sides) > 1 else content[0]),
            SWEEP: {
                "content": self._asked.content,
                "metrics": list(self._asked.metrics),
                "checks": [check.to_json() for check in self._checks],
            },
        }

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end. A check that does not hold is a fail."""
        faults = [*faults, *self._engine.faults]
        wrong = [each for each in checked(self.stored) if not each.holds]
        if faults or not wrong:
            return self.ended(faults)
        more = f", and {len(wrong) - 1} more checks do not hold" if len(wrong) > 1 else ""
        message = f"{wrong[0].text(self.stored.shape)}{more}"
        return self.ended((), Verdict.FAIL, message)

    def table(self) -> RenderableType:
        """Return the matrix, and what became of the checks."""
        from linklab.report.sweep import render

        return render(self.stored)

    def closing(self, finished: Finished) -> str:
        """Return the verdict, where the results are, and which check does not hold."""
        said = "" if finished.faults else str(self.stored.about.get("message") or "")
        return "\n".join(filter(None, (super().closing(finished), said)))

    def document(self) -> dict[str, Any]:
        """Return the sweep with its samples and what became of its checks."""
        from linklab.report.sweep import checks_document

        return {**document(self.stored), "checks": checks_document(self.stored)}


def _amount(plan: Plan, kernels: int) -> str:
    """Return how much a sweep measures; of a scenario whose trials last so many seconds, how long.

    Those are the guest's: in virtual time a host may take more or less.
    """
    each = plan.warmup_rounds + plan.repeat
    cells = f"{len(plan.cells)} cells on {kernels} kernel{'s' * (kernels > 1)}"
    text = f"{len(plan.cells) * kernels * each} trials: {cells}, {each} of each"
    found = (plan.given_in(cell).get("seconds") for cell in plan.cells)
    if seconds := sum(float(value) for value in found if value is not None):
        text += f"; up to {seconds_text(seconds * kernels * each)} s of the guests' time"
    return text


def main(options: SweepOptions, command: Sequence[str]) -> Verdict:
    """Sweep, show what came out, and return the verdict."""
    asked = read(Path(options.file), typed(options, command))
    return Sweeping(asked, options.resume, command).carry_out()
