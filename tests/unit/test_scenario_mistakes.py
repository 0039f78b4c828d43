"""What becomes of an author's mistakes: named before a run, or its end without loss of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_lab import lab_of, subject

from linklab.commands import compare as compare_command
from linklab.commands import run as command
from linklab.commands import workflow
from linklab.commands.compare import CompareOptions
from linklab.commands.history import ReportOptions, RerunOptions, report, rerun
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.run import RunOptions, stored_files, stored_options
from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import UsageError, Verdict
from linklab.host.cache import hash_file
from linklab.lab import lab as lab_module
from linklab.report.compare import Stored
from linklab.report.curves import panels
from linklab.results.model import Run
from linklab.results.shape import Cell, Shape
from linklab.results.store import read_run
from linklab.scenarios import scenario_named

AXES = 'Axis("size", (1, 2)), Axis("way", ("whole", "twice"))'
TABLE = 'rows="size", columns="way"'
TRIAL = 'return {"rate": 10.0 * float(cell["size"])}'


def source(
    *more: str, axes: str = AXES, table: str = TABLE, rate: str = "", trial: str = TRIAL
) -> str:
    """Return the file of a scenario `mine`, with `more` lines in its class."""
    own = "".join(f"    {line}\n" for text in more for line in text.splitlines())
    return (
        "from pathlib import Path\n"
        "from linklab.results.shape import Axis, Better, Cell, Metric, Shape\n"
        "from linklab.scenarios.scenario import Scenario\n\n\n"
        "class Mine(Scenario):\n"
        '    name = about = "mine"\n'
        f'    shape = Shape(({axes},), (Metric("rate"{rate}),), {table})\n'
        f"{own}\n"
        "    def trial(self, hosts, cell):\n"
        + "".join(f"        {line}\n" for line in trial.splitlines())
    )


def written(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text)
    return name


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)


# What contradicts itself is refused by its name


@pytest.mark.parametrize(
    "name", ["blocks", "ratio", "effect", "guest", "during", "fault", "seconds", "two words"]
)
def test_an_axis_is_not_called_as_a_line_of_a_run_calls_something_else(name: str) -> None:
    path = written(source(axes=f'Axis("{name}", (1,))', table=f'rows="{name}"'))
    with pytest.raises(UsageError, match=f"cannot be called {name}: a line of a run has it"):
        scenario_named(path)


@pytest.mark.parametrize("word", ["in/two", "in,two", "in two", ""])
def test_a_word_of_an_axis_can_be_typed_and_stands_in_a_cells_text(word: str) -> None:
    for axis in (f'Axis("way", ("a", "{word}"))', f'Axis("way", ("a",), among=("a", "{word}"))'):
        path = written(source(axes=axis, table='rows="way"'), f"mine{len(axis)}.py")
        with pytest.raises(UsageError, match=f"the axis way has '{word}': letters, digits"):
            scenario_named(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (source(axes='Axis("size")', table='rows="size"'), "the axis size has no values"),
        (source(axes='Axis("size", 5)', table='rows="size"'), "the axis size has no values"),
        (source(axes='Axis("way", ("tcp"))', table='rows="way"'), "the axis way has no values"),
        (source('compared = {"speed": (1,)}'), "compared has speed, which is no axis"),
        (source('judged = {"way": "whole"}'), "judged has way, which is no axis with a tuple"),
        (source('profiled = {"size": 1}'), "profiled has size, which is no axis with a tuple"),
        (source(table=TABLE + ', text="{speed} bytes"'), "text '{speed} bytes' names what is no"),
        (source(table=TABLE + ', text="{size.x} bytes"'), "text '{size.x} bytes' names what is no"),
        (source(table=TABLE + ', text="{size"'), "its text '{size' names what is no axis"),
        (source('fragment = Path("a.config")'), "fragment is a.config: the full path of a file"),
        (source('needs = Path("/none.toml")'), "needs is /none.toml: the full path of a file"),
        (source('image = "image"'), "image is image: the full path of a file"),
        (
            source(table=TABLE + ', counted=(Metric("size"),)'),
            "what is counted cannot be called size",
        ),
        (
            source(table=TABLE + ', counted=(Metric("kernel"),)'),
            "what is counted cannot be called kernel",
        ),
    ],
)
def test_what_a_scenario_says_of_itself_holds(text: str, says: str) -> None:
    path = written(text)
    Path("a.config").touch()
    with pytest.raises(UsageError) as caught:
        scenario_named(path)
    assert caught.value.message.startswith(f"--scenario {Path(path).absolute()}: ")
    assert says in caught.value.message


def test_a_file_beside_the_scenarios_own_is_its_fragment() -> None:
    Path("a.config").touch()
    path = written(source('fragment = needs = Path(__file__).with_name("a.config")'))
    assert scenario_named(path).fragment == Path("a.config").absolute()


# A run of what cannot be as it is declared


Do = Callable[..., Verdict]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Do:
    """Run a scenario with fake guests."""
    monkeypatch.setattr(workflow, "set_up_lab", lambda *_: lab_of())
    monkeypatch.setattr(workflow, "prepare_subjects", lambda *_: [subject("sysfs")])

    def do(text: str = "", **options: Any) -> Verdict:
        given: dict[str, Any] = {"scenario": written(text)} if text else {}
        kernels, machine = KernelOptions("sysfs"), MachineOptions(clock="real")
        first = RunOptions(kernels=kernels, machine=machine, seed="1", output="out")
        return command.main(replace(first, **given, **options), ["invoke", "run"])

    return do


def ended(folder: str = "out") -> Run:
    """Return a run, which is over."""
    run = read_run(Path(folder))
    assert run.about["end"]
    assert Path(folder, "table.txt").is_file()
    return run


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("yielded", "says"),
    [
        ('{"rate": 1.0, "speed": 2.0}', "yields speed, which its shape does not have"),
        ("{}", "does not yield rate, which its shape has"),
        ('{"rate": "fast"}', "yields rate = 'fast', which is no number"),
        ('{"rate": None}', "yields rate = None, which is no number"),
        ('{"rate": float("nan")}', "yields rate = nan, which is no number"),
        ('{"rate": float("inf")}', "yields rate = inf, which is no number"),
        ('{"rate": 0}', "yields rate = 0, which is compared by its ratio"),
        ('{"rate": -1.5}', "yields rate = -1.5, which is compared by its ratio"),
    ],
)
def test_a_metric_that_is_not_as_declared_is_the_labs_error_and_named(
    yielded: str, says: str, jobs: str, run: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source(trial=f"return {yielded}"), jobs=jobs) is Verdict.ERROR
    assert f"scenario mine {says}" in capsys.readouterr().err
    about = ended().about
    assert about["verdict"] == "error"
    assert f"scenario mine {says}" in about["message"]


def test_a_metric_that_may_be_0_is_0(run: Do) -> None:
    assert run(source(rate=", zero=True", trial='return {"rate": 0}')) is Verdict.PASS
    assert {sample.metrics["rate"] for sample in ended().samples} == {0}


def set_up(yields: str) -> str:
    return f"def set_up(self, hosts, setup):\n    {yields}"


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("yields", "says"),
    [
        ('yield Cell({"size": 1}), {"rate": 1.0}', "yields '1' from its set-up: a cell with every"),
        ('yield Cell({"size": 1, "way": "whole"}), {}', "does not yield rate"),
        ("yield setup, {}", "yields '' from its set-up: a cell with every axis is expected (size"),
    ],
)
def test_a_set_up_yields_whole_cells(
    yields: str, says: str, jobs: str, run: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source(set_up(yields)), jobs=jobs) is Verdict.ERROR
    assert f"scenario mine {says}" in capsys.readouterr().err
    assert ended().samples == []


def test_a_set_up_need_not_yield_every_metric(run: Do) -> None:
    text = source(
        set_up('yield Cell({"size": 1, "way": "whole"}), {"rate": 3.0}'),
        trial='return {"rate": 1.0, "more": 2.0}',
    ).replace('(Metric("rate"),)', '(Metric("rate"), Metric("more"))')
    assert run(text) is Verdict.PASS
    assert [dict(s.metrics) for s in ended().samples if not s.trial] == [{"rate": 3.0}]


THIRD = """\
self.done = getattr(self, "done", 0) + 1
if self.done == 3:
    raise KeyError("lost")
return {"rate": 1.0}"""
LOST = 'raise KeyError("lost")'


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("text", "samples"),
    [
        (source(trial=THIRD), 2),
        (source(trial="return None"), 0),
        (source(set_up(LOST)), 0),
        (source(f"@classmethod\ndef claims(cls, run):\n    {LOST}"), 4),
        (source(f"@classmethod\ndef cost(cls, cell):\n    {LOST}"), 0),
        (source(f"@classmethod\ndef load(cls):\n    {LOST}"), 0),
    ],
    ids=["trial", "nothing", "set_up", "claims", "cost", "load"],
)
def test_whatever_an_authors_code_raises_ends_the_run_and_loses_nothing(
    text: str, samples: int, jobs: str, run: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(text, jobs=jobs) is Verdict.ERROR
    said = capsys.readouterr().err
    assert "mine" in said
    assert "Traceback" in said
    assert "KeyError" in said or "AttributeError" in said
    stored = ended()
    assert stored.about["verdict"] == "error"
    assert len(stored.samples) == samples


# Shapes that are not two axes of whole numbers and words


def test_words_of_an_axis_are_its_values_where_nothing_else_is_said() -> None:
    options = ScenarioOptions(written(source()), axis=("way=twice",))
    assert options.values({})["way"] == ("twice",)
    assert replace(options, axis=("way=all",)).values({})["way"] == ("whole", "twice")
    with pytest.raises(UsageError, match="--axis way never: unknown; valid are whole, twice"):
        replace(options, axis=("way=never",)).values({})


FRACTIONS = source(axes='Axis("loss", (0, 0.5), "%", least=0, most=2.5)', table='rows="loss"')


@pytest.mark.parametrize(
    ("typed", "values"), [("0,0.5", (0, 0.5)), ("2.5, 1e-1,0.10", (0.1, 2.5)), ("1_0e-1,1", (1,))]
)
def test_an_axis_with_fractions_takes_them(typed: str, values: tuple[float, ...]) -> None:
    options = ScenarioOptions(written(FRACTIONS), axis=(f"loss={typed}",))
    assert options.values({}) == {"loss": values}


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("-0.1", "--axis loss -0.1: a number from 0 to 2.5 is expected"),
        ("2.6", "a number from 0 to 2.5"),
        ("nan", "a number from 0 to 2.5"),
        ("much", "--axis loss much: a number is expected"),
    ],
)
def test_an_axis_with_fractions_has_its_limits(typed: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        ScenarioOptions(written(FRACTIONS), axis=(f"loss={typed}",)).values({})
    assert says in caught.value.message


def test_an_axis_of_whole_numbers_takes_whole_ones_alone() -> None:
    path = written(source(axes='Axis("size", (0, 5), least=0)', table='rows="size"'))
    assert ScenarioOptions(path, axis=("size=0",)).values({}) == {"size": (0,)}
    with pytest.raises(UsageError, match=r"--axis size 0.5: a whole number is expected"):
        ScenarioOptions(path, axis=("size=0.5",)).values({})


def test_what_was_decided_of_fractions_can_be_typed_again() -> None:
    options = ScenarioOptions(written(FRACTIONS), axis=("loss=0.5,0",))
    again = replace(options, axis=tuple(options.decided({})["axis"]))
    assert again.cells({}) == options.cells({}) == (Cell({"loss": 0}), Cell({"loss": 0.5}))


def test_columns_that_are_the_rows_are_none() -> None:
    shape = replace(scenario_named(written(FRACTIONS)).shape, columns="loss")
    assert shape.columns == ""
    assert Shape.from_json(shape.to_json()) == shape
    assert shape.column_of({"loss": 0}) == ""
    assert shape.sheets == ()


ONE_AXIS = 'Axis("size", (1, 2, 4))'


@pytest.mark.parametrize("table", ['rows="size"', 'rows="size", columns="size"'])
def test_of_one_axis_there_is_a_table_of_one_column_and_a_page(
    table: str, run: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source(axes=ONE_AXIS, table=table), repeat="5") is Verdict.PASS
    said = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(said) if line.split()[:2] == ["size", "rate"])
    rows = [line.split()[:2] for line in said[head + 1 :] if line.strip()[:1].isdigit()]
    assert [[size, float(rate)] for size, rate in rows] == [["1", 10], ["2", 20], ["4", 40]]
    report(ReportOptions(("out",), results="."))
    page = Path("out/report.html").read_text()
    assert "<svg" in page
    (panel,) = panels([Stored(Path("out"), ended(), "")], Cell())
    assert [curve.name for curve in panel.curves] == ["rate"]
    assert run(output="other", scenario="mine.py") is Verdict.PASS
    report(ReportOptions(("out", "other"), results=".", output="both"))


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Do:
    """Compare a scenario's kernels with fake guests."""
    monkeypatch.setattr(workflow, "set_up_lab", lambda *_: lab_of())
    monkeypatch.setattr(workflow, "prepare_subjects", lambda o, *_: [subject(o.names)])

    def do(text: str = "", **options: Any) -> Verdict:
        given: dict[str, Any] = {"scenario": written(text)} if text else {}
        first = CompareOptions(
            a="nosysfs", b="sysfs", kernels=KernelOptions(""), output="out", seed="5", blocks="6",
            machine=MachineOptions(boot="direct", clock="real"),
        )  # fmt: skip
        return compare_command.main(replace(first, **given, **options), ["invoke", "compare"])

    return do


def test_kernels_are_compared_where_there_is_one_axis(
    compare: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    text = source('compared = {"size": (2,)}', axes=ONE_AXIS, table='rows="size"')
    assert compare(text) is Verdict.PASS
    assert "2 size" in capsys.readouterr().out
    (result,) = read_run(Path("out")).about["comparison"]["results"]
    assert (result["size"], result["verdict"]) == (2, "same")


def test_what_is_compared_yields_what_is_declared(
    compare: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(source(trial="return {}")) is Verdict.ERROR
    assert "scenario mine does not yield rate" in capsys.readouterr().err
    assert read_run(Path("out")).about["verdict"] == "error"


# A file that changes


def test_a_run_keeps_the_sha256_of_a_scenario_of_ones_own_and_of_no_other(run: Do) -> None:
    run(source())
    assert ended().about["scenario_sha256"] == hash_file(Path("mine.py"))
    run(counts="2", arms="group", output="other")
    assert "scenario_sha256" not in ended("other").about


def test_runs_of_a_file_that_changed_between_them_are_not_compared(
    run: Do, compare: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    run(source(), repeat="3")
    run(output="same", scenario="mine.py", repeat="3")
    assert compare(a="out", b="same", results=".") is Verdict.PASS
    run(source() + "# and now something else\n", output="other", repeat="3")
    with pytest.raises(UsageError, match="out and other must not be compared") as caught:
        compare(a="out", b="other", results=".")
    assert "scenario's file: " in caught.value.evidence


def test_a_home_folder_in_a_scenarios_path_is_kept_in_full(run: Do) -> None:
    home = Path("home").absolute()
    home.mkdir()
    written(source(), "home/mine.py")
    options = RunOptions(kernels=KernelOptions("sysfs"), scenario="~/mine.py")
    assert stored_options(options)["scenario"] == str(home / "mine.py")
    assert stored_files(options) == {str(home / "mine.py"): hash_file(home / "mine.py")}
    assert run(scenario="~/mine.py") is Verdict.PASS
    assert rerun(RerunOptions("out", ".", output="again"), ["invoke", "rerun"]) is Verdict.PASS
