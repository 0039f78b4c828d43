"""Suites made by hand and at random, for tests of what exports make of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from linklab.results.outcomes import BUILD, KernelFacts, Outcome, Quantity, Status, Suite, family

KERNEL = KernelFacts(
    name="sysfs",
    release="6.12.117",
    sha256="ab" * 32,
    tree="cd" * 20,
    patches=("ef" * 32,),
    compiler="gcc 12.2.0",
    config="sysfs",
)
_PASSED = Outcome("128", Status.PASS, 0.0000125, "median of 3 trials", figure=Quantity(0.0000125))
_CRASHED = Outcome("256", Status.CRASH, None, "BUG: at #1", "[1.0] BUG: at #1\nnot ok 9 mine")
_MISSING = Outcome("512", Status.MISSING, None, "the kernel failed before it")
_SKIPPED = Outcome("512", Status.SKIP, None, "no sysfs here")
SUITE = Suite(
    name="grouping",
    outcomes=(
        family("boot", [Outcome("128", Status.PASS, 0.5)]),
        family(
            "mtu",
            [family("group", [_PASSED, _CRASHED, _MISSING]), family("process", [_SKIPPED])],
        ),
    ),
    kernel=KERNEL,
    properties={"accel": "tcg", "boot": "direct", "command": "invoke run"},
    start="2026-11-21T10:45:27.892+00:00",
    end="2026-11-21T10:46:00.000+00:00",
)
HANGS = replace(SUITE, outcomes=(Outcome("boot", Status.HANG, 60.0, "no answer"),))
NOT_BUILT = Suite(
    "series",
    (Outcome(BUILD, Status.FAIL, None, "it does not compile", "a.c:1: error: no"),),
    KernelFacts("sysfs", tree="cd" * 20),
)

_leaf = st.builds(
    Outcome,
    name=st.text(),
    status=st.sampled_from(Status),
    seconds=st.none() | st.floats(0, 1e6),
    message=st.text(),
    output=st.text(),
    figure=st.none() | st.builds(Quantity, st.floats(0, 1e6), st.just("s")),
)
_tree = st.recursive(
    _leaf,
    lambda inner: st.builds(family, st.text(), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)
any_suite = st.builds(
    Suite,
    name=st.text(),
    outcomes=st.lists(_tree, max_size=3).map(tuple),
    kernel=st.none()
    | st.builds(KernelFacts, st.text(), st.text(), st.text(), tree=st.text(), commit=st.text()),
    properties=st.dictionaries(st.text(), st.text(), max_size=2),
)
