"""The page: what it says of runs, and which runs it puts beside each other."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from experiments import plan_of
from hand_made import PAPER_COUNTS, both_arms, created, run_of, sample, sample_in
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.commands.history import ReportOptions, named, report, with_claims
from linklab.errors import UsageError
from linklab.report.compare import (
    Stored,
    cell_rows,
    differences,
    kernel_rows,
    letter_of,
    obstacles,
    together,
)
from linklab.report.page import page, plot_files
from linklab.results.codec import to_json
from linklab.results.model import Run
from linklab.results.outcomes import Status
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.results.store import RunFolder
from linklab.selftests.record import Attempt, TestRecord

VOID = {"meta", "br", "hr", "img", "input", "link"}
GROWING = dict(zip(PAPER_COUNTS, (20.0, 40.0, 60.0, 80.0, 100.0), strict=True))
HERE = Path("somewhere/20260101T000000Z-grouping")


class Text(HTMLParser):
    """A page's text and links; fails where its elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def both_kernels(**about: Any) -> Run:
    samples = [s for k in ("nosysfs", "sysfs") for s in both_arms(k, GROWING)]
    samples += [created(k, count, 0.5) for k in ("nosysfs", "sysfs") for count in PAPER_COUNTS]
    about = {"scenario": "grouping", "verdict": "pass", **about}
    return run_of(["sysfs", "nosysfs"], samples, boots=[0.6], image_bytes=5_150_000, **about)


def text_of(*runs: Run) -> str:
    found = [(HERE.with_name(f"run{n}"), with_claims(run)) for n, run in enumerate(runs)]
    return Text(page(found)).text


class TestPage:
    def test_it_needs_nothing_from_elsewhere(self) -> None:
        text = page([(HERE, both_kernels())])
        assert Text(text).links == []
        assert not re.search(r"https?://|@import|url\(", text)
        assert "default-src 'none'" in text

    def test_it_says_what_was_run_on_what_and_what_came_out(self) -> None:
        host = {"cpu": "Some CPU", "kernel": "6.1", "cpus": 2}
        text = text_of(both_kernels(host=host, start="2026-01-01T10:00:00+00:00"))
        for words in (
            "pass , every operation was done and verified",
            "Linux 6.12.0 without sysfs",
            "TCG",
            "direct; 0.600 s",
            "microvm, 1 CPU, 256 MiB",
            "7.2.22",
            "Some CPU; Linux 6.1",
            "2026-01-01 10:00",
        ):
            assert words in text

    def test_it_says_how_often_and_in_what_order(self) -> None:
        text = text_of(both_kernels(plan={"repeat": 5, "seed": 7}))
        assert "trials 5, in an order shuffled with the seed 7" in text
        assert "shuffled" not in text_of(both_kernels(plan={"repeat": 1, "seed": 7}))

    def test_it_says_which_host_of_a_fleet_ran_what(self) -> None:
        hosts = {"one (Some CPU)": ["console-001-sysfs-16.log"], "two (Some CPU)": ["c-2", "c-3"]}
        text = text_of(both_kernels(hosts=hosts))
        assert "measured by one (Some CPU): console-001-sysfs-16.log" in text
        assert "measured by two (Some CPU): c-2, c-3" in text
        assert "measured by" not in text_of(both_kernels())

    def test_it_begins_with_what_the_group_gains(self) -> None:
        text = text_of(both_kernels())
        assert (
            "mtu, 2048 interfaces, without sysfs: group 0.0100 s, process 1.00 s, "
            "100 times as much." in text
        )

    def test_it_has_every_part(self) -> None:
        text = text_of(both_kernels())
        for title in (
            "Seconds in the guest", "What it cost", "How it grows", "The paper’s claims",  # noqa: RUF001
        ):  # fmt: skip
            assert title in text
        assert "To run it again" in text

    def test_it_ends_with_a_command_to_copy_and_the_hashes_of_what_went_in(self) -> None:
        options = {"kernel": "a b", "patch": ["/x y/p"], "fresh_guest": True, "seed": "", "jobs": 2}
        run = both_kernels(options=options, files={"/x y/p": "f" * 64}, image={"agent": "e" * 64})
        text = text_of(run)
        words = "invoke run --kernel 'a b' --patch '/x y/p' --fresh-guest --jobs 2"
        assert text.index(words) < text.index("f" * 64)
        assert "e" * 64 in text and "0" * 64 in text

    def test_of_a_run_that_kept_no_options_the_command_is_the_one_typed(self) -> None:
        assert "invoke run --counts 3" in text_of(both_kernels(command="invoke run --counts 3"))

    def test_faults_are_shown_once_each(self) -> None:
        faults = [{"kernel": "sysfs", "verdict": "crash", "message": "kernel sysfs: BUG at 7"}]
        run = both_kernels(verdict="crash", message="kernel sysfs: BUG at 7", faults=faults)
        text = text_of(run)
        assert "crash , the kernel crashed" in text
        assert text.count("BUG at 7") == 1

    def test_a_run_without_an_end_is_called_unfinished(self) -> None:
        assert "unfinished , it was killed, or goes on still" in text_of(both_kernels(verdict=None))

    def test_samples_that_are_not_valid_are_shown_as_such(self) -> None:
        wrong = [sample("sysfs", "group", 128, 1.0, verified=False)]
        text = text_of(run_of(["sysfs"], wrong))
        assert "1 of 1 samples are not valid" in text
        assert "not valid" in Text(page([(HERE, run_of(["sysfs"], wrong))])).text

    def test_a_run_without_samples_has_a_page(self) -> None:
        assert "Nothing was measured." in text_of(run_of(["sysfs"]))

    def test_a_time_that_is_none_does_not_hinder(self) -> None:
        assert "soon" in text_of(both_kernels(start="soon", end="later"))

    @settings(max_examples=25, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1))
    def test_what_looks_like_markup_stays_text(self, name: str) -> None:
        run = run_of([name], both_arms(name, {1: 2, 2: 3}), message=f"<b>{name}")
        assert f"<b>{name}" in text_of(run)

    def test_a_script_in_a_name_is_not_a_script(self) -> None:
        name = "</script></svg><script>alert(1)</script>"
        text = page([(HERE, run_of([name], both_arms(name, {1: 2})))])
        assert text.count("<script>") == 1


class TestTables:
    def test_the_table_has_the_papers_shape(self) -> None:
        text = text_of(both_kernels())
        assert "without sysfs with sysfs interfaces group process ratio group process ratio" in text
        assert "1024 0.0100 0.800 80x 0.0100 0.800 80x" in text

    def test_the_papers_own_table_stands_under_it_with_its_kernels(self) -> None:
        text = text_of(both_kernels())
        theirs = text[text.index("the same in 2011, under KVM (Dogaru") :]
        assert "2048 0.32 21.74 68x 0.36 23.05 64x" in theirs

    def test_repeated_trials_show_their_interval_and_what_was_not_valid(self) -> None:
        samples = [sample("sysfs", "group", 9, s, trial=n) for n, s in enumerate((1, 2, 3), 1)]
        samples.append(sample("sysfs", "group", 9, 9, trial=4, verified=False))
        assert "9 2.00 [1.00, 3.00], 1 of 4 not valid" in text_of(run_of(["sysfs"], samples))

    def test_what_was_counted_and_heard_is_shown_where_it_was(self) -> None:
        tally = {"kernel": "sysfs", "operation": "mtu", "arm": "group", "interfaces": 9}
        heard = [
            sample("sysfs", "group", 9, 1.0, notifications=18, notifications_lost=1),
            sample("sysfs", "batch", 9, 2.0),
        ]
        run = run_of(["sysfs"], heard, tallies=[{**tally, "system_calls": 70, "messages": 3}])
        text = text_of(run)
        assert "messages heard lost netlink messages system calls" in text
        assert "sysfs group 1.00 s 1 18 1 3 70" in text
        assert "sysfs batch 2.00 s 1 0 0 - -" in text

    def test_runs_of_other_counts_say_at_how_many_interfaces(self) -> None:
        runs = [
            run_of(["sysfs"], [sample("sysfs", arm, count, 1.0) for arm in ("group", "batch")])
            for count in (8, 9)
        ]
        text = text_of(*runs)
        for letter, count in (("A", 8), ("B", 9)):
            table = text[text.index(f"the same work for {count} interfaces") :]
            assert f"with sysfs {letter} group 1.00 s" in table

    def test_growth_is_fitted_where_the_counts_can_tell(self) -> None:
        samples = [sample("sysfs", "process", n, 0.024 * n) for n in PAPER_COUNTS]
        assert "sysfs process - 24.0 ms ± 0% - linear" in text_of(run_of(["sysfs"], samples))
        assert "How it grows" not in text_of(run_of(["sysfs"], samples[:2]))

    def test_claims_of_several_runs_stand_beside_each_other(self) -> None:
        assert "claim 2011 here A here B" in text_of(both_kernels(), both_kernels())

    def test_a_run_whose_scenario_claims_nothing_has_no_claims(self) -> None:
        run = both_kernels(scenario="no longer here")
        text = text_of(run)
        assert "claims" not in text and "2011" not in text
        assert "1024 0.0100 0.800 80x" in text, "but its table"


class TestAnotherExperiment:
    SHAPE = Shape(
        axes=(Axis("mode", among=("plain", "fast")), Axis("size", title="bytes", log=False)),
        metrics=(
            Metric("goodput", "Mbit/s", Better.MORE, zero=True, title="goodput, Mbit/s"),
            Metric("loss", "%", zero=True),
        ),
        rows="size",
        columns="mode",
    )

    def run(self, factor: float = 1.0) -> Run:
        samples = [
            sample_in("k", Cell({"mode": mode, "size": size}),
                      {"goodput": factor * goodput, "loss": loss})
            for mode, size, goodput, loss in (
                ("plain", 0, 0.0, 0.0), ("plain", 1500, 9.0, 0.25),
                ("fast", 0, 0.0, 0.0), ("fast", 1500, 18.0, 0.0),
            )
        ]  # fmt: skip
        return run_of(["k"], samples, shape=self.SHAPE.to_json(), scenario="another")

    def test_has_a_page_in_its_own_words(self) -> None:
        text = text_of(self.run())
        assert "Another, k" in text
        assert "Goodput, Mbit/s" in text
        assert "bytes plain fast 0 0 0 1500 9.00 18.0" in text
        assert "k plain 9.00 Mbit/s 0.250 %" in text
        assert "How it grows" not in text, "a rate has no cost for each"
        assert "interfaces" not in text and "sysfs" not in text

    def test_is_plotted_with_its_zeros(self) -> None:
        drawing = page([(HERE, self.run())])
        assert "0 Mbit/s at 0, 18 Mbit/s at 1500" in drawing

    def test_stands_beside_another_run_of_it(self) -> None:
        text = text_of(self.run(), self.run(1.5))
        assert "k plain 1500 9.00 13.5 +50.0 %" in text
        assert "k plain 0 0 0 -" in text

    def test_that_varied_or_measured_something_else_by_the_same_name_is_refused(self) -> None:
        """As one's own scenario does from one day to the next."""
        axes, (goodput, loss) = self.SHAPE.axes, self.SHAPE.metrics
        more = replace(self.SHAPE, axes=(*axes, Axis("links")))
        turned = replace(self.SHAPE, metrics=(loss, goodput))
        larger = replace(self.SHAPE, metrics=(replace(goodput, unit="Gbit/s"),))
        for now, words in (
            (more, "axes: mode, size and mode, size, links"),
            (turned, "metric: goodput Mbit/s and loss %"),
            (larger, "metric: goodput Mbit/s and goodput Gbit/s"),
        ):
            later = run_of(["k"], shape=now.to_json(), scenario="another")
            with pytest.raises(UsageError) as caught:
                page([(HERE, self.run()), (HERE, later)])
            assert caught.value.evidence == words

    def test_its_plots_are_files_too(self, tmp_path: Path) -> None:
        assert list(dict(plot_files(tmp_path, self.run()))) == ["plot-1.svg"]


class TestComparison:
    @pytest.mark.parametrize(
        ("about", "word"),
        [
            ({"accel": "kvm"}, "accelerator: tcg and kvm"),
            ({"boot": "resume"}, "boot: direct and resume"),
            ({"qemu": {"version": "10.0"}}, "QEMU version: 7.2.22 and 10.0"),
            ({"machine": "pc"}, "machine type: microvm and pc"),
            ({"memory": 512}, "guest memory (MiB): 256 and 512"),
            ({"cpus": 2}, "guest CPUs: 1 and 2"),
            ({"scenario": "other"}, "scenario: grouping and other"),
            ({"host": {"cpu": "Other"}}, "host CPU: unknown and Other"),
            ({"image": {"agent": "b"}}, "image: agent: unknown and b"),
            ({"plan": {"listeners": 3}}, "parameter listeners: 0 and 3"),
            ({"plan": {"given": {"listeners": 3}}}, "parameter listeners: 0 and 3"),
        ],
    )
    def test_runs_of_other_seconds_are_refused_with_the_reason(
        self, about: dict[str, Any], word: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            page([(HERE, both_kernels()), (HERE, both_kernels(**about))])
        assert caught.value.evidence == word
        assert "must not be compared" in caught.value.message

    def test_every_run_is_held_against_the_first(self) -> None:
        with pytest.raises(UsageError):
            together([(HERE, both_kernels())] * 2 + [(HERE, both_kernels(accel="kvm"))])

    def test_each_run_has_a_column_and_its_change(self) -> None:
        faster = [s for k in ("nosysfs", "sysfs") for s in both_arms(k, {128: 10.0})]
        text = text_of(both_kernels(), run_of(["sysfs", "nosysfs"], faster, scenario="grouping"))
        assert "A run0" in text and "B run1" in text
        assert "B against A" in text
        assert "nosysfs mtu process" not in text
        assert "without sysfs mtu process 128 0.200 0.100 -50.0 %" in text
        assert "without sysfs mtu process 256 0.400 - -" in text

    def test_kernels_of_one_name_stand_beside_each_other_and_so_does_what_is_left(self) -> None:
        def runs(*names: list[str]) -> list[Stored]:
            return [Stored(HERE, run_of(kernels)) for kernels in names]

        assert [row.names for row in kernel_rows(runs(["old"], ["new"]))] == [["old", "new"]]
        assert kernel_rows(runs(["old"], ["new"]))[0].title == "old / new"
        rows = kernel_rows(runs(["sysfs", "old"], ["new", "sysfs"]))
        assert [row.names for row in rows] == [["sysfs", "sysfs"], ["old", "new"]]
        rows = kernel_rows(runs(["a", "b"], ["c", "d"]))
        assert [list(row.names) for row in rows] == [
            ["a", None],
            ["b", None],
            [None, "c"],
            [None, "d"],
        ]

    def test_a_cell_that_one_run_lacks_is_none(self) -> None:
        runs = [
            Stored(HERE, run_of(["k"], [sample("k", "group", 1, 2.0)])),
            Stored(HERE, run_of(["k"], [sample("k", "group", 2, 3.0)])),
        ]
        assert [row.values for row in cell_rows(runs)] == [[2.0, None], [None, 3.0]]

    def test_differences_name_kernels_files_and_host(self) -> None:
        before = both_kernels(files={"/p": "1"}, host={"kernel": "6.1"})
        now = both_kernels(files={"/p": "2"}, host={"kernel": "6.2"})
        found = {d.what: (d.before, d.now) for d in differences(before, now)}
        assert found == {"/p": ("1", "2"), "host kernel": ("6.1", "6.2")}
        assert obstacles(before, now) == []
        other = run_of(["sysfs"], image_bytes=1, scenario="grouping")
        assert "kernel nosysfs" in {d.what for d in differences(before, other)}

    @pytest.mark.parametrize(
        ("changed", "what"),
        [
            ({"warmup_trials": 1}, "trials thrown away before them"),
            ({"trials": 3}, "trials in each guest and round"),
            ({"fresh_guest": True}, "guest for each trial"),
        ],
    )
    def test_how_a_guest_was_used_must_agree(self, changed: dict[str, Any], what: str) -> None:
        plan = plan_of()
        one, other = (both_kernels(plan=p.to_json()) for p in (plan, replace(plan, **changed)))
        assert [each.what for each in obstacles(one, other)] == [what]

    def test_letters_do_not_end(self) -> None:
        assert [letter_of(n) for n in (0, 25, 26, 27, 702)] == ["A", "Z", "AA", "AB", "AAA"]


class TestCommand:
    def stored(self, folder: Path, **about: Any) -> Path:
        folder.mkdir()
        run = both_kernels(**about)
        kept = RunFolder(folder, run.about)
        for one in run.samples:
            kept.add_sample(one)
        return folder

    def test_a_runs_page_goes_into_its_folder(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = self.stored(tmp_path / "one")
        report(ReportOptions((str(folder),)))
        assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
        assert "Grouping" in Text((folder / "report.html").read_text()).text

    def test_a_comparison_goes_into_the_first_ones_folder(self, tmp_path: Path) -> None:
        self.stored(tmp_path / "one")
        self.stored(tmp_path / "two")
        report(ReportOptions(("one, two",), results=str(tmp_path)))
        assert "2 runs beside each other" in (tmp_path / "one" / "comparison.html").read_text()

    def test_the_same_runs_give_the_same_page(self, tmp_path: Path) -> None:
        folder = self.stored(tmp_path / "one")
        for name in ("a.html", "new/b.html"):
            report(ReportOptions((str(folder),), str(tmp_path / name)))
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "new/b.html").read_bytes()

    def test_a_folder_may_have_a_comma_in_its_name(self, tmp_path: Path) -> None:
        folder = self.stored(tmp_path / "a,b")
        assert named([str(folder)], tmp_path) == [folder]
        assert named([str(folder), "a,b"], tmp_path) == [folder, folder]

    def test_a_page_that_cannot_be_written_is_the_users_to_put_elsewhere(
        self, tmp_path: Path
    ) -> None:
        folder = self.stored(tmp_path / "one")
        with pytest.raises(UsageError, match="--output"):
            report(ReportOptions((str(folder),), str(folder / "run.json" / "page.html")))


def test_plots_as_files_are_drawings_that_need_no_page(tmp_path: Path) -> None:
    files = dict(plot_files(tmp_path, both_kernels()))
    assert list(files) == ["mtu-1.svg", "mtu-2.svg", "mtu-3.svg"]
    for text in files.values():
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        style = root.findtext("{http://www.w3.org/2000/svg}style") or ""
        used = set(re.findall(r"var\((--[a-z]+)\)", style))
        assert used <= set(re.findall(r"(--[a-z]+):", style)), "a colour that nobody names"


def test_self_tests_have_their_table_and_no_seconds() -> None:
    attempt = Attempt(Status.FAIL, "exit status 1", 2.0, 60.0, 1, "tls.txt", "console.log")
    record = TestRecord("net/tls", "sysfs", (attempt,))
    run = run_of(["sysfs"], kind="selftest", scenario="selftest", limit=60, tests=[to_json(record)])
    text = page([(Path("self"), run)])
    assert "1 self-test: 1 fail" in text and "net/tls" in text
    assert 'id="seconds"' not in text and 'id="claims"' not in text


def test_results_of_different_commands_are_not_put_beside_each_other() -> None:
    one, other = run_of(["sysfs"]), run_of(["sysfs"], kind="compare")
    with pytest.raises(UsageError) as caught:
        page([(Path("a"), one), (Path("b"), other)])
    assert "kind of result: run and compare" in caught.value.evidence
