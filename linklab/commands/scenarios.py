"""What is measured and how often, as options of every command that measures; and what there is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from linklab.commands.exit_status import print_document, print_shown
from linklab.commands.guests import check_keep, hold_here
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.errors import UsageError
from linklab.events import Listener
from linklab.options import JSON, amounts, choose, number, numbers, option, seconds, split_list
from linklab.scenarios import DEFAULT, names, own_file, scenario_named

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from linklab.lab.lab import Lab
    from linklab.machine.spec import Clock
    from linklab.results.shape import Axis, Cell, Metric, Shape, Value
    from linklab.scenarios.scenario import Preset, Scenario
    from linklab.trials.plan import Plan

MAX_BLOCKS = 10_000
MAX_TRIALS = 1000
MAX_JOBS = 256
DEFAULT_BLOCKS = {"real": "20", "virtual": "10"}  # by the clock, as the two below
DEFAULT_BOOTS = {"real": 12, "virtual": 1}
"""Saved guests of a kernel: as many as all ways to exchange them are tried of; fewer than six
show nothing at all. In virtual time boots do not differ (docs/certainty.md)."""
DEFAULT_TRIALS = {"real": "5", "virtual": "3"}
METRIC = "which metric of the scenario counts; default: its first"
_OTHER_NAMES = ("cell", "counts", "operations", "arms")  # than --axis
_BETTER = {"less": "less is better", "more": "more is better", "neither": ""}
Values = Mapping[str, "tuple[Value, ...]"]


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
    """What is measured, and what becomes of a guest that fails in it, as typed."""

    scenario: str = option(
        DEFAULT,
        "what to measure: a name that `invoke scenarios` lists, or the path of a file of one's own",
        values=names,
    )
    axis: tuple[str, ...] = option(
        (), "NAME=VALUE,VALUE: what to measure of an axis, or all; may be repeated"
    )
    cell: str = option("", "AXIS=VALUE,AXIS=VALUE: one value of each axis that is named")
    param: tuple[str, ...] = option((), "NAME=VALUE: a parameter of the scenario; may be repeated")
    counts: str = _alias("counts")
    operations: str = _alias("operations")
    arms: str = _alias("arms")
    timeout: str = option("0", "seconds after which one trial counts as hung; default: by size")
    keep: bool = option(
        False, "keep a guest that failed, its console on this terminal, until you leave it"
    )

    @property
    def kind(self) -> type[Scenario]:
        """The scenario. Raises `UsageError` for one that there is not."""
        return scenario_named(self.scenario)

    def saved_guests(self, _clock: Clock, _comparisons: int) -> int:
        """Return how many guests are saved of each kernel, where guests go on from saved ones.

        So many `comparisons` are corrected together.
        """
        return 1

    def absolute(self) -> Self:
        """Return the options with every path absolute."""
        return replace(self, scenario=str(own_file(self.scenario) or self.scenario))

    @property
    def files(self) -> list[Path]:
        """The files that the options name."""
        own = own_file(self.scenario)
        return [own] if own else []

    def values(self, defaults: Values) -> dict[str, tuple[Value, ...]]:
        """Return the values of each axis: as typed, else a preset's, else the scenario's own.

        `defaults` take the place of the scenario's own.
        """
        preset = self._preset()
        defaults = {**defaults, **(preset.axes if preset else {})}
        axes = {axis.name: axis for axis in self.kind.shape.axes}
        typed: dict[str, tuple[str, str]] = {}
        for label, name, text in self._typed(axes):
            if name in typed and (other := typed[name][0]) != label:
                raise UsageError(f"--{label} and --{other} are the same: give one of them")
            if name in typed:
                raise UsageError(f"--{label} is given twice: {name}=VALUE,VALUE names several")
            typed[name] = (label, text)
        return {
            name: _parsed(*typed[name], axis)
            if name in typed
            else tuple(defaults.get(name, axis.values))
            for name, axis in axes.items()
        }

    def _typed(self, axes: Mapping[str, Axis]) -> Iterator[tuple[str, str, str]]:
        """Yield what was typed of axes: how a message calls it, the axis, and its values."""
        cell = split_list("cell", self.cell) if self.cell else []
        for option_name, form, words in (
            ("axis", "NAME=VALUE,VALUE", self.axis),
            ("cell", "AXIS=VALUE,AXIS=VALUE", cell),
        ):
            for word in words:
                name, equals, text = word.partition("=")
                if not equals or name not in axes:
                    raise UsageError(
                        f"--{option_name} {word}: {form} is expected; axes of {self.kind.name} "
                        f"are {', '.join(axes)}"
                    )
                yield f"{option_name} {name}", name, text
        for alias in ("counts", "operations", "arms"):
            if text := getattr(self, alias):
                name = next((a.name for a in axes.values() if a.alias == alias), "")
                if not name:
                    raise UsageError(
                        f"--{alias} {text}: {self.kind.name} has no such axis, but "
                        f"{', '.join(axes)}: --axis NAME=VALUE,VALUE"
                    )
                yield alias, name, text

    def given(self) -> dict[str, Value]:
        """Return the values of the scenario's parameters. Raises `UsageError`."""
        known = {each.name: each for each in self.kind.parameters}
        preset = self._preset()
        found: dict[str, Value] = {name: each.default for name, each in known.items()}
        found.update(preset.given if preset else {})
        for word in self.param:
            name, equals, text = word.partition("=")
            if not equals or name not in known:
                valid = f"are {', '.join(known)}" if known else "there are none"
                raise UsageError(
                    f"--param {word}: NAME=VALUE is expected; of {self.kind.name} {valid}"
                )
            found[name] = known[name].parse(text)
        return found

    def _preset(self) -> Preset | None:
        """Return the preset that is asked for, if one is. Raises `UsageError`."""
        words = [word for word in self.param if word.startswith("preset=")]
        parameters = [each for each in self.kind.parameters if each.name == "preset"]
        if not words or not parameters or not self.kind.presets:
            return None
        return self.kind.presets.get(str(parameters[0].parse(words[-1].partition("=")[2])))

    def cells(self, defaults: Values) -> tuple[Cell, ...]:
        """Return what is to be measured; raise `UsageError` where that is nothing."""
        from linklab.results.shape import Cell
        from linklab.trials.plan import cells_of

        kind, values = self.kind, self.values(defaults)
        if cells := cells_of(kind, values):
            return cells
        refused = Cell((axis, each[0]) for axis, each in values.items())
        why = kind.refusal(refused)
        raise UsageError(f"none of it can be measured: {kind.shape.in_words(refused)}: {why}")

    def plan(self, defaults: Values, **more: Any) -> Plan:
        """Return the plan of the work; raise `UsageError` where there would be none."""
        from linklab.trials.plan import Plan

        limit = seconds("timeout", self.timeout)
        cells, given = self.cells(defaults), self.given()
        for cell in cells:
            if why := self.kind.conflict(cell, given):
                raise UsageError(f"{self.kind.shape.in_words(cell)}: {why}")
        plan = Plan(self.scenario, cells, given, limit=limit, **more)
        if self.keep:
            check_keep(plan.jobs)
        return plan

    def cell_plan(self, defaults: Values, **more: Any) -> Plan:
        """Return the plan of work on one cell. Raises `UsageError` where there are several."""
        for name, values in self.values(defaults).items():
            if len(values) != 1:
                raise UsageError(
                    f"one {name} is expected here, not {len(values)}: --cell {name}=VALUE"
                )
        return self.plan(defaults, **more)

    def with_hold(self, lab: Lab, listener: Listener) -> Lab:
        """Return a lab that leaves a guest that failed to a person, where that is asked for."""
        return replace(lab, hold=hold_here(listener)) if self.keep else lab

    def decided(self, defaults: Values) -> dict[str, Any]:
        """Return the options by name with what was left open decided, to do the same again.

        In the same order: with the same seed it gives the same.
        """
        values = self.values(defaults).items()
        axes = [f"{name}={','.join(map(str, each))}" for name, each in values]
        given = [f"{name}={value}" for name, value in self.given().items()]
        return {"axis": axes, "param": given, **dict.fromkeys(_OTHER_NAMES, "")}


def _parsed(label: str, text: str, axis: Axis) -> tuple[Value, ...]:
    if axis.is_numeric:
        if axis.is_whole:
            return numbers(label, text, int(axis.least), int(axis.most))
        return amounts(label, text, axis.least, axis.most)
    if text.strip() == "all":
        return axis.words
    words = split_list(label, text)
    for word in words:
        if word not in axis.words and not (axis.open and re.fullmatch(r"[a-z]\w*", word)):
            raise UsageError(f"--{label} {word}: unknown; valid are {', '.join(axis.words)}")
    return tuple(words)


def _leaks() -> Iterable[str]:
    from linklab.trials.plan import Leaks

    return Leaks


@dataclass(frozen=True)
class LeakOptions(ScenarioOptions):
    """The same, and what is looked for when it is done."""

    leaks: str = option(
        "cheap",
        "what work is repeated before a guest ends and all is deleted, to see what the kernel "
        "keeps: cheap, all, or none, and then nothing is deleted either",
        values=_leaks,
    )

    def plan(self, defaults: Values, **more: Any) -> Plan:
        """Return the plan of the work; raise `UsageError` where there would be none."""
        from linklab.trials.plan import Leaks

        return super().plan(defaults, leaks=choose("leaks", self.leaks, Leaks), **more)


@dataclass(frozen=True)
class TrialOptions(LeakOptions):
    """Work that is measured, in what order, and how much of it at the same time, as typed."""

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

    def trials_plan(self, clock: Clock, defaults: Values, **more: Any) -> Plan:
        """Return the plan of the work with its order; raise `UsageError` for what is wrong."""
        return self.plan(
            defaults,
            seed=seed_of(self.seed, clock),
            jobs=1 if self.keep and not self.jobs else jobs_of(self.jobs, clock),
            apart=self.kind.apart and clock == "virtual",
            **more,
        )


@dataclass(frozen=True)
class BlockOptions(TrialOptions):
    """Kernels that are measured beside each other in blocks, and by what, as typed."""

    metric: str = option("", METRIC)
    blocks: str = option(
        "",
        "how often each kernel is measured, each time in a fresh guest; default 20, in virtual "
        "time 10, of a series as many or more where so many comparisons need them",
    )
    trials: str = option(
        "",
        "trials in each guest, of which the median is the guest's value; default 5, in virtual "
        "time 3",
    )

    boots: str = option(
        "",
        "saved guests of each kernel, with --boot resume, that blocks are spread over; default "
        "12, or more where so many comparisons need them, in virtual time, where boots do not "
        "differ, 1",
    )

    def saved_guests(self, clock: Clock, comparisons: int) -> int:
        """Return how many guests are saved of each kernel, more where fewer could not show it.

        Raises `UsageError`.
        """
        usual = DEFAULT_BOOTS[clock]
        if usual > 1:
            from linklab.results.comparison import Rule, fewest_blocks

            usual = max(usual, fewest_blocks(Rule(), comparisons))
        return number("boots", self.boots or usual, 1, MAX_BLOCKS)

    @property
    def measured(self) -> Metric:
        """The metric that counts. Raises `UsageError` for one that there is not."""
        return metric_of(self.kind.shape, self.metric)

    def block_plan(self, clock: Clock, defaults: Values, warmup: str = "") -> Plan:
        """Return the plan of the blocks; raise `UsageError` for what is wrong.

        `warmup` are the trials of a guest that are thrown away, by default one where
        there are several.
        """
        trials = number("trials", self.trials or DEFAULT_TRIALS[clock], 1, MAX_TRIALS)
        self.saved_guests(clock, 1)
        return self.trials_plan(
            clock,
            defaults,
            repeat=number("blocks", self.blocks or DEFAULT_BLOCKS[clock], 2, MAX_BLOCKS),
            fresh_guest=True,
            trials=trials,
            warmup_trials=number("warmup", warmup or int(trials > 1), 0, MAX_TRIALS),
        )


def metric_of(shape: Shape, name: str) -> Metric:
    """Return the metric that counts. Raises `UsageError` for one that there is not."""
    from linklab.results.codec import SchemaError

    try:
        return shape.metric_named(name) if name else shape.metric
    except SchemaError as error:
        raise UsageError(f"--metric {error}") from None


def no_share(metric: Metric, option: str, text: str) -> UsageError:
    """Return why a metric that may be 0 has no smallest share that matters."""
    return UsageError(
        f"--{option} {text}: {metric.name} may be 0, so it is compared by its difference, and what "
        f"matters of that the scenario says ({metric.matters:g} {metric.unit}".rstrip()
        + ")"
    )


def seed_of(text: str, clock: Clock) -> int:
    """Return the seed of `--seed`; without one a new one, or 0 in virtual time.

    There the same command is to give the same figures.
    """
    from linklab.trials.plan import SEEDS, new_seed

    return number("seed", text or new_seed(clock), 0, SEEDS - 1)


def jobs_of(text: str, clock: Clock) -> int:
    """Return the guests at work side by side; in virtual time as many as the host has CPUs.

    In real time they would disturb each other where nobody asked for it.
    """
    default = len(os.sched_getaffinity(0)) if clock == "virtual" else 1
    return number("jobs", text or min(default, MAX_JOBS), 1, MAX_JOBS)


def memory_for(machine: MachineOptions, plan: Plan, kernels: KernelOptions) -> int:
    """Return the guest's memory in MiB for a plan; raise `UsageError` if that cannot be."""
    from linklab.lab.lab import choose_memory
    from linklab.lab.spaces import memory as memory_of

    cpus, asked = machine.checked_cpus(), machine.checked_memory()
    kind = plan.kind
    largest = max(map(plan.whole, plan.cells), key=lambda cell: kind.memory(cell, cpus))
    what = kind.shape.in_words(largest.of(kind.shape.per_guest)) or kind.name
    if asked is not None and (found := _what_fits(kind, largest, kernels.memory_left(asked), cpus)):
        typed, fits = found
        what = f"{typed}: {what} (at most {fits} fit into {asked} MiB)"
    needed = kind.memory(largest, cpus)
    if plan.networks and (behind := max(map(memory_of, plan.networks))):
        needed += behind
        count = max(len(network.everyone) for network in plan.networks)
        what += f", with {count} hosts in a guest,"
    return choose_memory(asked, kernels.memory(needed), what)


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


# What there is


@dataclass(frozen=True)
class ScenariosOptions:
    """The options of `invoke scenarios`, as typed."""

    scenario: str = option("", "only this one: a name, or the path of a file", values=names)
    as_json: bool = option(False, JSON, "json")


def list_scenarios(options: ScenariosOptions) -> None:
    """Print each scenario with its axes, metrics and parameters."""
    from rich.console import Group

    words = [options.scenario] if options.scenario else names()
    found = [scenario_named(each) for each in words]
    if options.as_json:
        print_document([_as_json(kind) for kind in found])
        return
    print_shown(Group(*(part for kind in found for part in _shown(kind))))


def _as_json(kind: type[Scenario]) -> dict[str, Any]:
    return {
        "name": kind.name,
        "about": kind.about,
        "shape": kind.shape.to_json(),
        "parameters": [
            {"name": each.name, "default": each.default, "help": each.help}
            for each in kind.parameters
        ],
    }


def _shown(kind: type[Scenario]) -> Iterator[Any]:
    from rich.padding import Padding
    from rich.text import Text

    yield Text(f"{kind.name}: {kind.about}\n", style="bold")
    for title, rows in (
        ("axes", _axes(kind)),
        ("metrics, the first is compared", _metrics(kind)),
        ("parameters", _parameters(kind)),
    ):
        if found := list(rows):
            yield Text(f"  {title}", style="italic")
            for name, text in found:
                yield Text(f"    {name}") if name else Text(end="")
                yield Padding(Text(text), (0, 0, 0, 8))
            yield Text()


def _axes(kind: type[Scenario]) -> Iterator[tuple[str, str]]:
    for axis in kind.shape.axes:
        typed = f"--{axis.alias}" if axis.alias else f"--axis {axis.name}="
        valid = f"among {', '.join(axis.words)}{' and others' if axis.open else ''}"
        if axis.is_numeric:
            valid = f"from {axis.least:g} to {axis.most:.10g}"
        default = ",".join(map(str, axis.values))
        yield axis.name, f"{typed} {default} by default, {valid}".replace("= ", "=")
        if axis.help:
            yield "", axis.help


def _metrics(kind: type[Scenario]) -> Iterator[tuple[str, str]]:
    for metric in kind.shape.metrics:
        zero = "may be 0" if metric.zero else ""
        yield metric.name, ", ".join(filter(None, (metric.unit, _BETTER[metric.better], zero)))


def _parameters(kind: type[Scenario]) -> Iterator[tuple[str, str]]:
    for each in kind.parameters:
        yield each.name, f"--param {each.name}={each.default} by default: {each.help}"
