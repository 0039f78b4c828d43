"""What blocks say of two subjects: effect, interval, test, verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, isclose, log, nan
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.results.comparison import (
    SECONDS,
    VIRTUAL_THRESHOLD,
    Comparison,
    Effect,
    Pair,
    Rule,
    compare,
    compare_one,
    fewest_blocks,
    holm,
)
from linklab.results.shape import Better, Metric

ROUNDS = 200
QUICK = Rule()
DIFFERENT = (Effect.WORSE, Effect.BETTER)
TIMES = st.floats(1e-4, 1e3)
PAIRS = st.lists(st.tuples(TIMES, TIMES), min_size=2, max_size=20).map(
    lambda both: Pair([a for a, _ in both], [b for _, b in both])
)
GOODPUT = Metric("goodput", "Mbit/s", Better.MORE)
LOSS = Metric("loss", "%", zero=True, matters=0.5)
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def skewed(random: np.random.Generator, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    return random.lognormal(0, 0.1, blocks), random.lognormal(0, 0.1, blocks)


def heavy_tailed(random: np.random.Generator, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """A tail without a mean: Student's t with 1.5 degrees of freedom, one side of it."""
    one, other = np.exp(0.05 * np.abs(random.standard_t(1.5, (2, blocks))))
    return one, other


def drifting(random: np.random.Generator, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """A host that grows slower and faster, for both alike."""
    host = np.exp(np.cumsum(random.normal(0, 0.05, blocks)))
    return host * random.lognormal(0, 0.05, blocks), host * random.lognormal(0, 0.05, blocks)


def disturbed(random: np.random.Generator, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """One measurement in seven takes up to several times as long."""
    values = random.lognormal(0, 0.03, (2, blocks))
    values *= 1 + (random.random((2, blocks)) < 0.15) * random.exponential(1, (2, blocks))
    return values[0], values[1]


DISTRIBUTIONS = pytest.mark.parametrize("draw", [skewed, heavy_tailed, drifting, disturbed])


def simulated(draw: Draw, blocks: int, ratio: float, rounds: int) -> list[Comparison]:
    random = np.random.default_rng(20)
    found = []
    for number in range(rounds):
        a, b = draw(random, blocks)
        found.append(
            compare_one(Pair(a.tolist(), (b * ratio).tolist()), replace(QUICK, seed=number))
        )
    return found


@DISTRIBUTIONS
@pytest.mark.parametrize("blocks", [8, 20])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(draw: Draw, blocks: int) -> None:
    found = simulated(draw, blocks, 1.2, ROUNDS)
    held = sum(one.low <= 1.2 <= one.high for one in found)
    assert held >= ROUNDS * 0.95 - 2.6 * (ROUNDS * 0.95 * 0.05) ** 0.5


@DISTRIBUTIONS
@pytest.mark.parametrize("blocks", [8, 20])
def test_what_is_the_same_is_taken_for_different_once_in_twenty_at_most(
    draw: Draw, blocks: int
) -> None:
    found = simulated(draw, blocks, 1.0, ROUNDS)
    significant = sum(one.p_value <= 0.05 for one in found)
    alarms = sum(one.verdict in DIFFERENT for one in found)
    assert alarms <= significant <= ROUNDS * 0.05 + 2.6 * (ROUNDS * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize("draw", [heavy_tailed, drifting, disturbed])
def test_a_tenth_more_is_found(draw: Draw) -> None:
    found = simulated(draw, 20, 1.1, 100)
    assert sum(one.verdict is Effect.WORSE for one in found) >= 90


def test_looking_again_and_again_raises_false_alarms_unless_each_look_pays_for_it() -> None:
    random, rounds, blocks = np.random.default_rng(5), 300, (8, 16, 32)
    careless = corrected = 0
    for _ in range(rounds):
        a, b = skewed(random, blocks[-1])
        looks = [Pair(a[:count].tolist(), b[:count].tolist()) for count in blocks]
        rule = replace(QUICK, threshold=1e-6)
        careless += any(compare_one(look, rule).verdict in DIFFERENT for look in looks)
        corrected += any(
            compare_one(look, rule.after_look(k, last=k == len(looks))).verdict in DIFFERENT
            for k, look in enumerate(looks, 1)
        )
    assert corrected <= rounds * 0.05 + 2.6 * (rounds * 0.05 * 0.95) ** 0.5 < careless


def test_all_looks_together_spend_no_more_than_the_risk() -> None:
    spent = sum(Rule(alpha=0.05).after_look(look).risk for look in range(1, 10_000))
    assert 0.0499 < spent <= 0.05
    spent = sum(Rule().after_look(look).risk for look in range(1, 9))
    assert spent + Rule().after_look(9, last=True).risk == pytest.approx(0.05)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_the_ratio_lies_in_its_interval_and_p_is_a_probability(pair: Pair) -> None:
    found = compare_one(pair, QUICK)
    assert found.low <= found.change <= found.high
    assert 0 < found.p_value <= 1
    assert isclose(
        log(found.change), median(log(b / a) for b in pair.b for a in pair.a), abs_tol=1e-9
    )
    assert found.bounded == (len(pair.a) >= 6)
    assert found.conclusive == (found.more_blocks_needed == 0)


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.floats(0.1, 10))
def test_the_unit_of_time_does_not_matter(pair: Pair, unit: float) -> None:
    scaled = Pair([unit * value for value in pair.a], [unit * value for value in pair.b])
    one, other = compare_one(pair, QUICK), compare_one(scaled, QUICK)
    assert one.change == pytest.approx(other.change)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    assert one.p_value == pytest.approx(other.p_value)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_the_other_way_round_it_is_the_reciprocal(pair: Pair) -> None:
    there, back = compare_one(pair, QUICK), compare_one(Pair(pair.b, pair.a), QUICK)
    assert there.change == pytest.approx(1 / back.change)
    if there.bounded:
        assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))
    assert there.p_value == pytest.approx(back.p_value)


def test_the_same_values_and_seed_give_the_same_result() -> None:
    a, b = skewed(np.random.default_rng(3), 30)
    pair = Pair(a.tolist(), b.tolist())
    assert compare_one(pair, QUICK) == compare_one(pair, QUICK)
    assert compare_one(pair, QUICK) == compare_one(pair, replace(QUICK, seed=1))
    apart = replace(pair, paired=False)
    assert compare_one(apart, QUICK) == compare_one(apart, QUICK)
    assert compare_one(apart, QUICK) != compare_one(apart, replace(QUICK, seed=1))


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.2, Effect.WORSE), (1.0, Effect.SAME), (1.02, Effect.SAME), (0.8, Effect.BETTER)],
)
def test_the_verdict_says_what_b_is(ratio: float, verdict: Effect) -> None:
    a = [1 + 0.0001 * number for number in range(10)]
    found = compare_one(Pair(a, [ratio * value for value in a]), QUICK)
    assert found.verdict is verdict
    assert found.more_blocks_needed == 0


def test_what_surely_differs_but_does_not_matter_is_the_same() -> None:
    a = [1 + 0.0001 * number for number in range(10)]
    found = compare_one(Pair(a, [1.02 * value for value in a]), QUICK)
    assert found.p_value < 0.05
    assert found.verdict is Effect.SAME
    strict = compare_one(Pair(a, [1.02 * value for value in a]), replace(QUICK, threshold=0.01))
    assert strict.verdict is Effect.WORSE


def test_few_blocks_prove_nothing_and_the_blocks_that_would_are_told() -> None:
    for ratio in (1.0, 2.0):
        found = compare_one(Pair([1.0, 1.001, 1.002], [ratio, ratio, ratio]), QUICK)
        assert found.verdict is Effect.INCONCLUSIVE
        assert found.more_blocks_needed == 3  # 2 of 2**6 exchanges are 3 %


@pytest.mark.parametrize("ratio", [1.0, 1.02, 1.03, 1.05])
def test_the_blocks_that_are_told_settle_it_four_times_in_five(ratio: float) -> None:
    """Of many inconclusive comparisons, where the effect is truly what it seemed."""
    random = np.random.default_rng(8)
    settled = asked = 0
    for _ in range(240):
        a, b = random.lognormal(0, 0.06, (2, 20))
        first = compare_one(Pair(a.tolist(), (ratio * b).tolist()), QUICK)
        if first.conclusive or not first.more_blocks_needed or first.more_blocks_needed < 10:
            continue
        asked += 1
        a, b = random.lognormal(0, 0.06, (2, 20 + first.more_blocks_needed))
        settled += compare_one(Pair(a.tolist(), (first.change * b).tolist()), QUICK).conclusive
    assert asked >= 60
    assert 0.7 <= settled / asked <= 0.9


def test_what_is_sure_but_seems_less_than_matters_is_said_to_be_so() -> None:
    a = [1 + 0.003 * number for number in range(20)]
    b = [1.025 * value * (1 + 0.02 * (-1) ** number) for number, value in enumerate(a)]
    found = compare_one(Pair(a, b), QUICK)
    assert found.low > 1 and found.high > 1.03 > found.change
    assert (found.verdict, found.more_blocks_needed) == (Effect.MINOR, 0)
    assert compare_one(Pair(a, b), replace(QUICK, threshold=0.01)).verdict is Effect.WORSE


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_so_few_blocks_have_no_interval_and_their_document_says_so(blocks: int) -> None:
    found = compare_one(Pair([1.0] * blocks, [1.5] * blocks), QUICK)
    assert not found.bounded
    stored = found.to_json(SECONDS)
    assert (stored["low"], stored["high"]) == (None, None)
    assert Comparison.from_json(stored) == found


@pytest.mark.parametrize("wrong", [nan, inf])
def test_what_is_no_finite_number_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        Pair((1.0, 1.0), (1.0, wrong))


def unequal(random: np.random.Generator, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """B spreads five times as much as A."""
    return random.lognormal(0, 0.02, blocks), random.lognormal(0, 0.1, blocks)


@pytest.mark.parametrize("draw", [skewed, heavy_tailed, drifting, disturbed, unequal])
def test_p_value_and_interval_never_disagree(draw: Draw) -> None:
    for found in simulated(draw, 20, 1.0, ROUNDS):
        assert (found.p_value <= 0.05) == (not found.low <= 1 <= found.high)


def test_a_different_spread_alone_is_no_difference() -> None:
    found = simulated(unequal, 20, 1.0, 600)
    assert sum(one.p_value <= 0.05 for one in found) <= 600 * 0.065 + 2.6 * 600**0.5 * 0.22


@pytest.mark.parametrize(("boots", "alarms"), [(0, (0.15, 1.0)), (12, (0.0, 0.08))])
def test_boots_that_differ_are_in_the_interval_where_there_are_several(
    boots: int, alarms: tuple[float, float]
) -> None:
    """A boot and a guest spread by 2 % each; without several all guests go on from one."""
    random, count = np.random.default_rng(11), 0
    for _ in range(ROUNDS):
        own = np.exp(random.normal(0, 0.02, (2, boots or 1)))
        numbers = [block % (boots or 1) for block in range(20)]
        a, b = own[:, numbers] * random.lognormal(0, 0.02, (2, 20))
        pair = Pair(a.tolist(), b.tolist(), boots=numbers if boots else ())
        count += compare_one(pair, replace(QUICK, threshold=1e-6)).verdict in DIFFERENT
    assert alarms[0] <= count / ROUNDS <= alarms[1]


def test_one_boot_of_each_settles_nothing() -> None:
    found = compare_one(Pair([1.0] * 20, [1.5] * 20, boots=[1] * 20), QUICK)
    assert (found.verdict, found.p_value, found.bounded) == (Effect.INCONCLUSIVE, 1.0, False)


def test_two_subjects_without_any_spread_need_enough_blocks_all_the_same() -> None:
    found = compare_one(Pair([1.0] * 4, [1.5] * 4), QUICK)
    assert found.verdict is Effect.INCONCLUSIVE
    assert found.more_blocks_needed == 2
    assert compare_one(Pair([1.0] * 6, [1.5] * 6), QUICK).verdict is Effect.WORSE


VIRTUAL = replace(QUICK, threshold=VIRTUAL_THRESHOLD)
STEPS = [1.0, 1.0, 1.0001, 1.0001, 1.0002, 1.0, 1.0001, 1.0, 1.0002, 1.0]  # with many ties


@pytest.mark.parametrize("values", [[0.025] * 10, STEPS], ids=["no spread", "ties"])
class TestExactFigures:
    """In virtual time a figure may be the same to the last digit, again and again."""

    def test_that_are_identical_are_the_same(self, values: list[float]) -> None:
        found = compare_one(Pair(values, list(values)), VIRTUAL)
        assert found.verdict is Effect.SAME
        assert found.change == 1.0
        assert found.low <= 1.0 <= found.high
        assert found.p_value == pytest.approx(1.0)

    @pytest.mark.parametrize("ratio", [1.003, 1.005, 2.0])
    def test_of_which_one_is_higher_are_slower_and_the_other_way_round_faster(
        self, values: list[float], ratio: float
    ) -> None:
        higher = [ratio * value for value in values]
        there, back = (
            compare_one(Pair(values, higher), VIRTUAL),
            compare_one(Pair(higher, values), VIRTUAL),
        )
        assert (there.verdict, back.verdict) == (Effect.WORSE, Effect.BETTER)
        assert there.change == pytest.approx(ratio)
        assert there.low <= there.change <= there.high
        assert there.p_value < 0.05

    def test_that_differ_by_less_than_matters_are_the_same(self, values: list[float]) -> None:
        found = compare_one(Pair(values, [1.001 * value for value in values]), VIRTUAL)
        assert found.verdict is Effect.SAME

    def test_of_several_operations_are_each_told_what_they_are(self, values: list[float]) -> None:
        pairs = {
            "same": Pair(values, list(values)),
            "slower": Pair(values, [1.005 * value for value in values]),
            "faster": Pair(values, [0.995 * value for value in values]),
        }
        found = compare(pairs, VIRTUAL)
        assert {name: one.verdict.word(SECONDS) for name, one in found.items()} == {
            name: name for name in pairs
        }

    def test_from_different_times_are_compared_too(self, values: list[float]) -> None:
        same = compare_one(Pair(values, list(values), paired=False), VIRTUAL)
        higher = [1.005 * value for value in values]
        slower = compare_one(Pair(values, higher, paired=False), VIRTUAL)
        assert (same.verdict, slower.verdict) == (Effect.SAME, Effect.WORSE)


def test_few_blocks_prove_nothing_however_exact_they_are() -> None:
    assert compare_one(Pair([1.0] * 5, [1.0] * 5), VIRTUAL).verdict is Effect.INCONCLUSIVE
    assert compare_one(Pair([1.0] * 6, [1.0] * 6), VIRTUAL).verdict is Effect.SAME


def test_a_drift_that_both_share_does_not_hide_a_difference() -> None:
    host = [1.02**block for block in range(20)]
    found = compare_one(Pair(host, [1.1 * value for value in host]), QUICK)
    assert found.p_value <= 0.05


def test_corrected_p_values_are_those_that_other_programs_give() -> None:
    # As p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") of R gives them.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_correction_never_lowers_a_p_value_nor_changes_their_order(values: list[float]) -> None:
    corrected = holm(values)
    assert all(was <= now <= 1 for was, now in zip(values, corrected, strict=True))
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            assert one > other or corrected[i] <= corrected[j] or one == other


def test_more_operations_ask_for_more_of_each() -> None:
    clear = Pair([1.0 + n / 1000 for n in range(7)], [1.5 + n / 1000 for n in range(7)])
    same = Pair([1.0 + n / 1000 for n in range(7)], [1.0 + n / 1000 for n in range(7)])
    alone = compare({"mtu": clear}, QUICK)["mtu"]
    among = compare({"mtu": clear, **{str(n): same for n in range(7)}}, QUICK)["mtu"]
    assert alone.verdict is Effect.WORSE
    assert among.p_value == pytest.approx(8 * alone.p_value)
    assert among.verdict is Effect.INCONCLUSIVE


@pytest.mark.parametrize(("operations", "blocks"), [(1, 6), (2, 7), (8, 9)])
def test_the_fewest_blocks_that_can_show_a_difference(operations: int, blocks: int) -> None:
    assert fewest_blocks(Rule(), operations) == blocks
    assert 2 * operations / 2**blocks <= 0.05 < 4 * operations / 2**blocks


@pytest.mark.parametrize(
    ("a", "b"),
    [((), ()), ((1.0,), (1.0,)), ((1.0, 1.0), (1.0, 2.0, 3.0))],
)
@pytest.mark.parametrize("metric", [SECONDS, LOSS], ids=lambda metric: metric.name)
def test_what_is_no_comparison_is_refused(
    a: tuple[float, ...], b: tuple[float, ...], metric: Metric
) -> None:
    with pytest.raises(ValueError, match="a comparison needs"):
        Pair(a, b, metric=metric)


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_what_has_no_ratio_is_refused_and_the_metric_named(wrong: float) -> None:
    for a, b in ([(wrong, 1.0), (1.0, 1.0)], [(1.0, 1.0), (1.0, wrong)]):
        with pytest.raises(ValueError, match="a ratio of goodput needs values above 0"):
            Pair(a, b, metric=GOODPUT)
    assert Pair((wrong, 1.0), (1.0, 1.0), metric=LOSS).blocks == 2


# Values from different times


def test_without_blocks_a_shared_drift_hides_a_difference_that_blocks_show() -> None:
    host = [1.1**block for block in range(12)]
    slower = [1.1 * value for value in host]
    assert compare_one(Pair(host, slower), QUICK).p_value < 0.05
    assert compare_one(Pair(host, slower, paired=False), QUICK).p_value > 0.5


def test_values_from_different_times_need_not_be_as_many() -> None:
    random = np.random.default_rng(4)
    a, b = random.lognormal(0, 0.02, 10), random.lognormal(0.1, 0.02, 14)
    found = compare_one(Pair(a.tolist(), b.tolist(), paired=False), QUICK)
    assert found.verdict is Effect.WORSE
    assert found.blocks == 10
    assert found.low < float(np.exp(0.1)) < found.high


def test_of_values_from_different_times_the_same_is_as_rarely_taken_for_different() -> None:
    random = np.random.default_rng(6)
    alarms = held = 0
    for number in range(ROUNDS):
        a, b = random.lognormal(0, 0.1, 10), random.lognormal(0, 0.1, 14)
        pair = Pair(a.tolist(), b.tolist(), paired=False)
        found = compare_one(pair, replace(QUICK, seed=number))
        alarms += found.p_value <= 0.05
        held += found.low <= 1 <= found.high
    assert alarms <= ROUNDS * 0.05 + 2.6 * (ROUNDS * 0.05 * 0.95) ** 0.5
    assert held >= ROUNDS * 0.95 - 2.6 * (ROUNDS * 0.05 * 0.95) ** 0.5


def test_what_was_settled_before_still_counts_in_the_correction() -> None:
    assert holm([0.01], 4) == [0.04]
    assert holm([0.01, 0.02], 4) == pytest.approx([0.04, 0.06])
    clear = Pair([1.0 + n / 1000 for n in range(9)], [1.5 + n / 1000 for n in range(9)])
    alone, last = compare({"mtu": clear}, QUICK), compare({"mtu": clear}, QUICK, family=4)
    assert last["mtu"].p_value == pytest.approx(4 * alone["mtu"].p_value)


def test_a_later_look_asks_for_more() -> None:
    pair = Pair([1.0 + n / 1000 for n in range(9)], [1.5 + n / 1000 for n in range(9)])
    once, third = compare_one(pair, QUICK), compare_one(pair, QUICK.after_look(3))
    assert third.p_value == pytest.approx(12 * once.p_value)
    assert third.low <= once.low < once.high <= third.high
    assert compare_one(pair, QUICK.after_look(9)).verdict is Effect.INCONCLUSIVE
