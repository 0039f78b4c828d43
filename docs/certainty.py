"""How sure verdicts are: the figures of certainty.md, simulated through the project's own code.

    python docs/certainty.py [ROUNDS]

Takes some minutes with 1000 rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import log10

import numpy as np

from linklab.bisect.figures import FIRST_BLOCKS, by_ratio
from linklab.bisect.search import Mark
from linklab.results.comparison import Comparison, Effect, Pair, Rule, compare, compare_one
from linklab.results.fit import Power, fit

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
RANDOM = np.random.default_rng(1)
ALARMS = (Effect.WORSE, Effect.BETTER)
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


def even(spread: float) -> Draw:
    """Return guests that differ by chance alone."""
    return lambda n: tuple(RANDOM.lognormal(0, spread, (2, n)))


def tail(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A tail without a mean."""
    return tuple(np.exp(0.05 * np.abs(RANDOM.standard_t(1.5, (2, n)))))


def modes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Every tenth guest takes 40 % longer."""
    slow = np.where(RANDOM.random((2, n)) < 0.1, 1.4, 1)
    return tuple(RANDOM.lognormal(0, 0.02, (2, n)) * slow)


def halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of the guests are 10 % above the others."""
    slow = np.where(RANDOM.random((2, n)) < 0.5, 1.1, 1)
    return tuple(RANDOM.lognormal(0, 0.02, (2, n)) * slow)


def host(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks differ by 10 %."""
    return tuple(RANDOM.lognormal(0, 0.02, (2, n)) * RANDOM.lognormal(0, 0.1, n))


def unequal(n: int) -> tuple[np.ndarray, np.ndarray]:
    """B spreads five times as much."""
    return RANDOM.lognormal(0, 0.02, n), RANDOM.lognormal(0, 0.1, n)


MODELS: dict[str, Draw] = {
    "even, 2 %": even(0.02),
    "even, 5 %": even(0.05),
    "even, 15 %": even(0.15),
    "heavy tail": tail,
    "10 % of guests +40 %": modes,
    "half of guests +10 %": halves,
    "blocks 10 %, guests 2 %": host,
    "A 2 %, B 10 %": unequal,
}


def share(hits: float, of: float) -> str:
    """Return a share in per cent with its standard error."""
    p = hits / max(1, of)
    return f"{100 * p:.1f} +- {100 * (p * (1 - p) / max(1, of)) ** 0.5:.1f}"


def comparisons() -> None:
    """One comparison of 20 blocks."""
    print("noise | false alarms | p <= 5 % | interval holds | disagree | 5 % found | 10 % found")
    for name, draw in MODELS.items():
        counts = np.zeros(6)
        for _ in range(ROUNDS):
            a, b = draw(20)
            none, five, ten = (_compared(a, b * ratio) for ratio in (1, 1.05, 1.1))
            excluded = not none.low <= 1 <= none.high
            counts += [
                none.verdict in ALARMS,
                none.p_value <= 0.05,
                not excluded,
                excluded != (none.p_value <= 0.05),
                five.verdict is Effect.WORSE,
                ten.verdict is Effect.WORSE,
            ]
        print(f"{name} | " + " | ".join(share(count, ROUNDS) for count in counts))


def _compared(a: np.ndarray, b: np.ndarray, **more: list[int]) -> Comparison:
    return compare_one(Pair(a.tolist(), b.tolist(), **more), Rule())


def boots() -> None:
    """A boot and a guest that differ by as much: one saved guest, or several, of each."""
    print("boots | false alarms | interval holds | 5 % found")
    for count in (1, 6, 10, 12, 20):
        found = np.zeros(3)
        for _ in range(ROUNDS):
            own = np.exp(RANDOM.normal(0, 0.02, (2, count)))
            numbers = [block % count for block in range(20)]
            a, b = own[:, numbers] * RANDOM.lognormal(0, 0.02, (2, 20))
            more = {"boots": numbers} if count > 1 else {}
            none, five = _compared(a, b, **more), _compared(a, b * 1.05, **more)
            found += [none.verdict in ALARMS, none.low <= 1 <= none.high,
                      five.verdict is Effect.WORSE]  # fmt: skip
        print(f"{count} | " + " | ".join(share(each, ROUNDS) for each in found))


def series() -> None:
    """Ten patches that change nothing: how often one fails."""
    print("blocks, noise | a series fails")
    for blocks, spread in ((13, 0.02), (13, 0.05), (20, 0.05), (20, 0.15)):
        failed = 0
        for _ in range(ROUNDS // 4):
            values = RANDOM.lognormal(0, spread, (11, blocks)).tolist()
            steps = {(n, n + 1): Pair(values[n], values[n + 1]) for n in range(10)}
            whole = {(0, n): Pair(values[0], values[n]) for n in range(1, 11)}
            found = compare({**whole, **steps}, Rule())
            failed += any(
                one.verdict is Effect.WORSE and one.low > 1.03
                for key, one in found.items()
                if key in steps or key == (0, 10)
            )
        print(f"{blocks}, {100 * spread:g} % | {share(failed, ROUNDS // 4)}")


def bisections() -> None:
    """Of 1000 commits one is 10 % slower, at 5 % noise: `--above auto`."""
    right = skipped = 0
    for _ in range(ROUNDS // 4):
        end = _judged(1.1, None)
        if end[0] is not Mark.BAD:
            skipped += 1
            continue
        steps = [_judged(*each) for each in [(1.0, end[1]), (1.1, end[1])] * 5]
        skipped += any(mark is Mark.SKIP for mark, _ in steps)
        right += all(mark is (Mark.GOOD, Mark.BAD)[n % 2] for n, (mark, _) in enumerate(steps))
    print(f"bisect --above auto | right {share(right, ROUNDS // 4)} | "
          f"with a step that is not told {share(skipped, ROUNDS // 4)}")  # fmt: skip


def _judged(ratio: float, middle: float | None, most: int = 256) -> tuple[Mark, float]:
    a, b = RANDOM.lognormal(0, 0.05, (2, most))
    blocks, look = FIRST_BLOCKS, 1
    while True:
        pair = Pair(a[:blocks].tolist(), (ratio * b[:blocks]).tolist())
        rule = Rule().after_look(look, last=blocks == most)
        one = by_ratio(pair, lambda seen: middle or seen**0.5, rule, is_middle=True)
        assert one.figure is not None
        if one.judgement is not Mark.SKIP or blocks == most:
            return one.judgement, one.figure["ratio"] ** 0.5
        blocks, look = min(2 * blocks, most), look + 1


def forecasts() -> None:
    """Settled after as many more blocks as were told, where the effect is what it seemed."""
    for spread in (0.05, 0.15):
        settled = asked = 0
        for _ in range(ROUNDS):
            a, b = RANDOM.lognormal(0, spread, (2, 20))
            first = _compared(a, b * RANDOM.choice([1, 1.01, 1.02, 1.03, 1.05, 1.1]))
            if first.conclusive or not 5 <= (first.more_blocks_needed or 0) <= 1000:
                continue
            asked += 1
            a, b = RANDOM.lognormal(0, spread, (2, 20 + (first.more_blocks_needed or 0)))
            settled += _compared(a, first.change * b).conclusive
        print(f"more blocks, noise {100 * spread:g} % | settled {share(settled, asked)}")


def looks() -> None:
    """Nine looks, as `--until conclusive` has them: alarms, and 5 % at 15 % noise found."""
    counts = (20, 30, 45, 68, 102, 153, 230, 345, 400)
    for ratio in (1.0, 1.05):
        found = 0
        for _ in range(ROUNDS // 4):
            a, b = RANDOM.lognormal(0, 0.15, (2, counts[-1]))
            rules = [Rule().after_look(k, last=k == len(counts)) for k in range(1, 10)]
            found += any(
                compare_one(Pair(a[:n].tolist(), (ratio * b[:n]).tolist()), rule).verdict in ALARMS
                for n, rule in zip(counts, rules, strict=True)
            )
        print(
            f"until conclusive, true {100 * ratio - 100:.0f} % | found {share(found, ROUNDS // 4)}"
        )


def fits() -> None:
    """A square that is not there, and what the cost of one interface is said to be."""
    print("counts, curve, noise | false square | interval of b holds")
    for counts in ((64, 128, 256, 512, 1024), tuple(2**n for n in range(4, 12))):
        for fixed in (0.0, 0.5):
            for noise in ("1 %", "5 %", "15 %", "2 to 20 %"):
                low = 0.02 if " to " in noise else float(noise.split()[0]) / 100
                high = 0.2 if " to " in noise else low
                spread = np.logspace(log10(low), log10(high), len(counts))
                numbers = np.array(counts, float)
                base = 1e-4 * (numbers + fixed * counts[len(counts) // 2])
                square = held = linear = 0
                for _ in range(ROUNDS):
                    seconds = base * np.exp(RANDOM.normal(0, 1, len(counts)) * spread)
                    one = fit(dict(zip(counts, seconds.tolist(), strict=True)))
                    assert one is not None
                    square += Power.QUADRATIC in one.terms
                    if term := one.terms.get(Power.LINEAR):
                        linear += 1
                        held += abs(term.value - 1e-4) <= term.margin
                print(f"{len(counts)}, {'a + ' if fixed else ''}b N, {noise} | "
                      f"{share(square, ROUNDS)} | {share(held, linear)}")  # fmt: skip


if __name__ == "__main__":
    for part in (comparisons, boots, series, bisections, forecasts, looks, fits):
        part()
        print(flush=True)
