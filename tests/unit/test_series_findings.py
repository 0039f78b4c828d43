"""What a stored series says: changes, verdicts, the sentence, the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

import pytest
from hand_made import cell, run_of, sample_in

from linklab.console.lines import new_lines
from linklab.errors import Verdict
from linklab.report.series import as_text, document, listed, sentence
from linklab.results.comparison import Effect
from linklab.results.model import Run, Sample, first_shape
from linklab.results.outcomes import Outcome, Status
from linklab.results.series import Findings, PatchRecord, StateRecord, find, kernel_name
from linklab.results.shape import Better, Metric, Shape
from linklab.results.suites import suites_of

BLOCKS = 20
CELL = cell("mtu", "group", 512)
FIRST = first_shape()


def test_a_noisy_series_that_changes_nothing_fails_once_in_twenty_at_most() -> None:
    """By the estimate alone 95 % of such series failed with 2 blocks, and a third with 20."""
    failed = 0
    for number in range(60):
        random = Random(number)
        every = [
            sample_in(
                kernel_name("sysfs", state),
                CELL,
                {"seconds": random.lognormvariate(0, 0.15)},
                block=block,
            )
            for state in range(11)
            for block in range(1, 2 + 20 * (number % 2))
        ]
        run = replace(series({"sysfs": [1.0] * 11}, noise=0.0), samples=every)
        failed += find(run).verdict is not Verdict.PASS
    assert failed <= 3


def patches(total: int) -> list[PatchRecord]:
    return [
        PatchRecord(n, total, f"net: step {n}", "A", 1, "", "", "x.mbox", "0" * 64)
        for n in range(1, total + 1)
    ]


def samples(kernel: str, value: float, noise: float, metric: Metric) -> list[Sample]:
    """Return a value for each block, with a drift that all kernels share.

    Of a metric that may be 0 both are amounts, of any other factors.
    """
    random = Random(kernel)
    drift = Random(1)
    found = []
    for block in range(1, BLOCKS + 1):
        host, own = drift.random(), noise * random.random()
        one = value + own if metric.zero else value * (1 + host) * (1 + own)
        found.append(sample_in(kernel, CELL, {metric.name: one}, block=block))
    return found


def series(
    times: Mapping[str, Sequence[float | None]],
    states: Sequence[StateRecord] = (),
    faults: Sequence[Mapping[str, Any]] = (),
    noise: float = 0.001,
    fail_above: float = 3.0,
    total: int | None = None,
    shape: Shape = FIRST,
) -> Run:
    """Return a series: of each flavour the figure of the base and of each patch, None for none."""
    count = total or len(next(iter(times.values()))) - 1
    given = {state.kernel: state for state in states}
    every = [
        given.get(kernel_name(flavour, number), StateRecord(flavour, number, 1.0))
        for flavour, figures in times.items()
        for number in range(len(figures))
    ]
    return run_of(
        [],
        [
            one
            for flavour, figures in times.items()
            for number, each in enumerate(figures)
            if each is not None
            for one in samples(kernel_name(flavour, number), each, noise, shape.metric)
        ],
        shape=shape.to_json(),
        kind="series",
        plan={"seed": 1},
        faults=faults,
        series={
            "cover": "net: steps",
            "version": 2,
            "fail_above": fail_above,
            "patches": [asdict(patch) for patch in patches(count)],
            "states": [asdict(state) for state in every],
        },
    )


def change(found: Findings, flavour: str, number: int) -> Effect:
    return found.rows[flavour][number].before[CELL].comparison.verdict


def failed(flavour: str, number: int) -> StateRecord:
    return StateRecord(flavour, number, 1.0, "the kernel does not build", "a.c:1: error: no")


def test_a_patch_that_slows_is_named_with_its_interval_and_fails() -> None:
    found = find(series({"nosysfs": [1.0, 1.0, 1.10], "sysfs": [1.0, 1.0, 1.0]}))
    assert change(found, "nosysfs", 2) is Effect.WORSE
    assert change(found, "sysfs", 2) is Effect.SAME
    assert found.verdict is Verdict.FAIL
    assert [found.verdict_of(row) for row in found.rows["nosysfs"]] == [
        Verdict.PASS, Verdict.PASS, Verdict.FAIL,
    ]  # fmt: skip
    said = sentence(found)
    assert said.startswith("patch 2/2 slows mtu by group, 512 interfaces on nosysfs by 10.0 % [")
    assert said.endswith("]")


def test_what_slows_on_several_kernels_is_said_once() -> None:
    said = sentence(find(series({"nosysfs": [1.0, 1.1], "sysfs": [1.0, 1.2]})))
    assert re.fullmatch(
        r"patch 1/1 slows mtu by group, 512 interfaces "
        r"on nosysfs by 10\.\d % \[.*\] and on sysfs by 20\.\d % \[.*\]",
        said,
    )


def test_what_is_slower_than_it_was_and_not_more_than_allowed_passes() -> None:
    found = find(series({"sysfs": [1.0, 1.10]}, fail_above=20.0))
    assert "patch 1/1 slows" in sentence(found)
    assert found.verdict is Verdict.PASS


def test_a_finer_limit_makes_smaller_effects_matter() -> None:
    assert find(series({"sysfs": [1.0, 1.02]})).verdict is Verdict.PASS
    assert find(series({"sysfs": [1.0, 1.02]}, fail_above=1.0)).verdict is Verdict.FAIL


def test_what_becomes_faster_is_said_with_a_positive_number() -> None:
    found = find(series({"sysfs": [1.0, 0.8]}))
    assert found.verdict is Verdict.PASS
    assert sentence(found).startswith(
        "patch 1/1 speeds up mtu by group, 512 interfaces on sysfs by 20.0 % [20."
    )


def test_small_steps_that_add_up_are_the_series_fault() -> None:
    found = find(series({"sysfs": [1.0, 1.02, 1.04, 1.06, 1.08]}))
    assert all(change(found, "sysfs", n) is not Effect.WORSE for n in range(1, 5))
    assert found.verdict is Verdict.FAIL
    assert sentence(found).startswith("together the patches slow mtu by group, 512 interfaces")


def test_where_nothing_changes_the_sentence_says_how_surely() -> None:
    assert sentence(find(series({"sysfs": [1.0, 1.0, 1.0], "nosysfs": [1.0] * 3}))) == (
        "all 2 patches build, boot and pass mtu by group, 512 interfaces on sysfs and nosysfs; "
        "none of them changes that by 3 %"
    )
    unclear = sentence(find(series({"sysfs": [1.0, 1.0]}, noise=2.0)))
    assert "the patch builds, boots and passes" in unclear
    assert "no change is shown (intervals within -" in unclear


def test_a_speed_that_stays_unclear_is_said_beside_what_is_known() -> None:
    states = [StateRecord("sysfs", 1, 1.0, new_warnings=("a.c:1: w",))]
    run = series({"sysfs": [1.0] * 3, "nosysfs": [1.0] * 3}, states, noise=0.3)
    said = sentence(find(run))
    assert said.startswith(
        "patch 1/2 adds 1 compiler warning on sysfs; what 1/2 and 2/2 do to the speed is unclear"
    )
    assert re.search(r"unclear \(--blocks \d\d+ should tell\)$", said)
    wild = series({"sysfs": [1.0] * 3, "nosysfs": [1.0] * 3}, states, noise=2.0)
    assert sentence(find(wild)).endswith("is unclear (this host is too noisy to tell)")


def test_a_patch_is_compared_with_the_last_one_that_was_measured() -> None:
    states = [failed("sysfs", 1)]
    found = find(series({"sysfs": [1.0, None, 1.5]}, states))
    row = found.rows["sysfs"][2]
    assert (row.before[CELL].against, row.base[CELL].against) == (0, 0)
    assert found.verdict_of(found.rows["sysfs"][1]) is Verdict.SKIP
    said = sentence(found)
    assert said.startswith("patch 1/2 does not build on sysfs (2/2 mends it); patch 2/2 slows ")


def test_what_stays_broken_is_said_once() -> None:
    states = [failed(flavour, n) for flavour in ("sysfs", "nosysfs") for n in (1, 2, 3)]
    found = find(series({"sysfs": [1.0, None, None, None], "nosysfs": [1.0] + [None] * 3}, states))
    assert sentence(found) == "patch 1/3 does not build on sysfs and nosysfs, from there on"
    assert found.verdict is Verdict.SKIP


def test_a_fault_outweighs_a_build_that_failed() -> None:
    faults: list[dict[str, Any]] = [
        {"kernel": "sysfs@1", "verdict": "hang", "message": "no answer", "during": "boot"},
        {"kernel": "sysfs@1", "verdict": "fail", "message": "later"},
        {"kernel": "nosysfs@2", "verdict": "fail", "message": "wrong", "during": "trial",
         "operation": "mtu", "arm": "group", "interfaces": 512},
    ]  # fmt: skip
    found = find(
        series(
            {"sysfs": [1.0, None, 1.0], "nosysfs": [1.0, None, None]},
            [failed("nosysfs", 1)],
            faults,
        )
    )
    assert found.verdict is Verdict.HANG
    assert sentence(found) == (
        "patch 1/2 hangs at boot on sysfs (2/2 mends it) and does not build on nosysfs; "
        "patch 2/2 fails at mtu by group, 512 interfaces on nosysfs"
    )


def test_a_base_that_is_broken_is_no_patchs_fault() -> None:
    faults = [{"kernel": "sysfs@base", "verdict": "crash", "message": "BUG", "during": "boot"}]
    found = find(series({"sysfs": [None, 1.0, 1.0]}, faults=faults))
    assert sentence(found) == "the base crashes at boot on sysfs"
    assert found.verdict is Verdict.SKIP
    assert not found.rows["sysfs"][1].before
    assert found.rows["sysfs"][2].before


def test_a_kernel_that_is_the_same_has_the_figures_of_that() -> None:
    states = [StateRecord("sysfs", 2, 1.0, same_as=1), StateRecord("sysfs", 3, 1.0)]
    found = find(series({"sysfs": [1.0, 1.2, None, 1.2]}, states))
    rows = found.rows["sysfs"]
    assert rows[2].values == rows[1].values
    assert rows[2].base == rows[1].base
    assert rows[3].before[CELL].against == 1
    assert "same kernel as 1/3" in as_text(series({"sysfs": [1.0, 1.2, None, 1.2]}, states),
                                               found)  # fmt: skip


def test_what_was_not_tested_is_said() -> None:
    found = find(series({"sysfs": [1.0, 1.0, None]}, total=3))
    assert sentence(found) == "not tested to the end: 2/3 to 3/3"
    nothing = find(run_of([], kind="series", series={"patches": [asdict(p) for p in patches(1)]}))
    assert sentence(nothing) == "not tested to the end: 1/1"
    assert nothing.verdict is Verdict.PASS


def test_the_tables_have_a_row_for_each_patch_and_what_proves_it() -> None:
    states = [
        StateRecord("sysfs", 1, 1.0, new_warnings=tuple(f"a.c:{n}: w" for n in range(7))),
        StateRecord("sysfs", 2, 1.0, new_lines=("dummy: odd",), booted=True),
        failed("nosysfs", 2),
    ]
    run = series({"sysfs": [1.0, 1.0, 1.1], "nosysfs": [1.0, 1.0, None]}, states)
    text = as_text(run, find(run), width=160)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "1/2 net: step 1 ok, 7 new warnings ok" in lines
    assert "2/2 net: step 2 ok, 1 new console line does not build" in lines
    assert any(line.startswith("2/2 ") and "slower +10.0 % [" in line for line in lines)
    assert "2 patches v2: net: steps" in text
    assert "a.c:4: w" in text and "a.c:5: w" not in text and "and 2 more" in text
    assert "a.c:1: error: no" in text
    assert "dummy: odd" in text
    assert lines[-1] == sentence(find(run))
    narrow = as_text(run, find(run), width=70)
    assert "sysfs, mtu by group, 512 interfaces" in narrow


def test_a_script_finds_each_change_with_what_it_rests_on() -> None:
    run = series({"sysfs": [1.0, 1.1]})
    rows = document(run, find(run))["rows"]
    (found,) = rows[1]["before"]
    assert (found["operation"], found["against"], found["effect"]) == ("mtu", 0, "slower")
    assert found["low"] < found["percent"] < found["high"]
    assert found["blocks"] == BLOCKS
    assert rows[1]["verdict"] == "fail"
    assert found["seconds"] == pytest.approx(1.1 * found["seconds_before"], rel=0.01)
    assert "difference" not in found


@pytest.mark.parametrize(
    ("words", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_words_are_listed_as_prose_does(words: list[str], text: str) -> None:
    assert listed(words) == text


def test_lines_of_a_console_are_new_whatever_their_numbers() -> None:
    before = ["[    0.100000] tsc: 2494.123 MHz\n[    0.2] torn\nwelcome\n"]
    after = ["[    9.900000] tsc: 2501.000 MHz\n[    9.910000] dummy: at 0xdeadbeef\n",
             "[    9.910000] dummy: at 0xcafe\nhello\n[    1.000000] \n"]  # fmt: skip
    assert new_lines(before, after) == ["dummy: at 0xdeadbeef"]


def outcomes(run: Run) -> dict[tuple[str, str], Status]:
    return {
        (suite.kernel.name, outcome.name): outcome.status
        for suite in suites_of(run)
        if suite.kernel is not None
        for outcome in suite.outcomes
    }


def test_other_tools_get_a_suite_for_each_kernel_of_each_state() -> None:
    faults = [
        {"kernel": "sysfs@3", "verdict": "crash", "message": "BUG", "during": "boot"},
        {"kernel": "sysfs@4", "verdict": "hang", "message": "no", "during": "end"},
    ]
    states = [failed("sysfs", 1), StateRecord("sysfs", 2, 1.0, new_warnings=("a.c:1: w",))]
    run = series({"sysfs": [1.0, None, 1.5, None, None, None]}, states, faults)
    found = outcomes(run)
    assert found == {
        ("sysfs@base", "build"): Status.PASS,
        ("sysfs@base", "boot"): Status.PASS,
        ("sysfs@base", "mtu/group/512"): Status.PASS,
        ("sysfs@1", "build"): Status.FAIL,
        ("sysfs@2", "build"): Status.PASS,
        ("sysfs@2", "boot"): Status.PASS,
        ("sysfs@2", "mtu/group/512"): Status.FAIL,
        ("sysfs@3", "build"): Status.PASS,
        ("sysfs@3", "boot"): Status.CRASH,
        ("sysfs@3", "mtu/group/512"): Status.MISSING,
        ("sysfs@4", "build"): Status.PASS,
        ("sysfs@4", "boot"): Status.PASS,
        ("sysfs@4", "mtu/group/512"): Status.MISSING,
        ("sysfs@4", "scenario"): Status.HANG,
        ("sysfs@5", "build"): Status.PASS,
        ("sysfs@5", "boot"): Status.MISSING,
        ("sysfs@5", "mtu/group/512"): Status.MISSING,
    }
    second = next(s for s in suites_of(run) if s.kernel and s.kernel.name == "sysfs@2")
    assert second.kernel and len(second.kernel.patches) == 2
    assert second.outcomes[0].message == "1 new compiler warning"
    assert second.outcomes[2].message.startswith("slower: +50.0 % [")


# Other metrics than a time


GOODPUT = replace(FIRST, metrics=(Metric("goodput", "Mbit/s", Better.MORE),))
LOSS = replace(FIRST, metrics=(Metric("loss", "%", zero=True, short="lost frames", matters=0.5),))
HEARD = replace(FIRST, metrics=(Metric("heard", "", Better.NEITHER, zero=True, matters=1),))


def cell_of(run: Run, kernel: str) -> Outcome:
    (suite,) = (s for s in suites_of(run) if s.kernel and s.kernel.name == kernel)
    (outcome,) = (o for o in suite.outcomes if o.name == "mtu/group/512")
    return outcome


def test_where_more_is_better_less_is_what_fails() -> None:
    run = series({"sysfs": [10.0, 8.0, 10.0]}, shape=GOODPUT)
    found = find(run)
    assert change(found, "sysfs", 1) is Effect.WORSE
    assert change(found, "sysfs", 2) is Effect.BETTER
    assert [found.verdict_of(row) for row in found.rows["sysfs"]] == [
        Verdict.PASS, Verdict.FAIL, Verdict.PASS,
    ]  # fmt: skip
    assert re.fullmatch(
        r"patch 1/2 worsens mtu by group, 512 interfaces on sysfs by 20\.\d % \[.*\]; "
        r"patch 2/2 improves mtu by group, 512 interfaces on sysfs by 2\d\.\d % \[.*\]",
        sentence(found),
    ), sentence(found)
    assert "less goodput -20." in " ".join(as_text(run, found, width=160).split())
    worse = cell_of(run, "sysfs@1")
    assert (worse.status, worse.seconds) == (Status.FAIL, None)
    assert worse.message.startswith("less goodput: -20.")
    assert worse.figure is not None and worse.figure.unit == "Mbit/s"
    assert cell_of(run, "sysfs@2").status is Status.PASS


def test_more_of_what_is_better_is_never_a_regression_however_much() -> None:
    found = find(series({"sysfs": [10.0, 100.0]}, shape=GOODPUT))
    assert found.verdict is Verdict.PASS
    assert sentence(found).startswith("patch 1/1 improves ")


def test_less_than_is_allowed_passes_in_either_direction() -> None:
    run = series({"sysfs": [10.0, 9.0]}, shape=GOODPUT, fail_above=20.0)
    assert find(run).verdict is Verdict.PASS
    assert "patch 1/1 worsens" in sentence(find(run))


def test_what_may_be_within_what_is_allowed_passes() -> None:
    found = find(series({"sysfs": [10.0, 8.0]}, shape=GOODPUT, fail_above=20.0, noise=0.1))
    (one,) = found.rows["sysfs"][1].before.values()
    assert one.comparison.percent[1] < -20 < one.comparison.percent[2]
    assert one.comparison.verdict is Effect.WORSE
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize(("more", "verdict"), [(0.9, Verdict.FAIL), (0.3, Verdict.PASS)])
def test_a_difference_is_judged_by_what_matters_and_not_by_per_cent(
    more: float, verdict: Verdict
) -> None:
    assert find(series({"sysfs": [0.0, more]}, shape=LOSS)).verdict is verdict


def test_what_was_never_lost_and_now_is_fails_with_its_amount() -> None:
    run = series({"sysfs": [0.0, 2.0, 0.0]}, shape=LOSS)
    found = find(run)
    assert change(found, "sysfs", 1) is Effect.WORSE
    assert found.verdict_of(found.rows["sysfs"][1]) is Verdict.FAIL
    assert found.verdict_of(found.rows["sysfs"][2]) is Verdict.PASS
    assert re.match(
        r"patch 1/2 worsens mtu by group, 512 interfaces on sysfs by \+2\.00 % to \+2\.00 %; "
        r"patch 2/2 improves mtu by group, 512 interfaces on sysfs by -2\.00 % to -2\.00 %",
        sentence(found),
    ), sentence(found)
    shown = " ".join(as_text(run, found, width=160).split())
    assert "loss, %, median of 20 guests" in shown
    assert "more lost frames +2.00 % to +2.00 %" in shown
    (stored,) = document(run, found)["rows"][1]["before"]
    assert stored["effect"] == "more lost frames"
    assert (stored["difference"], stored["low"]) == pytest.approx((2.0, 2.0), abs=0.01)
    assert "percent" not in stored
    assert (stored["loss"], stored["loss_before"]) == pytest.approx((2.0, 0.0), abs=0.01)
    worse = cell_of(run, "sysfs@1")
    assert worse.status is Status.FAIL
    assert re.match(r"more lost frames: \+2 \[2, 2\] % against the last", worse.message)


def test_zeros_all_along_are_the_same_and_pass() -> None:
    run = series({"sysfs": [0.0, 0.0, 0.0]}, noise=0.0, shape=LOSS)
    found = find(run)
    assert [change(found, "sysfs", n) for n in (1, 2)] == [Effect.SAME, Effect.SAME]
    assert found.verdict is Verdict.PASS
    assert sentence(found) == (
        "all 2 patches build, boot and pass mtu by group, 512 interfaces on sysfs; "
        "none of them changes that by 0.500 %"
    )
    assert cell_of(run, "sysfs@2").figure is not None, "0 is a figure"
    assert " 0 " in as_text(run, found, width=160)


def test_of_what_is_neither_better_nor_worse_a_change_is_said_and_passes() -> None:
    run = series({"sysfs": [5.0, 8.0]}, shape=HEARD)
    found = find(run)
    assert change(found, "sysfs", 1) is Effect.DIFFERENT
    assert found.verdict is Verdict.PASS
    assert sentence(found).startswith("patch 1/1 changes mtu by group, 512 interfaces on sysfs by ")
    assert cell_of(run, "sysfs@1").status is Status.PASS


def test_a_difference_that_stays_unclear_is_said_so() -> None:
    found = find(series({"sysfs": [0.0, 0.0]}, noise=5.0, shape=LOSS))
    assert change(found, "sysfs", 1) is Effect.INCONCLUSIVE
    assert sentence(found).endswith("; no change is shown")


def test_a_series_says_which_of_its_metrics_it_is_judged_by() -> None:
    both = replace(FIRST, metrics=(FIRST.metric, *GOODPUT.metrics))
    run = series({"sysfs": [10.0, 8.0]}, shape=GOODPUT)
    timed = [replace(s, metrics={**s.metrics, "seconds": 1.0}) for s in run.samples]
    about = {**run.about, "shape": both.to_json()}
    by_time = find(Run(about, timed))
    by_goodput = find(Run({**about, "series": {**about["series"], "metric": "goodput"}}, timed))
    assert [found.metric.name for found in (by_time, by_goodput)] == ["seconds", "goodput"]
    assert [found.verdict for found in (by_time, by_goodput)] == [Verdict.PASS, Verdict.FAIL]
