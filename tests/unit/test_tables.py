"""The tables of hand-made runs: on the terminal, and the same as text."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hand_made import PAPER_COUNTS, both_arms, created, run_of, sample, sample_in
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from linklab.commands.history import with_claims
from linklab.report.compare import Stored
from linklab.report.grid import TEXT_WIDTH, Entry, Grid
from linklab.report.tables import as_text as text_of_run
from linklab.report.tables import (
    claims_grid,
    comparison_grid,
    key_figure,
    main_grid,
    reference_grid,
    render,
)
from linklab.results.figures import Figures
from linklab.results.model import Run, first_shape
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import Finding

GROWING = dict(zip(PAPER_COUNTS, (20.0, 40.0, 60.0, 80.0, 100.0), strict=True))
ARMS = ("process", "group", "netlink", "batch", "dump")
LONG = "/home/somebody/src/linux-next/arch/x86/boot/bzImage"
LONGER = "/home/somebody/src/linux-next-patched/arch/x86/boot/bzImage"


MTU = Cell({"operation": "mtu"})


def as_text(run: Run, width: int = TEXT_WIDTH) -> str:
    """Return a run's tables, what its scenario makes of it among them."""
    return text_of_run(with_claims(run), width)


def both_kernels() -> Run:
    samples = [s for k in ("nosysfs", "sysfs") for s in both_arms(k, GROWING)]
    samples += [created(k, count, 0.5) for k in ("nosysfs", "sysfs") for count in PAPER_COUNTS]
    return run_of(["sysfs", "nosysfs"], samples, boots=[0.6], image_bytes=5_150_000)


def all_arms(kernels: list[str]) -> Run:
    """A run in which each figure is another one: 1.01, 1.02, ..."""
    cells = [(k, arm, count) for k in kernels for arm in ARMS for count in PAPER_COUNTS]
    return run_of(kernels, [sample(*cell, 1 + n / 100) for n, cell in enumerate(cells, 1)])


def words_of(text: str, start: str) -> list[str]:
    """The words of the first line that begins with a word, numbers of interfaces say."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [start])


def test_the_accelerator_stands_first() -> None:
    assert as_text(both_kernels()).splitlines()[0].startswith("TCG")
    about = {**both_kernels().about, "accel": "kvm"}
    assert as_text(Run(about, [])).splitlines()[0].startswith("KVM")


def test_claims_that_a_run_does_not_judge_are_counted_where_they_are_most() -> None:
    one = as_text(run_of(["nosysfs"], both_arms("nosysfs", GROWING)))
    assert "one request for a group" in " ".join(one.split()) and "creating" not in one
    assert "not measured: 3 of the paper's 4 claims" in one
    assert "claims;" not in as_text(both_kernels())


def test_under_tcg_it_is_said_what_may_be_compared() -> None:
    assert "compare ratios, not seconds" in as_text(both_kernels()).splitlines()[0]


def test_it_says_what_was_booted_on_what() -> None:
    text = as_text(both_kernels())
    for word in ("direct boot", "microvm", "1 CPU", "256 MiB", "QEMU 7.2.22", "nosysfs 6.12.0"):
        assert word in text


def test_kernels_that_others_configured_are_told_apart_where_they_stand_beside_another() -> None:
    about = both_kernels().about
    ours, theirs = about["kernels"]
    mixed = {**about, "kernels": [ours, {**theirs, "built_by_lab": False}]}
    assert f"not built by the lab: {theirs['name']}. Kernels" in as_text(Run(mixed, []))
    assert "not built by the lab" not in as_text(both_kernels())
    alone = {**about, "kernels": mixed["kernels"][1:]}
    assert "not built by the lab" not in as_text(Run(alone, []))


def test_the_table_has_the_papers_shape() -> None:
    """Interfaces down; without and with sysfs across; the arms and their ratio in each."""
    text = as_text(both_kernels())
    head = next(line for line in text.splitlines() if "without sysfs" in line)
    assert head.index("without sysfs") < head.index("with sysfs")
    assert words_of(text, "interfaces") == ["interfaces", *(["group", "process", "ratio"] * 2)]
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d+ ", line)]
    assert [int(row[0]) for row in rows[:5]] == list(PAPER_COUNTS)
    assert rows[3] == ["1024", "0.0100", "0.800", "80x", "0.0100", "0.800", "80x"]


def test_under_it_stands_the_papers_table_for_the_same_counts() -> None:
    samples = [s for k in ("nosysfs", "sysfs") for s in both_arms(k, {100: 10, 128: 20, 1024: 9})]
    text = as_text(run_of(["sysfs", "nosysfs"], samples))
    theirs = text[text.index("in 2011") :]
    assert words_of(theirs, "128") == ["128", "0.01", "0.49", "49x", "0.01", "0.53", "53x"]
    assert words_of(theirs, "1024") == ["1024", "0.17", "7.02", "41x", "0.20", "7.51", "38x"]
    assert "256" not in theirs
    assert "100 " not in theirs


def test_of_one_flavour_the_paper_is_shown_for_that_one() -> None:
    text = as_text(run_of(["sysfs"], both_arms("sysfs", GROWING)))
    theirs = text[text.index("in 2011") :]
    assert words_of(theirs, "2048") == ["2048", "0.36", "23.05", "64x"]
    assert "without sysfs" not in theirs[: theirs.index("claims")]


@pytest.mark.parametrize(
    ("kernel", "count"), [(LONG, 128), ("sysfs", 100)], ids=["another kernel", "another count"]
)
def test_where_the_paper_has_no_figures_that_is_said(kernel: str, count: int) -> None:
    text = as_text(run_of([kernel], both_arms(kernel, {count: 40})))
    assert "has no figures for these kernels and counts" in text


def test_another_operation_is_not_held_against_the_papers() -> None:
    text = as_text(run_of(["sysfs"], [sample("sysfs", "group", 128, 0.1, operation="up")]))
    assert "up: seconds in the guest" in text
    assert "in 2011" not in text


def test_each_operation_has_a_table_in_the_order_measured() -> None:
    samples = [sample("sysfs", "group", 128, 0.1, operation=o) for o in ("up", "mtu", "delete")]
    text = as_text(run_of(["sysfs"], samples))
    places = [text.index(f"{o}: seconds") for o in ("up", "mtu", "delete")]
    assert places == sorted(places)


def test_without_both_arms_there_is_no_ratio() -> None:
    text = as_text(run_of(["sysfs"], [sample("sysfs", "netlink", 100, 0.5)]))
    assert words_of(text, "interfaces") == ["interfaces", "netlink"]
    assert words_of(text, "100") == ["100", "0.500"]


def test_a_time_whose_state_was_wrong_is_shown_as_not_valid() -> None:
    samples = [
        sample("sysfs", "process", 100, 0.5),
        sample("sysfs", "group", 100, 0.123, verified=False),
    ]
    text = as_text(run_of(["sysfs"], samples))
    assert words_of(text, "100") == ["100", "not", "valid", "0.500", "-"]
    assert "0.123" not in text


def test_a_time_that_is_not_valid_is_not_hidden_by_others_that_are() -> None:
    samples = [
        sample("sysfs", "group", 100, 0.5),
        sample("sysfs", "group", 100, 0.7, trial=2),
        sample("sysfs", "group", 100, 0.001, trial=3, verified=False),
    ]
    words = words_of(as_text(run_of(["sysfs"], samples)), "100")
    assert words[1] == "0.600"
    assert words[-3:] == ["3", "not", "valid"]


def test_what_was_not_measured_is_a_dash() -> None:
    """A kernel that crashed at the first count, beside one that went through."""
    samples = [*both_arms("sysfs", {100: 20, 200: 40}), sample("nosysfs", "process", 100, 0.2)]
    text = as_text(run_of(["sysfs", "nosysfs"], samples))
    assert words_of(text, "100") == ["100", "-", "0.200", "-", "0.0100", "0.200", "20x"]
    assert words_of(text, "200") == ["200", "-", "-", "-", "0.0100", "0.400", "40x"]


def test_a_run_without_samples_still_says_what_it_was_and_judges_nothing() -> None:
    text = as_text(run_of(["sysfs"]))
    assert text.startswith("TCG")
    assert text.count(Finding.NOT_MEASURED.value) == 1
    assert "not measured: 4 of the paper's 4 claims; the page says" in text
    assert "seconds in the guest" not in text


def test_each_claim_has_their_figure_ours_and_what_became_of_it() -> None:
    text = as_text(both_kernels())
    claims = text[text.index("claims") :]
    assert "5.15 MB" in claims
    assert "0.60 s (median of 1," in claims
    assert len(re.findall(r"(?<!not )reproduced", claims)) == 3
    assert "not reproduced: sysfs" in claims


# As values


def texts(grid: Grid) -> list[list[str]]:
    return [[entry.text for entry in row] for row in grid.rows]


def test_kernels_stand_over_their_columns() -> None:
    grid = main_grid(Figures(both_kernels()), MTU)
    assert [(span.name, span.columns) for span in grid.spans] == [
        ("without sysfs", 3),
        ("with sysfs", 3),
    ]
    assert [c.name for c in grid.columns] == ["interfaces", *["group", "process", "ratio"] * 2]
    assert texts(grid)[3] == ["1024", "0.0100", "0.800", "80x", "0.0100", "0.800", "80x"]
    assert [entry.number for entry in grid.rows[3][:4]] == pytest.approx([1024, 0.01, 0.8, 80])


def test_repeated_trials_show_their_interval_and_what_was_not_valid() -> None:
    samples = [sample("sysfs", "group", 9, s, trial=n) for n, s in enumerate((1, 2, 3), 1)]
    samples.append(sample("sysfs", "group", 9, 9, trial=4, verified=False))
    value = main_grid(Figures(run_of(["sysfs"], samples)), MTU).rows[0][1]
    assert value == Entry("2.00", 2, "[1.00, 3.00], 1 of 4 not valid", "invalid")


def test_a_cell_tells_not_valid_from_not_measured() -> None:
    samples = [sample("a", "group", 9, 1, verified=False), sample("b", "group", 9, 1)]
    samples.append(sample("b", "process", 9, 1))
    grid = main_grid(Figures(run_of(["a", "b"], samples)), MTU)
    assert texts(grid) == [["9", "not valid", "-", "-", "1.00", "1.00", "1x"]]


def test_the_papers_table_is_a_value_of_the_same_form() -> None:
    grid = reference_grid(Figures(with_claims(both_kernels())))
    assert grid is not None
    assert [span.name for span in grid.spans] == ["without sysfs", "with sysfs"]
    assert texts(grid)[4] == ["2048", "0.32", "21.74", "68x", "0.36", "23.05", "64x"]
    assert "2011" in grid.caption
    assert reference_grid(Figures(both_kernels())) is None, "which a run may not have"


def test_claims_of_several_runs_stand_beside_each_other() -> None:
    run = with_claims(both_kernels())
    grid = claims_grid([run, run], ["A", "B"])
    assert grid is not None
    assert [c.name for c in grid.columns] == ["claim", "2011", "here A", "", "here B", ""]
    found = [(row[3].text, row[3].remark, row[3].tone) for row in grid.rows]
    assert found[0] == ("reproduced", "", "good")
    assert found[1][0] == "not reproduced:" and found[1][1] and found[1][2] == "bad"
    assert [row[2:4] for row in grid.rows] == [row[4:6] for row in grid.rows]
    assert claims_grid([run, both_kernels()]) is None, "one of them has none"


# Runs beside each other


def stored(*samples_: tuple[int, float, int], letter: str = "") -> Stored:
    """A run of one kernel and arm: interfaces, seconds and the trial of each sample."""
    found = [sample("k", "group", count, s, trial=trial) for count, s, trial in samples_]
    return Stored(Path("somewhere"), run_of(["k"], found), letter)


def changes(*runs: Stored) -> list[list[Entry]]:
    return [list(row[-len(runs) + 1 :]) for row in comparison_grid(runs).rows]


@pytest.mark.parametrize(
    ("before", "now", "text"), [(2.0, 3.0, "+50.0 %"), (2.0, 1.0, "-50.0 %"), (1.0, 1.0, "+0.0 %")]
)
def test_a_change_is_told_in_per_cent(before: float, now: float, text: str) -> None:
    ((found,),) = changes(stored((9, before, 1)), stored((9, now, 1)))
    assert (found.text, found.number, found.tone) == (text, now / before, "ratio")


def test_what_one_of_two_runs_lacks_has_no_change() -> None:
    found = changes(stored((8, 1.0, 1)), stored((9, 1.0, 1)))
    assert [[(e.text, e.number) for e in row] for row in found] == [[("-", None)]] * 2


def test_a_change_that_trials_cannot_tell_says_so() -> None:
    def repeated(*seconds: float) -> Stored:
        return stored(*((1, s, n) for n, s in enumerate(seconds, 1)))

    def last_of(before: Stored, now: Stored) -> Entry:
        ((found,),) = changes(before, now)
        return found

    assert last_of(repeated(1, 2, 3), repeated(2, 3, 4)).remark == "within the spread"
    assert last_of(repeated(1, 2, 3), repeated(4, 5, 6)).remark == ""
    assert last_of(repeated(1), repeated(1)).remark == ""


def test_runs_beside_each_other_are_one_table_with_all_axes() -> None:
    figures = zip("ABC", (1.0, 2.0, 4.0), strict=True)
    runs = [stored((8, s, 1), (16, 2 * s, 1), letter=letter) for letter, s in figures]
    grid = comparison_grid(runs)
    assert [c.name for c in grid.columns] == [
        "kernel", "operation", "arm", "interfaces", "A", "B", "C", "B against A", "C against A",
    ]  # fmt: skip
    assert [(span.name, span.columns) for span in grid.spans] == [
        ("seconds in the guest", 3),
        ("change", 2),
    ]
    assert grid.leading == 4
    assert texts(grid)[1] == [
        "k", "mtu", "group", "16", "2.00", "4.00", "8.00", "+100.0 %", "+300.0 %",
    ]  # fmt: skip
    assert not [c for c in comparison_grid(runs, changes=False).columns if "against" in c.name]


# Another experiment


RATES = Shape(
    axes=(Axis("mode", among=("plain", "fast")), Axis("size", title="bytes", log=False)),
    metrics=(Metric("goodput", "Mbit/s", Better.MORE, zero=True, title="goodput, Mbit/s"),),
    rows="size",
    columns="mode",
    versus=("fast", "plain"),
)


def rates(*values: tuple[str, int, float], shape: Shape = RATES) -> Run:
    samples = [
        sample_in("k", Cell({"mode": m, "size": size}), {"goodput": v}) for m, size, v in values
    ]
    return run_of(["k"], samples, shape=shape.to_json(), scenario="another")


def test_a_run_of_another_experiment_has_its_own_rows_columns_and_metric() -> None:
    run = rates(("plain", 1500, 8.0), ("fast", 1500, 9.5), ("fast", 64, 0.0), ("plain", 64, 0.0))
    grid = main_grid(Figures(run), Cell())
    assert grid.caption == "goodput, Mbit/s"
    assert [c.name for c in grid.columns] == ["bytes", "plain", "fast", "ratio"]
    assert texts(grid) == [["64", "0", "0", "-"], ["1500", "8.00", "9.50", "1.2x"]]
    text = as_text(run)
    assert "claims" not in text and "2011" not in text and "what it cost" not in text


def test_rows_may_be_words() -> None:
    turned = replace(RATES, rows="mode", columns="size", versus=None)
    grid = main_grid(Figures(rates(("fast", 64, 1.0), ("plain", 1500, 2.0), shape=turned)), Cell())
    assert [c.name for c in grid.columns] == ["mode", "64", "1500"]
    assert texts(grid) == [["fast", "1.00", "-"], ["plain", "-", "2.00"]], "as they came"
    assert (grid.columns[0].numeric, grid.rows[0][0].number) == (False, None)


def test_a_zero_is_a_figure_and_no_dash() -> None:
    runs = [Stored(Path(name), rates(("fast", 64, 0.0)), name) for name in "AB"]
    assert texts(comparison_grid(runs)) == [["k", "fast", "64", "0", "0", "-"]]


# In a few words


def test_a_run_in_a_few_words_is_its_ratio_at_the_last_row() -> None:
    assert key_figure(both_kernels()) == "mtu at 2048: nosysfs 100x, sysfs 100x"
    one = run_of(["sysfs"], both_arms("sysfs", {128: 20, 256: 40}))
    assert key_figure(one) == "mtu at 256: 40x"


def test_without_both_columns_it_is_the_first_one_that_was_measured() -> None:
    samples = [sample("sysfs", arm, 8, 0.5) for arm in ("netlink", "batch")]
    assert key_figure(run_of(["sysfs"], samples)) == "mtu at 8: netlink 0.500 s"
    assert key_figure(rates(("fast", 64, 9.5))) == "64 bytes: fast 9.50 Mbit/s"
    assert key_figure(run_of(["sysfs"], [sample("sysfs", "group", 8, 1, verified=False)])) == ""
    assert key_figure(run_of(["sysfs"])) == ""


def test_the_shape_of_a_first_run_is_the_one_it_would_keep() -> None:
    kept = run_of(["sysfs"], both_arms("sysfs", GROWING), shape=first_shape().to_json())
    assert as_text(kept) == as_text(run_of(["sysfs"], both_arms("sysfs", GROWING)))


# Width


@pytest.mark.parametrize("width", [60, 80, TEXT_WIDTH])
@pytest.mark.parametrize(
    "run",
    [both_kernels(), all_arms(["sysfs", "nosysfs"]), all_arms([LONG, LONGER])],
    ids=["the default", "all arms", "kernels with long paths"],
)
def test_no_line_is_wider_than_asked_for_and_nothing_is_cut_short(run: Run, width: int) -> None:
    text = as_text(run, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert text.endswith("\n")


@pytest.mark.parametrize("width", [80, TEXT_WIDTH])
@pytest.mark.parametrize("kernels", [["sysfs", "nosysfs"], [LONG, LONGER]])
def test_every_figure_is_in_the_table_whole(kernels: list[str], width: int) -> None:
    """A figure that is cut short is a wrong one."""
    run = all_arms(kernels)
    words = as_text(run, width).split()
    for one in run.samples:
        assert f"{one.metrics['seconds']:.2f}" in words


@pytest.mark.parametrize("width", [80, TEXT_WIDTH])
@pytest.mark.parametrize("kernels", [["sysfs", "nosysfs"], [LONG, LONGER]])
def test_every_figure_of_repeated_trials_is_in_the_table_whole(
    kernels: list[str], width: int
) -> None:
    once = all_arms(kernels)
    more = [
        replace(s, trial=n, metrics={**s.metrics, "seconds": s.metrics["seconds"] + n / 10})
        for s in once.samples
        for n in (2, 3)
    ]
    text = as_text(Run(once.about, [*once.samples, *more]), width)
    words = re.split(r"[\s\[\],]+", text)
    for one in once.samples:
        assert f"{one.metrics['seconds'] + 0.2:.2f}" in words  # the median
    assert max(len(line) for line in text.splitlines()) <= width


def test_kernels_that_do_not_fit_beside_each_other_are_named_over_tables_of_their_own() -> None:
    text = as_text(all_arms([LONG, LONGER]), 200)
    for name in (LONG, LONGER):
        assert f"mtu, {name}: seconds in the guest" in text


def test_kernels_that_fit_stand_beside_each_other() -> None:
    assert as_text(all_arms(["sysfs", "nosysfs"]), 200).count("seconds in the guest") == 1


def test_the_terminal_shows_what_the_file_says() -> None:
    out = io.StringIO()
    Console(file=out, width=TEXT_WIDTH, color_system=None).print(
        render(with_claims(both_kernels()))
    )
    shown = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    assert shown == as_text(both_kernels())


# Names


NAMES = st.text("ab[]/\\: {}%ré核\n\x1b", min_size=1, max_size=12)


@pytest.mark.parametrize(
    "name", ["[bold]", "[/]", "[/bold]k", "a[red]b", ":smile:", r"\[x]", "{0}", "[link=x]y[/link]"]
)
def test_a_name_that_looks_like_markup_is_shown_as_it_is(name: str) -> None:
    run = run_of([name, "other"], both_arms(name, GROWING) + both_arms("other", GROWING))
    for width in (TEXT_WIDTH, 40):
        assert name in as_text(run, width).replace("\n", "")
    head = as_text(run).splitlines()
    assert any(name in line and "other" in line for line in head[4:8]), "over its columns"


@settings(max_examples=30)
@given(NAMES)
def test_no_name_breaks_the_table(name: str) -> None:
    run = run_of([name], both_arms(name, GROWING))
    assert "20x" in as_text(run)
