"""Blocks until it is known what B is, or the time is up; what is settled is left."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experiments import plan_of
from fake_guest import FakeGuest
from fake_lab import FakeLab, lab_of, subject
from hand_made import cell
from slow_guest import guests

from linklab.errors import GuestHung, LabError
from linklab.events import Event, Note, ignore
from linklab.results.comparison import Effect, Rule
from linklab.results.shape import Cell
from linklab.results.store import RunFolder, read_run
from linklab.scenarios.grouping import Grouping
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan
from linklab.trials.sequential import Blocks, Budget, SequentialTest, until_known

A, B = subject("a"), subject("b")
PLAN = plan_of(arms=("group",), counts=(2,), fresh_guest=True, seed=7)
CELL = cell("mtu", "group", 2)
METRIC = Grouping.shape.metric
RULE = Rule(seed=7)


def contest(
    tmp_path: Path, lab: FakeLab, plan: Plan = PLAN, events: list[Event] | None = None
) -> SequentialTest:
    listener = ignore if events is None else events.append
    engine = Engine(lab, plan, RunFolder(tmp_path, {"kernels": []}), listener)
    return SequentialTest(Blocks(engine, (A, B), plan.cells), RULE, METRIC, listener)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.2, Effect.WORSE), (1.0, Effect.SAME), (0.8, Effect.BETTER)],
)
def test_so_many_blocks_tell_what_b_is(tmp_path: Path, factor: float, verdict: Effect) -> None:
    lab = lab_of(guests({"a": 1.0, "b": factor}, spread=0.01))
    outcome = contest(tmp_path, lab).run(Budget(10))
    assert outcome.found[CELL].verdict is verdict
    assert outcome.found[CELL].blocks == 10
    assert outcome.found[CELL].change == pytest.approx(factor, rel=0.02)
    assert [blocks for blocks, _ in outcome.looks] == [10]
    assert outcome.looks[0][1] == 0.05
    assert outcome.settled
    assert len(lab.booted) == 20


def test_without_a_time_limit_what_is_not_known_stays_so(tmp_path: Path) -> None:
    lab = lab_of(guests({"a": 1.0, "b": 1.0}, spread=0.3))
    outcome = contest(tmp_path, lab).run(Budget(6))
    assert outcome.found[CELL].verdict is Effect.INCONCLUSIVE
    assert not outcome.settled
    assert outcome.in_time
    assert len(lab.booted) == 12


def test_until_it_is_known_there_are_ever_more_blocks_and_every_look_pays(tmp_path: Path) -> None:
    events: list[Event] = []
    lab = lab_of(guests({"a": 1.0, "b": 1.1}, spread=0.08))
    outcome = contest(tmp_path, lab, events=events).run(Budget(6, seconds=3600))
    assert outcome.found[CELL].verdict is Effect.WORSE
    counts = [blocks for blocks, _ in outcome.looks]
    assert len(counts) > 1
    assert counts[:3] == [6, 9, 14][: len(counts)]
    risks = [risk for _, risk in outcome.looks]
    assert risks == pytest.approx([0.05 / (k * (k + 1)) for k in range(1, len(risks) + 1)])
    assert outcome.settled
    assert outcome.in_time
    assert any(isinstance(event, Note) and "going on to 9" in event.text for event in events)
    blocks = {s.block for s in read_run(tmp_path).samples if s.trial}
    assert blocks == set(range(1, counts[-1] + 1))


def test_what_is_settled_is_not_measured_any_further(tmp_path: Path) -> None:
    plan = plan_of(arms=("group",), counts=(2, 3), fresh_guest=True)
    noisy, clear = guests({"a": 1.0, "b": 1.1}, 0.1), guests({"a": 1.0, "b": 2.0}, 0.01)
    lab = lab_of(lambda kernel, count: (noisy if count == 2 else clear)(kernel, count))
    outcome = contest(tmp_path, lab, plan).run(Budget(8, seconds=3600))
    assert outcome.settled
    assert outcome.found[cell("mtu", "group", 3)].blocks == 8
    assert outcome.found[CELL].blocks > 8


def test_when_time_is_up_it_says_so_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(0.0, 10.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    lab = lab_of(guests({"a": 1.0, "b": 1.0}, spread=0.5))
    outcome = contest(tmp_path, lab).run(Budget(6, seconds=4000))
    assert not outcome.in_time
    assert not outcome.settled
    assert outcome.found[CELL].blocks >= 2


def test_a_kernels_fault_ends_it_and_what_was_measured_is_still_compared(tmp_path: Path) -> None:
    guests_of_b = itertools.count()

    def make(kernel: str, _count: int) -> FakeGuest:
        doomed = kernel == "b" and next(guests_of_b) == 7

        def before(operation: str) -> None:
            if doomed and operation == "run":
                raise GuestHung("no answer")

        return FakeGuest(before=before)

    one = contest(tmp_path, lab_of(make))
    with pytest.raises(GuestHung):
        one.run(Budget(20))
    assert one.outcome.found[CELL].blocks == 7


def test_a_fault_of_the_lab_is_not_hidden_by_having_nothing_to_compare(tmp_path: Path) -> None:
    def make(_kernel: str, _count: int) -> FakeGuest:
        raise LabError("no QEMU")

    one = contest(tmp_path, lab_of(make))
    with pytest.raises(LabError, match="no QEMU"):
        one.run(Budget(20))
    assert one.outcome.found == {}


# The procedure, without guests


class Stand:
    """Blocks that take ten seconds each of a clock that stands still otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: dict[int, BaseException]) -> None:
        self.now = 0.0
        self.measured: list[int] = []
        self.asked: list[range] = []
        self.looks: list[tuple[int, int]] = []  # the number of the look, the blocks by then
        self.last: list[bool] = []  # whether each was told to be the last one
        self.events: list[Event] = []
        self._ends = ends
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        engine: Any = SimpleNamespace(measure=self._measure, samples=[])
        self.blocks = Blocks(engine, (A, B), PLAN.cells)

    def _measure(
        self, _subjects: object, _cells: object, numbers: range, *, together: bool
    ) -> None:
        self.asked.append(numbers)
        for number in numbers:
            if error := self._ends.get(number):
                raise error
            self.measured.append(number)
            self.now += 10

    def until_known(self, effort: Budget, at: int = 1 << 30) -> bool:
        """Measure until so many blocks tell."""

        def look(number: int, is_last: bool) -> bool:
            self.looks.append((number, len(self.measured)))
            self.last.append(is_last)
            return len(self.measured) >= at

        return until_known(self.blocks, effort, look, self.events.append)

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch, {})


def test_blocks_grow_from_look_to_look_up_to_the_most(stand: Stand) -> None:
    assert stand.until_known(Budget(4, most=20, growth=2)) is False
    assert stand.looks == [(1, 4), (2, 8), (3, 16), (4, 20)]
    assert stand.measured == list(range(1, 21)), "each block once, in order"
    assert stand.blocks.done == 20
    assert [text.rpartition(" ")[2] for text in stand.notes] == ["8", "16", "20"]


@pytest.mark.parametrize("growth", [1.01, 1.1])
def test_slow_growth_is_a_block_at_least(stand: Stand, growth: float) -> None:
    stand.until_known(Budget(2, most=5, growth=growth))
    assert [blocks for _, blocks in stand.looks] == [2, 3, 4, 5]


def test_what_is_known_ends_it(stand: Stand) -> None:
    assert stand.until_known(Budget(4, most=100, growth=1.5), at=9) is True
    assert stand.looks == [(1, 4), (2, 6), (3, 9)]
    assert len(stand.measured) == 9


def test_it_fits_into_the_time_that_it_has(stand: Stand) -> None:
    """The first two say how long a block takes, and those after that go by it."""
    assert stand.until_known(Budget(6, seconds=105)) is False
    assert stand.looks == [(1, 6), (2, 9), (3, 10)]
    assert stand.now == 100
    assert [len(numbers) for numbers in stand.asked] == [2, 4, 3, 1]


def test_time_may_end_it_before_as_many_as_were_asked_for(stand: Stand) -> None:
    assert stand.until_known(Budget(1000, seconds=75)) is False
    assert stand.looks == [(1, 7)]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 19.0])
def test_fewer_than_two_blocks_would_say_nothing(stand: Stand, seconds: float) -> None:
    assert stand.until_known(Budget(8, seconds=seconds)) is False
    assert stand.looks == [(1, 2)]


@pytest.mark.parametrize(
    "error", [GuestHung("no answer"), LabError("no QEMU"), KeyboardInterrupt()]
)
def test_whatever_ends_the_measuring_comes_through_after_a_last_look(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    stand = Stand(monkeypatch, {8: error})
    with pytest.raises(type(error)) as caught:
        stand.until_known(Budget(4, most=100))
    assert caught.value is error
    assert stand.looks == [(1, 4), (2, 6), (3, 7)]
    assert stand.blocks.done == 6, "the batch that failed is not done"


def test_a_last_look_that_fails_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, {3: GuestHung("no answer")})

    def look(*_: object) -> bool:
        raise LabError("nothing to look at")

    with pytest.raises(GuestHung):
        until_known(stand.blocks, Budget(4), look, ignore)


def test_at_the_most_blocks_a_contest_is_over_and_not_known(tmp_path: Path) -> None:
    lab = lab_of(guests({"a": 1.0, "b": 1.0}, spread=0.5))
    one = contest(tmp_path, lab)
    outcome = one.run(Budget(4, seconds=3600, most=7))
    assert not outcome.settled
    assert not outcome.in_time
    assert [blocks for blocks, _ in outcome.looks] == [4, 6, 7]
    stored = one.stored()
    assert (stored["a"], stored["b"], stored["metric"]) == ("a", "b", "seconds")
    assert [look["blocks"] for look in stored["looks"]] == [4, 6, 7]
    (result,) = stored["results"]
    assert Cell((axis, result[axis]) for axis in CELL) == CELL
    assert result["verdict"] == "inconclusive"
