"""What to measure, how often, and in which order: shuffled, and interleaved over everything.

A host drifts: it warms up, others use it, its clock goes down. Were all the
trials of one arm done before those of the next, the drift would look like a
difference between the arms. So trials come in rounds, each round has one of
everything, in an order of its own (a randomised complete block design;
Montgomery, "Design and Analysis of Experiments", chapter 4). Pure: the same
plan, kernels and seed give the same order.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product
from random import Random
from typing import Any

from linklab.lab.lab import Lab
from linklab.lab.topology import Topology
from linklab.machine.spec import Clock
from linklab.results.shape import Axis, Cell, Shape, Value, values_on
from linklab.scenarios import axis_name, scenario_named
from linklab.scenarios.scenario import Scenario

SEEDS = 1 << 32


class Leaks(StrEnum):
    """What is repeated of a guest's work at its end, to see what its kernel keeps.

    All that was made is deleted then, too; with `NONE` the guest just ends.
    """

    NONE = "none"
    CHEAP = "cheap"
    ALL = "all"


@dataclass(frozen=True)
class Plan:
    """What to measure, how often, and in what guests.

    Of each cell and kernel there are `warmup_rounds` rounds that are thrown away and
    `repeat` that are kept, in an order drawn with `seed`. In a round a guest
    does `warmup_trials` trials that are thrown away and `trials` that are kept, one
    after the other. `limit` is the seconds for one trial, instead of the
    scenario's own; `given` the values of its parameters. A sweep varies some of them: they
    are axes of its own shape, `swept`, and the scenario is made anew for each guest.
    """

    scenario: str
    cells: tuple[Cell, ...]
    given: Mapping[str, Value] = field(default_factory=dict)
    repeat: int = 1
    limit: float | None = None
    warmup_rounds: int = 0
    seed: int = 0
    fresh_guest: bool = False  # a guest for each trial, not for each kernel and set-up
    apart: bool = False  # a guest for each cell, as `Scenario.apart` has it
    jobs: int = 1  # guests at work at the same time
    trials: int = 1
    warmup_trials: int = 0
    leaks: Leaks = Leaks.NONE
    swept: Shape | None = None

    @property
    def kind(self) -> type[Scenario]:
        """The scenario's class."""
        return scenario_named(self.scenario)

    @property
    def shape(self) -> Shape:
        """The axes and metrics: of a sweep, or the scenario's, rows turned to what is varied."""
        return self.swept or self.kind.shape.turned(self.cells)

    def known(self, cell: Cell) -> Cell:
        """Return the part of a cell that the scenario knows: without a sweep's parameters."""
        return cell.of(axis.name for axis in self.kind.shape.axes) if self.swept else cell

    def given_in(self, setup: Cell) -> dict[str, Value]:
        """Return the values of the scenario's parameters in a guest of a set-up."""
        varied = (axis for axis in self.shape.axes if axis.parameter)
        return {**self.given, **{axis.parameter: setup[axis.name] for axis in varied}}

    def whole(self, cell: Cell) -> Cell:
        """Return a cell with the values of the parameters beside those of the axes."""
        return Cell({**self.given_in(cell), **cell})

    def draw_of(self, slot: GuestSlot) -> int:
        """Return what a guest's entropy, and the saved guest that it goes on from, depend on."""
        return (self.seed + slot.draw) % SEEDS  # warm-up rounds count downwards from 0

    @property
    def networks(self) -> list[Topology]:
        """The topologies that guests have, each once; none where the scenario has none."""
        found = (self.kind.network(self.given_in(setup)) for setup in self.setups)
        return list(dict.fromkeys(network for network in found if network is not None))

    def place_in(self, lab: Lab) -> str:
        """Return where the hosts of the topology are; nothing where there is none."""
        if lab.guests is not None:
            return "guests"
        return "spaces" if self.kind.topology else ""

    @property
    def begins_cold(self) -> bool:
        """Whether the first trial in a guest that several share is one that is kept."""
        return not (self.warmup_rounds or self.warmup_trials or self.fresh_guest)

    @property
    def setups(self) -> list[Cell]:
        """What guests are made for: the parts of cells that need a guest of their own."""
        return list(dict.fromkeys(cell.of(self.shape.per_guest) for cell in self.cells))

    @property
    def shares(self) -> list[tuple[Cell, ...]]:
        """The cells that are measured in one guest: those of a set-up, or each one alone."""
        if self.apart:
            return [(cell,) for cell in self.cells]
        per_guest = self.shape.per_guest
        return [
            tuple(cell for cell in self.cells if cell.of(per_guest) == setup)
            for setup in self.setups
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what is kept of it: what was to be measured, how often, in what guests."""
        return {
            "axes": {a.name: values_on(a.name, self.cells) for a in self.shape.axes},
            "cells": [list(cell.values()) for cell in self.cells],
            "given": dict(self.given),
            "repeat": self.repeat,
            "warmup": self.warmup_rounds,
            "seed": self.seed,
            "fresh_guest": self.fresh_guest,
            **({"apart": True} if self.apart else {}),
            "jobs": self.jobs,
            "trials": self.trials,
            "settling": self.warmup_trials,
        }


def new_seed(clock: Clock) -> int:
    """Return a seed where none was asked for: 0 in virtual time.

    There the same command is to give the same figures.
    """
    return 0 if clock is Clock.VIRTUAL else int.from_bytes(os.urandom(4))


def cells_of(kind: type[Scenario], values: Mapping[str, Iterable[Any]]) -> tuple[Cell, ...]:
    """Return every cell of some values of the axes that the scenario does not refuse.

    Those of one set-up come together, and within it in the order of the axes.
    """
    shape = kind.shape
    found: list[dict[str, Value]] = [{}]
    for axis in sorted(shape.axes, key=lambda axis: not axis.per_guest):
        found = [{**cell, axis.name: value} for cell in found for value in values[axis.name]]
    cells = (Cell((axis.name, cell[axis.name]) for axis in shape.axes) for cell in found)
    return tuple(cell for cell in cells if not kind.refusal(cell))


def swept(plan: Plan, varied: Mapping[str, tuple[Value, ...]], rows: str = "") -> Plan:
    """Return the plan of every cell with each set of values of some parameters.

    They are axes before the scenario's own. `rows` is the axis or the parameter that
    stands down a table and along a plot: by default the scenario's if it has several
    values, else the first number that has.
    """
    kind, own = plan.kind, plan.kind.shape
    axes = [_axis_of(kind, name, values) for name, values in varied.items()]
    given = {name: value for name, value in plan.given.items() if name not in varied}
    sets = product(*([(axis.name, value) for value in axis.values] for axis in axes))
    cells = tuple(Cell([*each, *cell.items()]) for each in sets for cell in plan.cells)
    every = (*axes, *own.axes)
    names = {axis.parameter or axis.name: axis.name for axis in every}
    several = [a for a in every if len(values_on(a.name, cells)) > 1]
    usual = own.axis(own.rows)
    if usual not in several:
        usual = next((axis for axis in several if axis.is_numeric), usual)
    down = names.get(rows, usual.name)
    across = own.rows if down == own.columns else own.columns
    shape = replace(
        own,
        axes=every,
        rows=down,
        columns=across,
        text=own.text and own.text + "".join(map(_in_a_text, axes)),
        versus=own.versus if across == own.columns else None,
    )
    return replace(plan, cells=cells, given=given, swept=shape)


def _axis_of(kind: type[Scenario], parameter: str, values: tuple[Value, ...]) -> Axis:
    known = next(each for each in kind.parameters if each.name == parameter)
    return Axis(
        axis_name(parameter, kind.shape),
        values,
        title=parameter,
        among=tuple(value for value in values if isinstance(value, str)),
        least=known.least,
        most=known.most,
        per_guest=True,
        log=False,
        help=known.help,
        parameter=parameter,
    )


def _in_a_text(axis: Axis) -> str:
    return f", {axis.parameter} {{{axis.name}{':.10g' if axis.is_numeric else ''}}}"


@dataclass(frozen=True)
class GuestSlot:
    """A guest to be: its kernel, its set-up, and a number that no other has.

    In virtual time guests of the same `draw` get the same entropy.
    """

    number: int
    kernel: str
    setup: Cell
    draw: int = 0


@dataclass(frozen=True)
class Turn:
    """A plan's trials in one round. Those with a number below 1 are for warming up and not kept."""

    slot: GuestSlot
    cell: Cell
    number: int


def left_of(
    turns: Sequence[Turn], done: Collection[tuple[str, Cell, int]], given_up: Collection[str]
) -> list[Turn]:
    """Return what is left to do of a run that was interrupted, in its order.

    `done` are the kernels, cells and rounds of what was measured, `given_up` kernels that
    failed. A guest that has nothing left is not made, and so does not warm up.
    """
    left = [
        turn
        for turn in turns
        if turn.slot.kernel not in given_up
        and (turn.slot.kernel, turn.cell, turn.number) not in done
    ]
    needed = {turn.slot for turn in left if turn.number > 0}
    return [turn for turn in left if turn.slot in needed]


@dataclass(frozen=True)
class CountSyscalls:
    """To count in a guest what a cell's work asks of the kernel, untimed."""

    cell: Cell


def countings(plan: Plan, turns: Sequence[Turn]) -> dict[GuestSlot, list[CountSyscalls]]:
    """Return what is counted in which guest once its trials are done.

    Where columns are compared, each once for each kernel, at the last row.
    That is never part of a trial: it would be in its way.
    """
    shape = plan.shape
    if not shape.counted:
        return {}
    across: dict[Cell, set[Value]] = {}
    for cell in plan.cells:
        across.setdefault(cell.of(shape.sheets), set()).add(shape.column_of(cell))
    last = values_on(shape.rows, plan.cells)[-1]
    slots = {
        (turn.slot.kernel, turn.cell): turn.slot
        for turn in turns
        if turn.cell[shape.rows] == last and len(across[turn.cell.of(shape.sheets)]) > 1
    }
    found: dict[GuestSlot, list[CountSyscalls]] = {}
    for (_, cell), slot in slots.items():
        found.setdefault(slot, []).append(CountSyscalls(cell))
    return found


def schedule(plan: Plan, kernels: Sequence[str], capacity: int) -> list[Turn]:
    """Return all trials of a run in order; at most `capacity` guests are open at a time.

    Guests are shared by the trials of a kernel and set-up, with `plan.apart` by those
    of a kernel and cell, or, with `plan.fresh_guest`, made for each trial. Where there
    is one round only, nothing is averaged and the guests come one after the other.
    Where not all guests have room at once, trials are interleaved over as many as do.
    """
    random = Random(plan.seed)
    rounds = range(1 - plan.warmup_rounds, plan.repeat + 1)
    if plan.fresh_guest:
        return blocks(plan, plan.cells, kernels, rounds, random)
    pairs = [(kernel, cells) for kernel in kernels for cells in plan.shares]
    slots = [
        (GuestSlot(number, kernel, cells[0].of(plan.shape.per_guest)), cells)
        for number, (kernel, cells) in enumerate(pairs)
    ]
    random.shuffle(slots)
    together = capacity if len(rounds) > 1 else 1
    return [
        turn
        for first in range(0, len(slots), together)
        for number in rounds
        for turn in _round(slots[first : first + together], number, random)
    ]


def _round(
    slots: Sequence[tuple[GuestSlot, Sequence[Cell]]], number: int, random: Random
) -> list[Turn]:
    turns = [Turn(slot, cell, number) for slot, cells in slots for cell in cells]
    random.shuffle(turns)
    return turns


def blocks(
    plan: Plan, cells: Sequence[Cell], kernels: Sequence[str], numbers: range, random: Random
) -> list[Turn]:
    """Return the turns of some rounds in order, each in a guest of its own.

    The kernels come right after each other in each cell of each round, so that
    a host that changes from one minute to the next changes for all of them.
    """
    per_guest = plan.shape.per_guest
    turns: list[Turn] = []
    for number in numbers:
        for cell in random.sample(cells, len(cells)):
            for kernel in random.sample(kernels, len(kernels)):
                slot = GuestSlot(len(turns), kernel, cell.of(per_guest), number)
                turns.append(Turn(slot, cell, number))
    return turns
