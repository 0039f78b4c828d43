"""What a comparison found, as outcomes: a kernel that became slower has failed.

A comparison that does not tell is a skip: it blames nobody, and it is no pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from linklab.results.comparison import Effect
from linklab.results.outcomes import Figure, Outcome, Status, Suite, family

COMPARE = "compare"
_STATUS = {
    Effect.SLOWER: Status.FAIL,
    Effect.FASTER: Status.PASS,
    Effect.SAME: Status.PASS,
    Effect.INCONCLUSIVE: Status.SKIP,
}


def comparison_outcomes(entries: Iterable[Mapping[str, Any]], a: str) -> Outcome:
    """Return what stored comparisons with `a` say, a test for each; its figure is the ratio."""
    return family(COMPARE, [_outcome(entry, a) for entry in entries])


def _outcome(entry: Mapping[str, Any], a: str) -> Outcome:
    effect = Effect(entry["verdict"])
    span = f"[{entry['low']:.3g}, {entry['high']:.3g}]"
    said = f"{entry['ratio']:.3g}x {span} of {a}, p = {entry['p_value']:.2g}"
    place = (entry.get("kernel"), entry["operation"], entry["arm"], str(entry["interfaces"]))
    return Outcome(
        name="/".join(filter(None, place)),
        status=_STATUS[effect],
        message=f"{effect.value}: {said}, {entry['blocks']} blocks",
        figure=Figure(float(entry["ratio"]), "x"),
    )


def suite_of_runs(entries: Iterable[Mapping[str, Any]], a: str, b: str) -> Suite:
    """Return the comparison of two stored runs as a suite of its own."""
    return Suite(f"{COMPARE} {b}", (comparison_outcomes(entries, a),))
