"""What of a scenario is measured, as typed, and the list of what can be: `invoke scenarios`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rate_scenario import SOURCE

from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.scenarios import ScenarioOptions, ScenariosOptions, list_scenarios, memory_for
from linklab.errors import UsageError
from linklab.results.shape import Cell, Shape
from linklab.scenarios import names, scenario_named
from linklab.scenarios.grouping import Grouping


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return str(path)


def test_a_scenario_may_build_on_one_of_the_labs(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from linklab.scenarios.grouping import Grouping\n\n\n"
        "class Mine(Grouping):\n    name = 'mine'\n    about = 'as grouping, on two interfaces'\n"
        "    compared = {'interfaces': (2,)}\n"
    )
    kind = scenario_named(str(path))
    assert (kind.name, kind.shape) == ("mine", Grouping.shape)
    options = ScenarioOptions(str(path), arms="group")
    assert [cell.text for cell in options.cells(kind.compared)] == ["mtu/group/2"]


# Axes


def test_what_is_not_named_is_the_commands_default_and_else_the_scenarios() -> None:
    assert ScenarioOptions().values({}) == {
        "operation": ("mtu",),
        "arm": ("process", "group"),
        "interfaces": (128, 256, 512, 1024, 2048),
    }
    assert ScenarioOptions(arms="dump").values(Grouping.compared) == {
        "operation": ("mtu",),
        "arm": ("dump",),
        "interfaces": (512,),
    }


@pytest.mark.parametrize(
    "options",
    [
        ScenarioOptions(axis=("operation=up,mtu", "arm=all", "interfaces=1_024,2")),
        ScenarioOptions(operations="up,mtu", arms="all", counts="1_024,2"),
        ScenarioOptions(operations="up,mtu", arms="all", axis=("interfaces= 1024, 2 ",)),
    ],
)
def test_an_axis_is_named_by_itself_or_by_its_alias(options: ScenarioOptions) -> None:
    assert options.values({"arm": ("dump",), "interfaces": (7,)}) == {
        "operation": ("up", "mtu"),
        "arm": ("group", "process", "netlink", "batch", "dump"),
        "interfaces": (2, 1024),
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ScenarioOptions(axis=("arm",)), "--axis arm: NAME=VALUE,VALUE is expected; axes of grou"),
        (ScenarioOptions(axis=("frob=1",)), "are operation, arm, interfaces"),
        (ScenarioOptions(axis=("arm=frob",)), "--axis arm frob: unknown; valid are group, process"),
        (ScenarioOptions(axis=("arm=",)), "--axis arm is empty"),
        (ScenarioOptions(axis=("interfaces=0",)), "--axis interfaces 0: a number from 1 to 32768"),
        (ScenarioOptions(axis=("interfaces=all",)), "--axis interfaces all: a whole number"),
        (ScenarioOptions(axis=("arm=group", "arm=batch")), "--axis arm is given twice"),
        (ScenarioOptions(counts="frob"), "--counts frob: a whole number"),
        (
            ScenarioOptions(counts="3", axis=("interfaces=3",)),
            "--counts and --axis interfaces are the same: give one of them",
        ),
        (
            ScenarioOptions(arms="group", axis=("operation=mtu", "arm=group")),
            "--arms and --axis arm are the same",
        ),
    ],
)
def test_an_axis_that_is_wrong_is_refused(options: ScenarioOptions, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.values({})
    assert says in caught.value.message


@pytest.mark.parametrize("alias", ["counts", "operations", "arms"])
def test_an_alias_that_a_scenario_does_not_have_is_refused_with_its_axes(
    own: str, alias: str
) -> None:
    typed: dict[str, Any] = {alias: "3"}
    with pytest.raises(UsageError) as caught:
        ScenarioOptions(scenario=own, **typed).values({})
    says = f"--{alias} 3: rate has no such axis, but size, protocol: --axis NAME=VALUE,VALUE"
    assert caught.value.message == says


def test_cells_of_one_guest_come_together_and_what_is_refused_is_left_out(own: str) -> None:
    options = ScenarioOptions(own, axis=("protocol=udp,tcp", "size=9000,64"))
    cells = options.cells({})
    assert [cell.text for cell in cells] == ["64/udp", "64/tcp", "9000/tcp"]
    assert cells[0] == Cell({"size": 64, "protocol": "udp"})
    none = ScenarioOptions(own, axis=("protocol=udp", "size=9000"))
    with pytest.raises(UsageError, match="measured: 9000 bytes, udp: no datagram is that long"):
        none.cells({})


def test_one_cell_is_one_value_of_each_axis(own: str) -> None:
    assert ScenarioOptions(own, axis=("size=9000",)).cell_plan({}).cells[0].text == "9000/tcp"
    with pytest.raises(UsageError, match="one size is expected here, not 2: --cell size=VALUE"):
        ScenarioOptions(own).cell_plan({})
    with pytest.raises(UsageError, match="no datagram is that long"):
        ScenarioOptions(own, axis=("size=9000", "protocol=udp")).cell_plan({})


def test_memory_is_for_the_cell_that_needs_most() -> None:
    def memory(routes: str) -> int:
        options = ScenarioOptions("routes", axis=("arm=netlink", f"routes={routes}"))
        return memory_for(MachineOptions(), options.plan({}), KernelOptions("sysfs"))

    assert memory("100") < memory("100000") == memory("100,100000,1000")
    options = ScenarioOptions("routes", axis=("arm=netlink", "routes=100000"))
    machine = MachineOptions(memory="256")
    with pytest.raises(UsageError, match="routes"):
        memory_for(machine, options.plan({}), KernelOptions("sysfs"))


# The list


def said_of(out: str) -> dict[tuple[str, str], str]:
    """Return what is said of each thing, by the title that it stands under and its name."""
    found: dict[tuple[str, str], str] = {}
    title = name = ""
    for line in out.splitlines():
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not text:
            continue
        if indent == 2:
            title = text
        elif indent == 4:
            name = text
        elif indent == 8:
            found[title, name] = f"{found.get((title, name), '')} {text}".strip()
    return found


AXES, METRICS, PARAMETERS = "axes", "metrics, the first is compared", "parameters"


def test_each_scenario_is_listed_with_what_can_be_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    list_scenarios(ScenariosOptions())
    out = capsys.readouterr().out
    for name in names():
        assert f"{name}: " in out
    list_scenarios(ScenariosOptions("grouping"))
    out = capsys.readouterr().out
    found = said_of(out)
    assert out.startswith("grouping: one change to many network interfaces")
    assert found[AXES, "operation"].startswith("--operations mtu by default, among create, mtu, ")
    assert found[AXES, "arm"].startswith("--arms process,group by default, among group, process, ")
    assert "batch: one `ip -batch`, a line for each interface" in found[AXES, "arm"]
    assert found[AXES, "interfaces"] == "--counts 128,256,512,1024,2048 by default, from 1 to 32768"
    assert found[METRICS, "seconds"] == "s, less is better"
    assert found[METRICS, "notifications"] == "may be 0"
    assert found[PARAMETERS, "listeners"].startswith("--param listeners=0 by default: processes ")


def test_one_of_ones_own_is_shown_alone(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    list_scenarios(ScenariosOptions(own))
    out = capsys.readouterr().out
    assert out.startswith("rate: how much goes through\n")
    assert "grouping" not in out
    assert said_of(out) == {
        (AXES, "size"): "--axis size=64,1500 by default, from 1 to 9000",
        (AXES, "protocol"): "--axis protocol=tcp by default, among tcp, udp",
        (METRICS, "rate"): "Mbit/s, more is better",
        (METRICS, "lost"): "packets, less is better, may be 0",
        (METRICS, "seconds"): "s, less is better",
        (PARAMETERS, "pace"): "--param pace=1.0 by default: packets for each ms",
        (PARAMETERS, "queue"): "--param queue=fifo by default: what the link has",
    }


def test_as_json_it_is_one_document(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    list_scenarios(ScenariosOptions(as_json=True))
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(found) == set(names())
    assert Shape.from_json(found["grouping"]["shape"]) == Grouping.shape
    list_scenarios(ScenariosOptions(own, as_json=True))
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["about"]) == ("rate", "how much goes through")
    assert Shape.from_json(entry["shape"]) == scenario_named(own).shape
    assert entry["parameters"][0] == {
        "name": "pace",
        "default": 1.0,
        "help": "packets for each ms",
    }


def test_one_that_there_is_not_is_no_empty_list(tmp_path: Path) -> None:
    for word in ("frob", str(tmp_path / "gone.py")):
        with pytest.raises(UsageError, match=f"--scenario {word}: "):
            list_scenarios(ScenariosOptions(word))
