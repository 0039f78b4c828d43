"""In which order the trials of a run come: shuffled, and interleaved over everything.

A host drifts: it warms up, others use it, its clock goes down. Were all the
trials of one arm done before those of the next, the drift would look like a
difference between the arms. So trials come in rounds, each round has one of
everything, in an order of its own (a randomised complete block design;
Montgomery, "Design and Analysis of Experiments", chapter 4). Pure: the same
plan, kernels and seed give the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from linklab.results.work import Work
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.ways import Arm


@dataclass(frozen=True)
class Seat:
    """A guest to be: its kernel, its interfaces, and a number that no other has.

    In virtual time guests of the same `draw` get the same entropy.
    """

    number: int
    kernel: str
    count: int
    draw: int = 0


@dataclass(frozen=True)
class Cell:
    """What is compared between kernels: one operation by one arm on so many interfaces."""

    operation: Operation
    arm: Arm
    count: int

    @property
    def work(self) -> Work:
        """What results call it."""
        return Work(self.operation.value, self.arm.value, self.count)


@dataclass(frozen=True)
class Turn:
    """A plan's trials in one round. Those with a number below 1 are for warming up and not kept."""

    seat: Seat
    operation: Operation
    arm: Arm
    number: int


@dataclass(frozen=True)
class Count:
    """To count in a guest what an operation by an arm asks of the kernel, untimed."""

    operation: Operation
    arm: Arm


def countings(plan: Plan, turns: Sequence[Turn]) -> dict[Seat, list[Count]]:
    """Return what is counted in which guest once its trials are done.

    Where arms are compared, each once for each kernel, at the largest number
    of interfaces. That is never part of a trial: it would be in its way.
    """
    compared = {o for o in plan.operations if sum(p[0] is o for p in plan.pairs()) > 1}
    last = {
        (turn.seat.kernel, turn.operation, turn.arm): turn.seat
        for turn in turns
        if turn.seat.count == max(plan.counts) and turn.operation in compared
    }
    found: dict[Seat, list[Count]] = {}
    for (_, operation, arm), seat in last.items():
        found.setdefault(seat, []).append(Count(operation, arm))
    return found


def schedule(plan: Plan, kernels: Sequence[str], room: int) -> list[Turn]:
    """Return all trials of a run in order; at most `room` guests are open at a time.

    Guests are shared by the trials of a kernel and count, or, with
    `plan.fresh_guest`, made for each trial. Where there is one round only,
    nothing is averaged and the guests come one after the other. Where not all
    guests have room at once, trials are interleaved over as many as do.
    """
    random = Random(plan.seed)
    rounds = range(1 - plan.warmup, plan.repeat + 1)
    if plan.fresh_guest:
        return blocks(cells(plan), kernels, rounds, random)
    pairs = [(kernel, count) for kernel in kernels for count in plan.counts]
    seats = [Seat(number, kernel, count) for number, (kernel, count) in enumerate(pairs)]
    random.shuffle(seats)
    together = room if len(rounds) > 1 else 1
    return [
        turn
        for first in range(0, len(seats), together)
        for number in rounds
        for turn in _round(plan, seats[first : first + together], number, random)
    ]


def _round(plan: Plan, seats: Sequence[Seat], number: int, random: Random) -> list[Turn]:
    turns = [
        Turn(seat, operation, arm, number) for seat in seats for operation, arm in plan.pairs()
    ]
    random.shuffle(turns)
    return turns


def cells(plan: Plan) -> list[Cell]:
    """Return all that a plan compares between kernels."""
    return [Cell(*pair, count) for count in plan.counts for pair in plan.pairs()]


def blocks(
    wanted: Sequence[Cell], kernels: Sequence[str], numbers: range, random: Random
) -> list[Turn]:
    """Return the turns of some rounds in order, each in a guest of its own.

    The kernels come right after each other in each cell of each round, so that
    a host that changes from one minute to the next changes for all of them.
    """
    turns: list[Turn] = []
    for number in numbers:
        for cell in random.sample(wanted, len(wanted)):
            for kernel in random.sample(kernels, len(kernels)):
                seat = Seat(len(turns), kernel, cell.count, number)
                turns.append(Turn(seat, cell.operation, cell.arm, number))
    return turns
