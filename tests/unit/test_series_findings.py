"""What a stored series says: changes, verdicts, the sentence, the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

import pytest
from hand_made import run_of, sample

from linklab.console.lines import new_lines
from linklab.errors import Verdict
from linklab.report.series import as_text, document
from linklab.report.seriessentence import listed, sentence
from linklab.results.comparison import Effect
from linklab.results.model import Run, Sample
from linklab.results.outcomes import Status
from linklab.results.runsuites import suites_of
from linklab.results.series import Findings, PatchRecord, StateRecord, find, kernel_name
from linklab.results.work import Work

BLOCKS = 20
WORK = Work("mtu", "group", 512)


def patches(total: int) -> list[PatchRecord]:
    return [
        PatchRecord(n, total, f"net: step {n}", "A", 1, "", "", "x.mbox", "0" * 64)
        for n in range(1, total + 1)
    ]


def samples(kernel: str, seconds: float, noise: float = 0.001) -> list[Sample]:
    """Return a value for each block, with a drift that all kernels share."""
    random = Random(kernel)
    drift = Random(1)
    return [
        replace(
            sample(
                kernel, "group", 512, seconds * (1 + drift.random()) * (1 + noise * random.random())
            ),
            block=block,
        )
        for block in range(1, BLOCKS + 1)
    ]


def series(
    times: Mapping[str, Sequence[float | None]],
    states: Sequence[StateRecord] = (),
    faults: Sequence[Mapping[str, Any]] = (),
    noise: float = 0.001,
    fail_above: float = 3.0,
    total: int | None = None,
) -> Run:
    """Return a series: of each flavour the seconds of the base and of each patch, None for none."""
    count = total or len(next(iter(times.values()))) - 1
    given = {state.kernel: state for state in states}
    every = [
        given.get(kernel_name(flavour, number), StateRecord(flavour, number, 1.0))
        for flavour, seconds in times.items()
        for number in range(len(seconds))
    ]
    return run_of(
        [],
        [
            one
            for flavour, seconds in times.items()
            for number, each in enumerate(seconds)
            if each is not None
            for one in samples(kernel_name(flavour, number), each, noise)
        ],
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
    return found.rows[flavour][number].before[WORK].comparison.verdict


def failed(flavour: str, number: int) -> StateRecord:
    return StateRecord(flavour, number, 1.0, "the kernel does not build", "a.c:1: error: no")


def test_a_patch_that_slows_is_named_with_its_interval_and_fails() -> None:
    found = find(series({"nosysfs": [1.0, 1.0, 1.10], "sysfs": [1.0, 1.0, 1.0]}))
    assert change(found, "nosysfs", 2) is Effect.SLOWER
    assert change(found, "sysfs", 2) is Effect.SAME
    assert found.verdict is Verdict.FAIL
    assert [found.verdict_of(row) for row in found.rows["nosysfs"]] == [
        Verdict.PASS, Verdict.PASS, Verdict.FAIL,
    ]  # fmt: skip
    said = sentence(found)
    assert said.startswith("patch 2/2 slows mtu by group of 512 interfaces on nosysfs by 10.0 % [")
    assert said.endswith("]")


def test_what_slows_on_several_kernels_is_said_once() -> None:
    said = sentence(find(series({"nosysfs": [1.0, 1.1], "sysfs": [1.0, 1.2]})))
    assert re.fullmatch(
        r"patch 1/1 slows mtu by group of 512 interfaces "
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
        "patch 1/1 speeds up mtu by group of 512 interfaces on sysfs by 20.0 % [20."
    )


def test_small_steps_that_add_up_are_the_series_fault() -> None:
    found = find(series({"sysfs": [1.0, 1.02, 1.04, 1.06, 1.08]}))
    assert all(change(found, "sysfs", n) is not Effect.SLOWER for n in range(1, 5))
    assert found.verdict is Verdict.FAIL
    assert sentence(found).startswith("together the patches slow mtu by group of 512 interfaces")


def test_where_nothing_changes_the_sentence_says_how_surely() -> None:
    assert sentence(find(series({"sysfs": [1.0, 1.0, 1.0], "nosysfs": [1.0] * 3}))) == (
        "all 2 patches build, boot and pass mtu by group of 512 interfaces on sysfs and nosysfs; "
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
    assert (row.before[WORK].against, row.base[WORK].against) == (0, 0)
    assert found.verdict_of(found.rows["sysfs"][1]) is Verdict.SKIP
    said = sentence(found)
    assert said.startswith("patch 1/2 does not build on sysfs (2/2 mends it); patch 2/2 slows ")


def test_what_stays_broken_is_said_once() -> None:
    states = [failed(flavour, n) for flavour in ("sysfs", "nosysfs") for n in (1, 2, 3)]
    found = find(series({"sysfs": [1.0, None, None, None], "nosysfs": [1.0] + [None] * 3}, states))
    assert sentence(found) == "patch 1/3 does not build on sysfs and nosysfs, from there on"
    assert found.verdict is Verdict.SKIP


def test_a_fault_outweighs_a_build_that_failed() -> None:
    faults = [
        {"kernel": "sysfs@1", "verdict": "hang", "message": "no answer", "during": "boot"},
        {"kernel": "sysfs@1", "verdict": "fail", "message": "later"},
        {"kernel": "nosysfs@2", "verdict": "fail", "message": "wrong", "during": "trial",
         "operation": "mtu", "arm": "group"},
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
        "patch 2/2 fails at mtu by group on nosysfs"
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
    assert rows[2].seconds == rows[1].seconds
    assert rows[2].base == rows[1].base
    assert rows[3].before[WORK].against == 1
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
