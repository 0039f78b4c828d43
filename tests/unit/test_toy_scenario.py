"""A scenario of an author's own, with a rate and a count of losses, in commands that measure it.

Its kernels keep the names of the lab's flavours; nothing else of the grouping
scenario may be in what is printed for it, which `plain` sees to.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from toy_guest import RATE, REAL, TOY, Bench, plain, said

from linklab.commands import compare, run
from linklab.commands.compare import CompareOptions
from linklab.commands.exports import ExportOptions, StoredExportOptions, export
from linklab.commands.history import (
    HistoryOptions,
    ReportOptions,
    RerunOptions,
    ShowOptions,
    list_runs,
    report,
)
from linklab.commands.history import rerun as run_again
from linklab.commands.history import show as show_stored
from linklab.commands.kernels import KernelOptions
from linklab.commands.run import RunOptions
from linklab.commands.scenarios import ScenariosOptions
from linklab.commands.scenarios import list_scenarios as scenarios
from linklab.errors import UsageError, Verdict
from linklab.report.by_kind import headline
from linklab.results.comparison import Comparison, Effect
from linklab.results.store import read_run

EXPORTS = ExportOptions("junit.xml", "out.ktap", "kcidb.json")
RUN = RunOptions(
    scenario=TOY,
    kernels=KernelOptions("nosysfs,sysfs"),
    machine=REAL,
    repeat="6",
    seed="1",
    output="out",
)
COMPARE = CompareOptions(
    a="nosysfs",
    b="sysfs",
    scenario=TOY,
    kernels=KernelOptions(""),
    machine=REAL,
    blocks="8",
    trials="1",
    seed="5",
    output="compared",
)
RUN_ARGV, COMPARE_ARGV = ["invoke", "run"], ["invoke", "compare"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def body(page: str) -> str:
    """Return what a reader of a page sees, plots among it."""
    seen = Path(page).read_text(encoding="utf-8").split("<body>")[1].split("<script")[0]
    return plain(re.sub(r"<[^>]+>", " ", seen))


def slowly(bench: Bench, speed: float = 0.8) -> None:
    """Have the second kernel read that much as fast as the first."""
    bench.made = {"speed": lambda name: speed if name == "sysfs" else 1.0}


def losing(bench: Bench, lost: int) -> None:
    """Have the second kernel lose some reads."""
    bench.made = {"lost": lambda name: lost if name == "sysfs" else 0}


# Runs


def test_it_is_listed_with_its_axes_and_metrics(capsys: Captured) -> None:
    scenarios(ScenariosOptions(scenario=TOY))
    out = said(capsys)
    for part in ("toy", "program", "cat,dd", "reads", "10,100", "rate", "more is better", "lost"):
        assert part in out, part


def test_a_run_has_its_rates_in_its_table_page_history_and_exports(
    bench: Bench, capsys: Captured
) -> None:
    assert run.main(replace(RUN, exports=EXPORTS), RUN_ARGV) is Verdict.PASS
    out = said(capsys)
    assert "rate, reads/s, median of 6 trials [95% interval]" in out
    assert "what it cost" not in out, "nothing was lost, and the rate stands in the first table"
    stored = read_run(Path("out"))
    assert {sample.scenario for sample in stored.samples} == {"toy"}
    assert {sample.cell.text for sample in stored.samples} == {
        "cat/10",
        "cat/100",
        "dd/10",
        "dd/100",
    }
    for sample in stored.samples:
        assert sample.metrics["rate"] == pytest.approx(RATE, rel=0.03)
        assert sample.metrics["lost"] == 0
    assert re.fullmatch(
        r"100 reads: nosysfs cat (99\.\d|10\d) reads/s, sysfs cat (99\.\d|10\d) reads/s",
        headline(stored),
    )
    page = body("out/report.html")
    assert "Rate, reads/s" in page and "Toy, nosysfs and sysfs" in page
    assert "rate, reads/s against reads. Medians" in page
    assert "What it cost" not in page and "claim" not in page
    svg = Path("out/plot-1.svg").read_text()
    assert "rate, reads/s" in svg
    case = ElementTree.parse("junit.xml").find(".//testcase[@name='cat/10']")
    assert case is not None and case.get("time") == "0", "a rate is no time"
    assert re.search(r"# [\d.]+ reads/s\n +# median of 6 trials\n +ok 1 10", _ktap())
    number = _kcidb_tests()["linklab.toy.dd.100"]["number"]
    assert number == {"value": pytest.approx(RATE, rel=0.02), "unit": "reads/s"}
    assert _kcidb_tests()["linklab.toy.dd.100"]["status"] == "PASS"


def _ktap() -> str:
    text = Path("out.ktap").read_text()
    plain(text)
    return text


def _kcidb_tests() -> dict[str, dict[str, object]]:
    text = Path("kcidb.json").read_text()
    plain(text)
    return {test["path"]: test for test in json.loads(text)["tests"]}


def test_what_was_lost_stands_beside_the_rate(bench: Bench, capsys: Captured) -> None:
    losing(bench, 3)
    run.main(RUN, RUN_ARGV)
    out = said(capsys)
    assert re.search(
        r"what it cost, the same work for 100 reads kernel program rate lost reads ", out
    )
    assert re.search(r"nosysfs cat [\d.]+ reads/s 0 .* sysfs cat [\d.]+ reads/s 3", out)
    page = body("out/report.html")
    assert "medians of what the guest counted." in page
    assert "neither user nor system" not in page and "asked for" not in page


def test_a_run_is_shown_listed_and_done_again(bench: Bench, capsys: Captured) -> None:
    run.main(RUN, RUN_ARGV)
    printed = capsys.readouterr().out
    show_stored(ShowOptions("out", "."))
    assert capsys.readouterr().out.splitlines()[:10] == printed.splitlines()[:10]
    list_runs(HistoryOptions(results=".", scenario="toy"))
    listed = said(capsys)
    assert "toy, TCG, direct" in listed and "100 reads: nosysfs" in listed
    assert run_again(RerunOptions("out", ".", output="again"), ["invoke"]) is Verdict.PASS
    out = said(capsys)
    assert "every input is the same" in out
    assert "program reads reads/s reads/s change" in out
    before, now = read_run(Path("out")), read_run(Path("again"))
    assert (now.plan, now.shape) == (before.plan, before.shape)
    assert [s.cell for s in now.samples] == [s.cell for s in before.samples]


def test_two_runs_are_reported_beside_each_other(bench: Bench, capsys: Captured) -> None:
    run.main(RUN, RUN_ARGV)
    slowly(bench, 0.5)
    run.main(replace(RUN, output="later"), RUN_ARGV)
    report(ReportOptions(("out", "later"), results="."))
    assert "report: out/comparison.html" in capsys.readouterr().out
    page = body("out/comparison.html")
    assert "Toy: 2 runs beside each other" in page
    row = r"sysfs cat 100 [\d.]+ (49|50)\.\d -50\.0 %"
    assert re.search(row, page), page
    report(ReportOptions(("later",), results="."))
    assert "rate, reads/s" in body("later/report.html")


def test_two_columns_of_rates_have_a_ratio(bench: Bench, capsys: Captured) -> None:
    columns = 'columns="program",'
    source = Path(TOY).read_text().replace(columns, f'{columns} versus=("dd", "cat"),')
    Path("mine.py").write_text(source)
    assert run.main(replace(RUN, scenario="mine.py"), RUN_ARGV) is Verdict.PASS
    assert "reads cat dd ratio" in said(capsys)
    stored = read_run(Path("out"))
    assert headline(stored) == "100 reads: nosysfs 1x, sysfs 1x"
    page = body("out/report.html")
    assert re.search(r"100 reads, on sysfs: cat [\d.]+ reads/s, dd [\d.]+ reads/s, 1 times", page)
    assert "and how many times that of cat dd gives" in page


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"axis": ("program=tac",)}, "--axis program tac: unknown; valid are cat, dd"),
        ({"axis": ("reads=0",)}, "from 1 to 1000"),
        ({"axis": ("size=1",)}, "axes of toy are program, reads"),
        ({"counts": "5"}, "toy has no such axis, but program, reads"),
        ({"param": ("x=1",)}, "of toy there are none"),
    ],
)
def test_a_wrong_word_is_answered_with_its_own(
    bench: Bench, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run.Running(replace(RUN, **changes)).check()  # type: ignore[arg-type]
    assert says in plain(caught.value.message)


# Comparisons


def compared(folder: str = "compared") -> Comparison:
    (result,) = read_run(Path(folder)).about["comparison"]["results"]
    assert (result["program"], result["reads"]) == ("cat", 10), "what it names to be compared"
    return Comparison.from_json(result)


def test_a_kernel_that_gives_less_is_worse(bench: Bench, capsys: Captured) -> None:
    slowly(bench)
    verdict = compare.main(replace(COMPARE, exports=EXPORTS), COMPARE_ARGV)
    assert (verdict, verdict.status) == (Verdict.FAIL, 1)
    out = said(capsys)
    assert "rate, reads/s, medians of 8 blocks" in out
    assert re.search(r"sysfs has (19|20)\.\d % less rate than nosysfs in cat, 10 reads: ", out)
    assert re.search(r"0\.0078 less rate ", out), "the table's last column"
    found = compared()
    assert (found.verdict, found.by_ratio) == (Effect.WORSE, True)
    assert found.change == pytest.approx(0.8, rel=0.02)
    about = read_run(Path("compared")).about
    assert about["message"] == "less rate: cat, 10 reads"
    assert re.fullmatch(
        r"less rate, -(19|20)\.\d % in cat, 10 reads", headline(read_run(Path("compared")))
    )
    assert re.search(
        r"# 0\.[78]\d+ x\n +# less rate: 0\.\d+x \[.* of nosysfs, .*\n +not ok 1", _ktap()
    )
    tests = _kcidb_tests()
    assert tests["linklab.toy.compare.cat_10"]["status"] == "FAIL"
    assert tests["linklab.toy.cat.10"]["number"] == {
        "value": pytest.approx(80, rel=0.02),
        "unit": "reads/s",
    }
    failure = ElementTree.parse("junit.xml").find(".//testcase[@name='compare/cat/10']/failure")
    assert failure is not None and failure.get("message", "").startswith("less rate: 0.")
    report(ReportOptions(("compared",), results="."))
    assert "less rate" in body("compared/report.html")


@pytest.mark.parametrize(
    ("speed", "effect", "says"),
    [
        (1.3, Effect.BETTER, r"sysfs has (29|30|31)\.\d % more rate than nosysfs in cat, 10 reads"),
        (1.0, Effect.SAME, r"sysfs has the same rate as nosysfs in cat, 10 reads, within 3 %: "),
    ],
)
def test_one_that_gives_more_or_as_much_passes(
    bench: Bench, capsys: Captured, speed: float, effect: Effect, says: str
) -> None:
    slowly(bench, speed)
    assert compare.main(COMPARE, COMPARE_ARGV) is Verdict.PASS
    assert re.search(says, said(capsys))
    assert compared().verdict is effect


def test_what_is_not_known_of_a_rate_says_so(bench: Bench, capsys: Captured) -> None:
    bench.made = {"spread": 0.3}
    assert compare.main(COMPARE, COMPARE_ARGV) is Verdict.PASS
    out = said(capsys)
    assert "Whether sysfs has more or less rate than nosysfs in cat, 10 reads is not known: " in out
    assert compared().verdict is Effect.INCONCLUSIVE


def test_zeros_on_both_sides_are_the_same(bench: Bench, capsys: Captured) -> None:
    slowly(bench)  # which is of no account here
    assert compare.main(replace(COMPARE, metric="lost"), COMPARE_ARGV) is Verdict.PASS
    out = said(capsys)
    assert "sysfs has the same lost reads as nosysfs in cat, 10 reads: 95 % interval 0 to 0" in out
    found = compared()
    assert (found.verdict, found.by_ratio, found.change, found.p_value) == (
        Effect.SAME,
        False,
        0,
        1,
    )
    assert headline(read_run(Path("compared"))) == "same, 0 in cat, 10 reads"


def test_a_kernel_that_loses_what_the_other_does_not_is_worse(
    bench: Bench, capsys: Captured
) -> None:
    losing(bench, 3)
    options = replace(COMPARE, metric="lost", exports=EXPORTS)
    assert compare.main(options, COMPARE_ARGV) is Verdict.FAIL
    out = said(capsys)
    assert "sysfs has 3.00 more lost reads than nosysfs in cat, 10 reads: " in out
    found = compared()
    assert (found.verdict, found.change, found.median_a, found.median_b) == (Effect.WORSE, 3, 0, 3)
    assert re.search(r"# 3\n +# more lost reads: 3 \[3, 3\] of nosysfs, .*\n +not ok 1", _ktap())


def test_two_stored_runs_are_compared_by_the_metric_that_is_named(
    bench: Bench, capsys: Captured
) -> None:
    run.main(replace(RUN, axis=("reads=10",), repeat="9", fresh_guest=True), RUN_ARGV)
    bench.made = {"speed": lambda _: 0.8, "lost": lambda _: 2}
    run.main(
        replace(RUN, axis=("reads=10",), repeat="9", fresh_guest=True, output="later"), RUN_ARGV
    )
    stored = replace(COMPARE, a="out", b="later", output="", results=".")
    capsys.readouterr()
    assert compare.main(stored, COMPARE_ARGV) is Verdict.FAIL
    out = said(capsys)
    assert "cat, 10 nosysfs " in out, "the columns have room for what was compared"
    assert "later against out in 4 comparisons: less rate in cat, 10 reads, kernel nosysfs" in out
    assert compare.main(replace(stored, metric="lost"), COMPARE_ARGV) is Verdict.FAIL
    out = said(capsys)
    assert "more lost reads in cat, 10 reads, kernel nosysfs (2.00 more lost reads, " in out
    with pytest.raises(UsageError, match="--metric frob: unknown; valid are rate, lost"):
        compare.main(replace(stored, metric="frob"), COMPARE_ARGV)


def test_a_stored_run_is_exported_as_it_was(bench: Bench, capsys: Captured) -> None:
    slowly(bench)
    compare.main(replace(COMPARE, exports=EXPORTS), COMPARE_ARGV)
    before = {path: Path(path).read_text() for path in ("junit.xml", "out.ktap", "kcidb.json")}
    for path in before:
        Path(path).unlink()
    export(StoredExportOptions("compared", ".", EXPORTS))
    assert {path: Path(path).read_text() for path in before} == before
