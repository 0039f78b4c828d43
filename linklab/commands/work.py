"""What is measured and how often, as options: what every command that measures has in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from linklab.commands.guests import check_keep, hold_here
from linklab.commands.prepare import KernelOptions, MachineOptions
from linklab.errors import UsageError
from linklab.events import Listener
from linklab.lab.lab import Lab, choose_memory
from linklab.machine.spec import Clock
from linklab.options import amounts, number, numbers, option, seconds, split_list
from linklab.results.shape import CELL_SEPARATOR, Axis, Cell, Value
from linklab.scenarios import DEFAULT, names, scenario_named
from linklab.scenarios.scenario import Scenario
from linklab.trials.plan import Plan, cells_of

MAX_BLOCKS = 10_000
MAX_TRIALS = 1000
MAX_JOBS = 256
_SEEDS = 1 << 32
Values = Mapping[str, tuple[Value, ...]]


def _alias(name: str) -> Any:
    """Declare an option that is another name for an axis."""

    def valid() -> Iterable[str]:
        found = [axis for axis in scenario_named(DEFAULT).shape.axes if axis.alias == name]
        usual = [",".join(map(str, axis.values)) for axis in found]
        return ("all", *found[0].words) if found and found[0].words else usual

    help_text = f"values of the axis of {DEFAULT} that is called so, comma-separated"
    return option("", f"{help_text}; `invoke scenarios` says more", values=valid)


@dataclass(frozen=True)
class ScenarioOptions:
    """What is measured, as typed."""

    scenario: str = option(
        DEFAULT,
        "what to measure: a name that `invoke scenarios` lists, or the path of a file of one's own",
        values=names,
    )
    axis: tuple[str, ...] = option(
        (), "NAME=VALUE,VALUE: what to measure of an axis, or all; may be repeated"
    )
    param: tuple[str, ...] = option((), "NAME=VALUE: a parameter of the scenario; may be repeated")
    counts: str = _alias("counts")
    operations: str = _alias("operations")
    arms: str = _alias("arms")

    @property
    def kind(self) -> type[Scenario]:
        """The scenario. Raises `UsageError` for one that there is not."""
        return scenario_named(self.scenario)

    def values(self, defaults: Values) -> dict[str, tuple[Value, ...]]:
        """Return the values of each axis: as typed, else `defaults`, else the scenario's own."""
        axes = {axis.name: axis for axis in self.kind.shape.axes}
        typed: dict[str, tuple[str, str]] = {}
        for word in self.axis:
            name, equals, text = word.partition("=")
            if not equals or name not in axes:
                known = ", ".join(axes)
                raise UsageError(
                    f"--axis {word}: NAME=VALUE,VALUE is expected; axes of {self.kind.name} "
                    f"are {known}"
                )
            if name in typed:
                raise UsageError(f"--axis {name} is given twice: {name}=VALUE,VALUE names several")
            typed[name] = (f"axis {name}", text)
        for alias in ("counts", "operations", "arms"):
            if text := getattr(self, alias):
                name = next((a.name for a in axes.values() if a.alias == alias), "")
                if not name:
                    raise UsageError(
                        f"--{alias} {text}: {self.kind.name} has no such axis, but "
                        f"{', '.join(axes)}: --axis NAME=VALUE,VALUE"
                    )
                if name in typed:
                    raise UsageError(f"--{alias} and --axis {name} are the same: give one of them")
                typed[name] = (alias, text)
        return {
            name: _parsed(*typed[name], axis)
            if name in typed
            else tuple(defaults.get(name, axis.values))
            for name, axis in axes.items()
        }

    def given(self) -> dict[str, Value]:
        """Return the values of the scenario's parameters. Raises `UsageError`."""
        known = {each.name: each for each in self.kind.parameters}
        found: dict[str, Value] = {name: each.default for name, each in known.items()}
        for word in self.param:
            name, equals, text = word.partition("=")
            if not equals or name not in known:
                valid = f"are {', '.join(known)}" if known else "there are none"
                raise UsageError(
                    f"--param {word}: NAME=VALUE is expected; of {self.kind.name} {valid}"
                )
            found[name] = known[name].parse(text)
        return found

    def cells(self, defaults: Values) -> tuple[Cell, ...]:
        """Return what is to be measured; raise `UsageError` where that is nothing."""
        kind, values = self.kind, self.values(defaults)
        if cells := cells_of(kind, values):
            return cells
        refused = Cell((axis, each[0]) for axis, each in values.items())
        why = kind.refusal(refused)
        raise UsageError(f"none of it can be measured: {kind.shape.in_words(refused)}: {why}")

    def cell(self, defaults: Values) -> Cell:
        """Return what is to be measured where it is one cell. Raises `UsageError`."""
        for name, values in self.values(defaults).items():
            if len(values) != 1:
                raise UsageError(
                    f"one {name} is expected here, not {len(values)}: --axis {name}=VALUE"
                )
        return self.cells(defaults)[0]

    def plan(self, defaults: Values, **more: Any) -> Plan:
        """Return the plan of the work; raise `UsageError` where there would be none."""
        return Plan(self.scenario, self.cells(defaults), self.given(), **more)

    def decided(self, defaults: Values) -> dict[str, Any]:
        """Return the options by name with what was left open decided, to do the same again.

        In the same order: with the same seed it gives the same.
        """
        values = self.values(defaults).items()
        axes = [f"{name}={','.join(map(str, each))}" for name, each in values]
        given = [f"{name}={value}" for name, value in self.given().items()]
        return {"axis": axes, "param": given, "counts": "", "operations": "", "arms": ""}


def _parsed(label: str, text: str, axis: Axis) -> tuple[Value, ...]:
    if axis.is_numeric:
        if axis.is_whole:
            return numbers(label, text, int(axis.least), int(axis.most))
        return amounts(label, text, axis.least, axis.most)
    if text.strip() == "all":
        return axis.words
    words = split_list(label, text)
    for word in words:
        if word not in axis.words:
            raise UsageError(f"--{label} {word}: unknown; valid are {', '.join(axis.words)}")
    return tuple(words)


def typed_cell(label: str, text: str, kind: type[Scenario]) -> Cell:
    """Return the cell that a word names: `mtu/group/1024`. Raises `UsageError`."""
    axes = kind.shape.axes
    words = text.split(CELL_SEPARATOR)
    form = CELL_SEPARATOR.join(axis.name for axis in axes)
    if len(words) != len(axes):
        example = Cell((axis.name, axis.values[0]) for axis in axes).text
        raise UsageError(f"--{label} {text}: {form} is expected, such as {example}")
    values = [_parsed(label, word, axis) for word, axis in zip(words, axes, strict=True)]
    if any(len(each) != 1 for each in values):
        raise UsageError(f"--{label} {text}: one value for each of {form} is expected")
    cell = Cell((axis.name, each[0]) for axis, each in zip(axes, values, strict=True))
    if why := kind.refusal(cell):
        raise UsageError(f"--{label} {text}: {why}")
    return cell


@dataclass(frozen=True)
class LimitedOptions(ScenarioOptions):
    """The same, with a limit for each trial."""

    timeout: str = option("0", "seconds after which one trial counts as hung; default: by size")

    def plan(self, defaults: Values, **more: Any) -> Plan:
        """Return the plan of the work; raise `UsageError` where there would be none."""
        return super().plan(defaults, limit=seconds("timeout", self.timeout), **more)


@dataclass(frozen=True)
class ScheduleOptions:
    """In what order work is done, and how much of it at the same time, as typed."""

    seed: str = option(
        "",
        "the number that the order is drawn with, and in virtual time the guests' random "
        "numbers; default: a new one, recorded in run.json; in virtual time 0",
    )
    jobs: str = option(
        "",
        "guests at work side by side, each on cores of its own where there are enough; "
        "default 1, in virtual time one for each of the host's CPUs",
    )


@dataclass(frozen=True)
class TrialOptions(ScheduleOptions, LimitedOptions):
    """Work that is measured, in what order and in what guests."""

    keep: bool = option(
        False, "keep a guest that failed, its console on this terminal, until you leave it"
    )

    def trials_plan(self, clock: Clock, defaults: Values, **more: Any) -> Plan:
        """Return the plan of the work with its order; raise `UsageError` for what is wrong."""
        plan = self.plan(
            defaults,
            seed=seed_of(self.seed, clock),
            jobs=1 if self.keep and not self.jobs else jobs_of(self.jobs, clock),
            **more,
        )
        if self.keep:
            check_keep(plan.jobs)
        return plan

    def with_keeper(self, lab: Lab, listener: Listener) -> Lab:
        """Return a lab that leaves a guest that failed to a person, where that is asked for."""
        return replace(lab, hold=hold_here(listener)) if self.keep else lab


def seed_of(text: str, clock: Clock) -> int:
    """Return the seed of `--seed`; without one a new one, or 0 in virtual time.

    There the same command is to give the same figures.
    """
    drawn = 0 if clock is Clock.VIRTUAL else int.from_bytes(os.urandom(4))
    return number("seed", text or drawn, 0, _SEEDS - 1)


def jobs_of(text: str, clock: Clock) -> int:
    """Return the guests at work side by side; in virtual time as many as the host has CPUs.

    In real time they would disturb each other where nobody asked for it.
    """
    default = len(os.sched_getaffinity(0)) if clock is Clock.VIRTUAL else 1
    return number("jobs", text or min(default, MAX_JOBS), 1, MAX_JOBS)


def memory_for(machine: MachineOptions, plan: Plan, kernels: KernelOptions) -> int:
    """Return the guest's memory in MiB for a plan; raise `UsageError` if that cannot be."""
    cpus, asked = machine.checked_cpus(), machine.checked_memory()
    kind = plan.kind
    largest = max(plan.cells, key=lambda cell: kind.memory(cell, cpus))
    what = kind.shape.in_words(largest.of(kind.shape.per_guest)) or kind.name
    if asked is not None and (found := _what_fits(kind, largest, kernels.memory_left(asked), cpus)):
        typed, fits = found
        what = f"{typed}: {what} (at most {fits} fit into {asked} MiB)"
    return choose_memory(asked, kernels.memory(kind.memory(largest, cpus)), what)


def _what_fits(kind: type[Scenario], cell: Cell, memory: int, cpus: int) -> tuple[str, int] | None:
    """Return a set-up as it is typed, and the largest that fits, where one number decides it."""
    axes = [axis for axis in kind.shape.axes if axis.per_guest and axis.is_numeric]
    if len(axes) != 1:
        return None
    (axis,) = axes
    low, high = 0, int(axis.most)
    while low < high:
        middle = (low + high + 1) // 2
        fits = kind.memory(cell.with_(**{axis.name: middle}), cpus) <= memory
        low, high = (middle, high) if fits else (low, middle - 1)
    value = cell[axis.name]
    return (f"--{axis.alias} {value}" if axis.alias else f"--axis {axis.name}={value}"), low
