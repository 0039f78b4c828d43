"""A contest: blocks until it is known what B is, or the time is up; what is settled is left."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from fake_guest import FakeGuest
from fake_lab import FakeLab, lab_of, subject
from slow_guest import guests

from linklab.errors import GuestHung, LabError
from linklab.events import Event, Note, ignore
from linklab.results.comparison import Effect, Rule
from linklab.results.store import RunFolder, read_run
from linklab.results.work import Work
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.contest import Contest, Effort
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.ways import Arm

A, B = subject("a"), subject("b")
PLAN = Plan((2,), (Operation.MTU,), (Arm.GROUP,), fresh_guest=True, seed=7)
WORK = Work("mtu", "group", 2)
RULE = Rule(draws=500, seed=7)


def contest(
    tmp_path: Path, lab: FakeLab, plan: Plan = PLAN, events: list[Event] | None = None
) -> Contest:
    listener = ignore if events is None else events.append
    return Contest(lab, plan, (A, B), RunFolder(tmp_path, {"kernels": []}), RULE, listener)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.2, Effect.SLOWER), (1.0, Effect.SAME), (0.8, Effect.FASTER)],
)
def test_so_many_blocks_tell_what_b_is(tmp_path: Path, factor: float, verdict: Effect) -> None:
    lab = lab_of(guests({"a": 1.0, "b": factor}, spread=0.01))
    outcome = contest(tmp_path, lab).run(Effort(10))
    assert outcome.found[WORK].verdict is verdict
    assert outcome.found[WORK].blocks == 10
    assert outcome.found[WORK].ratio == pytest.approx(factor, rel=0.02)
    assert [look.blocks for look in outcome.looks] == [10]
    assert outcome.looks[0].risk == 0.05
    assert outcome.settled
    assert len(lab.booted) == 20


def test_without_a_time_limit_what_is_not_known_stays_so(tmp_path: Path) -> None:
    lab = lab_of(guests({"a": 1.0, "b": 1.0}, spread=0.3))
    outcome = contest(tmp_path, lab).run(Effort(6))
    assert outcome.found[WORK].verdict is Effect.INCONCLUSIVE
    assert not outcome.settled
    assert outcome.in_time
    assert len(lab.booted) == 12


def test_until_it_is_known_there_are_ever_more_blocks_and_every_look_pays(tmp_path: Path) -> None:
    events: list[Event] = []
    lab = lab_of(guests({"a": 1.0, "b": 1.1}, spread=0.08))
    outcome = contest(tmp_path, lab, events=events).run(Effort(6, seconds=3600))
    assert outcome.found[WORK].verdict is Effect.SLOWER
    counts = [look.blocks for look in outcome.looks]
    assert len(counts) > 1
    assert counts[:3] == [6, 9, 14][: len(counts)]
    risks = [look.risk for look in outcome.looks]
    assert risks == pytest.approx([0.05 / (k * (k + 1)) for k in range(1, len(risks) + 1)])
    assert outcome.settled
    assert outcome.in_time
    assert any(isinstance(event, Note) and "going on to 9" in event.text for event in events)
    blocks = {s.block for s in read_run(tmp_path).samples if s.trial}
    assert blocks == set(range(1, counts[-1] + 1))


def test_what_is_settled_is_not_measured_any_further(tmp_path: Path) -> None:
    plan = Plan((2, 3), (Operation.MTU,), (Arm.GROUP,), fresh_guest=True)
    noisy, clear = guests({"a": 1.0, "b": 1.1}, 0.1), guests({"a": 1.0, "b": 2.0}, 0.01)
    lab = lab_of(lambda kernel, count: (noisy if count == 2 else clear)(kernel, count))
    outcome = contest(tmp_path, lab, plan).run(Effort(8, seconds=3600))
    assert outcome.settled
    assert outcome.found[Work("mtu", "group", 3)].blocks == 8
    assert outcome.found[WORK].blocks > 8


def test_when_time_is_up_it_says_so_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(0.0, 10.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    lab = lab_of(guests({"a": 1.0, "b": 1.0}, spread=0.5))
    outcome = contest(tmp_path, lab).run(Effort(6, seconds=4000))
    assert not outcome.in_time
    assert not outcome.settled
    assert outcome.found[WORK].blocks >= 2


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
        one.run(Effort(20))
    assert one.outcome.found[WORK].blocks == 7


def test_a_fault_of_the_lab_is_not_hidden_by_having_nothing_to_compare(tmp_path: Path) -> None:
    def make(_kernel: str, _count: int) -> FakeGuest:
        raise LabError("no QEMU")

    one = contest(tmp_path, lab_of(make))
    with pytest.raises(LabError, match="no QEMU"):
        one.run(Effort(20))
    assert one.outcome.found == {}
