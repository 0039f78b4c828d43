"""Scenarios: found by name or by path, what is wrong with them, and their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import UsageError
from linklab.results.shape import Cell
from linklab.scenarios import check, names, scenario_named
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.scenario import Parameter

OWN = str(Path(__file__).with_name("own_scenario.py"))
HEAD = """
from linklab.results.shape import Axis, Metric, Shape
from linklab.scenarios.scenario import Scenario

"""
ONE = """
class One(Scenario):
    name = "one"
    about = "one"
    shape = Shape((Axis("{axis}", (1,)),), (Metric("{metric}"),), rows="{axis}", columns="{axis}")
"""


def written(path: Path, text: str) -> str:
    path.write_text(HEAD + text)
    return str(path)


# Finding one


def test_the_labs_own_are_found_by_name_and_no_module_beside_them_is_one() -> None:
    assert "grouping" in names()
    assert "scenario" not in names()
    assert scenario_named("grouping") is Grouping
    for name in names():
        kind = scenario_named(name)
        assert kind.name == name
        assert kind.about
        check(kind, name)


def test_one_of_ones_own_is_found_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = scenario_named(OWN)
    assert (kind.name, kind.shape.metric.name) == ("writing", "rate")
    monkeypatch.chdir(Path(OWN).parent)
    assert scenario_named("own_scenario.py") is kind
    assert scenario_named("./own_scenario.py") is kind


def test_a_relative_path_is_that_of_the_folder_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "mine.py", ONE.format(axis=f"size_{name}", metric="rate"))
        monkeypatch.chdir(tmp_path / name)
        assert scenario_named("mine.py").shape.rows == f"size_{name}"


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        scenario_named("frob")
    for part in ("--scenario frob", "unknown", *names(), "the path of a file"):
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "there are 0"),
        (ONE.format(axis="n", metric="m") + ONE.replace("One", "Two").format(axis="n", metric="m"),
         "there are 2"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "no_such_module"),
        ("def f(:", "SyntaxError"),
        (ONE.format(axis="trial", metric="m"), "called trial"),
        (ONE.format(axis="n", metric="verified"), "called verified"),
        (ONE.format(axis="n", metric="value"), "called value"),
        (ONE.format(axis="n", metric="n"), "called n"),
        (ONE.format(axis="n", metric="m").replace('rows="n"', 'rows="k"'), "has an axis 'k'"),
        (ONE.format(axis="n", metric="m").replace('(Metric("m"),)', "()"), "needs a metric"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_scenario_or_a_wrong_one_is_refused(
    text: str, says: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "mine.py", text)
    for _ in range(2):  # nothing is left of the first attempt
        with pytest.raises(UsageError) as caught:
            scenario_named(path)
        assert caught.value.message.startswith(f"--scenario {path}: ")
        assert says in caught.value.message


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    for word in (tmp_path / "none.py", tmp_path):
        with pytest.raises(UsageError, match="there is no such file"):
            scenario_named(str(word))


# Parameters


def test_parameters_have_their_defaults_and_take_what_is_typed() -> None:
    assert ScenarioOptions().given() == {"listeners": 0}
    assert ScenarioOptions(param=("listeners=3",)).given() == {"listeners": 3}
    typed = ("depth=8", "pause=2.5", "disk=none", "title=a=b, c")
    found = ScenarioOptions(OWN, param=typed).given()
    assert found == {"depth": 8, "pause": 2.5, "disk": "none", "title": "a=b, c", "wrong": 0}
    assert [type(found[name]) for name in ("depth", "pause")] == [int, float]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("frob=1", "NAME=VALUE is expected; of writing are depth, pause, disk, title, wrong"),
        ("depth", "NAME=VALUE is expected; of writing are depth, pause"),
        ("depth=0", "--param depth=0: a number from 1 to 8 is expected"),
        ("depth=9", "a number from 1 to 8 is expected"),
        ("depth=2.5", "--param depth=2.5: a number is expected"),
        ("depth=", "a number is expected"),
        ("pause=soon", "a number is expected"),
        ("pause=nan", "a number from 0 to 2.5 is expected"),
        ("disk=floppy", "--param disk=floppy: unknown; valid are ram, none"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused_with_what_is_valid(word: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        ScenarioOptions(OWN, param=(word,)).given()
    assert says in caught.value.message


@given(st.integers(-10, 20))
def test_a_number_is_taken_exactly_where_it_is_within_its_bounds(number: int) -> None:
    parameter = Parameter("depth", 4, "", least=1, most=8)
    if 1 <= number <= 8:
        assert parameter.parse(str(number)) == number
    else:
        with pytest.raises(UsageError):
            parameter.parse(str(number))


def test_a_scenario_without_parameters_takes_none(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.py", ONE.format(axis="n", metric="m"))
    with pytest.raises(UsageError, match="of one there are none"):
        ScenarioOptions(path, param=("n=1",)).given()
    assert ScenarioOptions(path).given() == {}


def test_what_was_decided_gives_the_same_plan_again() -> None:
    options = ScenarioOptions(OWN, axis=("size=5",), param=("depth=2",))
    plan = options.plan({"way": ("twice",)})
    decided = {name: tuple(words) for name, words in options.decided({"way": ("twice",)}).items()}
    assert decided["axis"] == ("size=5", "way=twice")
    again = ScenarioOptions(OWN, axis=decided["axis"], param=decided["param"])
    assert again.plan({}) == plan
    assert plan.cells == (Cell({"size": 5, "way": "twice"}),)
    assert plan.given["depth"] == 2
