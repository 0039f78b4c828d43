"""Functional blocks from Python: requests, what fbctl prints, a trial, and the paper's claims."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_hosts import cell_of
from hand_made import sample_in

from linklab.agent.replies import Measure, ProgramEnd
from linklab.commands.kernels import KernelOptions
from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import LabError, RequestRefused, UsageError, WrongState
from linklab.lab.spaces import inside
from linklab.lab.topology import parse
from linklab.paths import GUEST as SOURCES
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios import scenario_named
from linklab.scenarios.scenario import GUEST, Finding, Host
from linklab.scenarios.stack import Stack
from linklab.scenarios.stack.blocks import (
    BlockMessage,
    Command,
    add,
    bind,
    chained,
    listed,
    of_two,
    set_to,
    taken_apart,
)
from linklab.scenarios.stack.table import claims

HEADER = (SOURCES / "lana" / "lana_uapi.h").read_text()
REQUEST, ACK, REPLACE = 1, 4, 0x100


def enum_of(name: str) -> list[str]:
    """Return the names of an enum of the module's header, by their numbers from 0."""
    (body,) = re.findall(rf"enum {name} {{(.*?)}};", HEADER, re.S)
    return re.findall(r"^\t([A-Z_]+)", body, re.M)


def parts(request: bytes) -> tuple[int, int, dict[str, bytes]]:
    """Return a request's command, flags and attributes, read by hand."""
    length, kind, flags = struct.unpack_from("<IHH", request)
    assert (length, kind) == (len(request), 0), "fbctl writes the family's number"
    command, version = struct.unpack_from("<BB", request, 16)
    assert version == 1
    names, found, at = enum_of("lana_attribute"), {}, 20
    while at < len(request):
        size, number = struct.unpack_from("<HH", request, at)
        found[names[number]] = request[at + 4 : at + size]
        at += -(-size // 4) * 4
    return command, flags, found


def test_numbers_are_those_of_the_modules_header() -> None:
    commands = enum_of("lana_command")
    assert [f"LANA_CMD_{each.name}" for each in Command] == commands[1 : 1 + len(Command)]
    names = [name for name, _ in BlockMessage.nla_map]
    assert names == enum_of("lana_attribute")[: len(names)]


def test_requests_are_encoded_as_the_kernel_reads_them() -> None:
    assert parts(add("fb_tee", "t")) == (
        Command.ADD,
        REQUEST | ACK,
        {"LANA_A_TYPE": b"fb_tee\0", "LANA_A_NAME": b"t\0"},
    )
    command, flags, found = parts(bind("low", "up", again=True, port=2))
    assert (command, flags) == (Command.BIND, REQUEST | ACK | REPLACE)
    assert found == {"LANA_A_NAME": b"low\0", "LANA_A_OTHER": b"up\0", "LANA_A_PORT": b"\x02"}
    assert parts(bind("low", "up"))[1] == REQUEST | ACK
    assert parts(set_to("eth", "dev", "a"))[2] == {
        "LANA_A_NAME": b"eth\0",
        "LANA_A_KEY": b"dev\0",
        "LANA_A_VALUE": b"a\0",
    }
    assert parts(of_two(Command.REPLACE, "old", "new"))[0] == 6


def test_a_chain_is_bound_from_below_and_taken_apart_before_its_blocks_go() -> None:
    made = [parts(each) for each in chained([("fb_eth", "e"), ("fb_dummy", "d")])]
    assert [command for command, _, _ in made] == [Command.ADD, Command.ADD, Command.BIND]
    assert made[2][2]["LANA_A_NAME"] == b"e\0"
    gone = [parts(each)[0] for each in taken_apart(["e", "d"])]
    assert gone == [Command.UNBIND, Command.RM, Command.RM]


def test_blocks_are_read_as_fbctl_prints_them() -> None:
    found = listed(
        "eth type=fb_eth id=1 up=one packets=7 program=classic of 4\none type=fb_dummy\n"
    )
    assert (found["eth"].number("packets"), found["eth"].said["up"]) == (7, "one")
    with pytest.raises(LabError, match="the block one does not say packets"):
        found["one"].number("packets")


# A trial


@dataclass
class Guest:
    """An agent that answers what pktgen, fbctl and the kernel would have said."""

    ended: int = 1000
    engine: str = "softirq"
    come: list[int] = field(default_factory=lambda: [50, 1050])
    ran: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    stopped: int = 3000
    last: int = 1  # the last dummy's number
    changes: str = ""  # what is said of them
    counter: str = ""  # what is listed of the block that counts, and of the two that are changed
    refuses: str = ""

    def write_file(self, path: str, content: bytes, _deadline: float, *_: object) -> None:
        self.sent.append(content)

    def run(self, argv: Sequence[str], _deadline: float) -> ProgramEnd:
        self.ran.append(tuple(argv))
        said = ""
        if self.refuses and "list" in argv:
            return ProgramEnd(0, 1 << 8, Measure(1.0, 0.1, 0.1, 1, 1, 0), self.refuses.encode())
        if "list" in argv:
            said = f"eth type=fb_eth engine={self.engine} idle=3500000 overruns=10 wakes=500\n"
            said += f"dummy{self.last} type=fb_dummy packets=600 dropped={self.ended}\n"
            said += self.counter
        elif "/proc/net/dev" in argv:
            said = f"  lo: 1 1\n     a: 99 {self.come.pop(0)} 0\n"
        elif "/bin/sh" in argv:
            stopped = 2000 if "add_device sink0" in argv[-1] else self.stopped
            said = "ctxt 100\n1 5 2\nctxt 350\n9 2005 3\n" + self.changes
            said += (
                f"pkts-sofar: 1000  errors: 0\n  started: 1000us  stopped: {stopped}us idle: 0us"
            )
        return ProgramEnd(1, 0, Measure(1.0, 0.1, 0.1, 1, 1, 0), said.encode())


def tried(guest: Any, arm: str, **given: Any) -> tuple[Stack, Mapping[str, float], Any]:
    """Return a scenario in a fake guest after a trial, its figures, and its hosts."""
    values = {each.name: each.default for each in Stack.parameters} | {"packets": 1000} | given
    axes = {name: values.pop(name) for name in ("chain", "meanwhile") if name in values}
    network, cell = parse(str(values["topology"])), cell_of(Stack, arm=arm, **axes)
    hosts = {
        name: Host(name, guest, lambda _: 60.0, inside=inside(name), network=network)
        for name in network.hosts
    }
    scenario = Stack(values)
    list(scenario.set_up({GUEST: Host(GUEST, guest, lambda _: 60.0), **hosts}, Cell()))
    scenario.prepare(hosts, cell)
    return scenario, scenario.trial(hosts, cell), hosts


def test_what_sending_costs_is_taken_out_and_a_thread_is_waited_for() -> None:
    # Sending took 1 us a packet; softirq was done at 3000 us, the thread at 3500 us.
    _, softirq, _ = tried(Guest(), "softirq")
    assert softirq["ns"] == pytest.approx(1000)
    assert softirq["packets_per_second"] == pytest.approx(1e6)
    _, thread, _ = tried(Guest(ended=990, engine="thread-fifo"), "thread-fifo")
    assert thread["ns"] == pytest.approx(1_500_000 / 990)
    assert (thread["overruns"], thread["wakes"]) == (10, 0.5)
    assert (thread["switches"], thread["starved"], thread["missed"]) == (0.25, 2.0, 0)


def test_an_arm_is_a_chain_and_its_engine() -> None:
    guest = Guest(engine="thread-fifo", ended=990)
    scenario, _, hosts = tried(guest, "thread-fifo")
    assert b"thread-fifo\0" in guest.sent[-1]
    scenario.prepare(hosts, cell_of(Stack, arm="threaded-napi", coalesce=0))
    assert b"softirq\0" in guest.sent[-1]
    assert b"threaded\0\0\0\0\x06\0\x06\x001\0" in guest.sent[-1]
    scenario.prepare(hosts, cell_of(Stack, arm="stack", coalesce=0))
    assert scenario.chain is None, "Linux alone has the packets"
    assert b"dummy1\0" in guest.sent[-1], "the last trial's blocks are taken away"


def test_packets_that_vanish_between_the_blocks_are_the_kernels_fault() -> None:
    scenario, _, hosts = tried(Guest(ended=999), "softirq")
    with pytest.raises(WrongState, match="1000 packets came, 999 went through"):
        scenario.check(hosts, cell_of(Stack, arm="softirq"))


def test_a_trial_that_no_packet_goes_through_has_no_figures() -> None:
    with pytest.raises(WrongState, match="none of 1000 packets went through: 1000 came to b"):
        tried(Guest(ended=0), "softirq")


def test_sending_that_costs_more_alone_is_the_labs_fault() -> None:
    with pytest.raises(LabError, match="send more packets"):
        tried(Guest(stopped=1900), "softirq")


@pytest.mark.parametrize(
    ("coalesce", "packets", "fits"),
    [(0, 100, True), (250, 20_000, True), (250, 19_999, False), (100_000, 100, False)],
)
def test_waiting_for_the_last_packets_is_no_part_of_what_is_measured(
    coalesce: int, packets: int, fits: bool
) -> None:
    options = ScenarioOptions(
        scenario="stack", axis=(f"coalesce={coalesce}",), param=(f"packets={packets}",)
    )
    if fits:
        assert options.plan(Stack.judged).given["packets"] == packets
        return
    with pytest.raises(UsageError, match=f"--param packets={80 * coalesce} at least, or") as said:
        options.plan(Stack.judged)
    assert f"--axis coalesce={packets // 80} at most" in str(said.value)


def test_a_topology_that_is_no_single_link_is_refused() -> None:
    shaped, plain = parse("a -- b: 10mbit"), parse("a -- b")
    assert "two hosts and a link that does nothing" in Stack.unfit(shaped, in_one_guest=True)
    assert Stack.unfit(plain, in_one_guest=True) == ""


def test_a_scenario_brings_its_module_and_a_persons_own_come_after(tmp_path: Path) -> None:
    class Own(Stack):
        stands_in = False

    (tmp_path / "Kbuild").write_text("obj-m := mine.o\n")
    options = KernelOptions("debian", modules=(str(tmp_path),)).with_scenario(Own)
    assert options.modules == (str(SOURCES / "lana"), str(tmp_path))
    assert options.with_scenario(Own) == options, "once is enough"
    assert options.build_options("sysfs").modular


def test_a_persons_module_is_measured_in_the_place_of_the_labs(tmp_path: Path) -> None:
    (tmp_path / "Kbuild").write_text("obj-m := mine.o\n")
    alone, mine = KernelOptions("debian"), KernelOptions("debian", modules=(str(tmp_path), "dummy"))
    assert alone.with_scenario(Stack).modules == (str(SOURCES / "lana"),)
    options = mine.with_scenario(Stack)
    assert options.modules == (str(tmp_path), "dummy")
    assert options.with_scenario(Stack) == options
    # What the kernel has itself stands in for nothing.
    named = KernelOptions("debian", modules=("dummy",)).with_scenario(Stack)
    assert named.modules == (str(SOURCES / "lana"), "dummy")


def test_a_folder_that_is_no_module_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for folder, why in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "no Kbuild")):
        options = KernelOptions("debian", modules=(str(folder),)).with_scenario(Stack)
        with pytest.raises(UsageError, match=why):
            options.check()


def test_a_module_without_the_family_is_said_to_have_none() -> None:
    guest = Guest(refuses="fbctl: the module lana is not loaded: No such file or directory")
    with pytest.raises(RequestRefused, match="does not offer the family LANA"):
        tried(guest, "softirq")


def test_a_scenario_whose_module_is_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from linklab.scenarios.routes import Routes\n"
        "class Mine(Routes):\n"
        "    name = 'mine'\n"
        "    modules = (Path('nowhere'),)\n"
    )
    with pytest.raises(UsageError, match="modules is nowhere: the full path"):
        scenario_named(str(tmp_path / "mine.py"))


# Longer chains, and chains that change


def test_a_chain_has_as_many_dummies_as_are_asked_for() -> None:
    guest = Guest(last=63)
    scenario, _, hosts = tried(guest, "softirq", chain=64)
    requests = guest.sent[-1]
    assert (b"dummy63\0" in requests, b"dummy64\0" in requests) == (True, False)
    assert len(requests) < 65536, "what fbctl sends at once"
    scenario.prepare(hosts, cell_of(Stack, arm="softirq", chain=1))
    assert b"dummy63\0" in guest.sent[-1], "the last trial's are taken away"


def changed(beside: int = 400, again: int = 0, ended: int = 1000, **more: Any) -> Any:
    counter = f"beside packets={beside}\ncounter again={again} late=3 dropped={ended}\n"
    guest = Guest(counter=counter, changes="rounds 7\n")
    return tried(guest, "softirq", meanwhile="rebind", **more)


def test_chains_that_change_say_how_often_and_what_came_of_it() -> None:
    scenario, metrics, hosts = changed()
    assert (metrics["changes"], metrics["lost"], metrics["again"], metrics["late"]) == (
        714,
        0,
        0,
        3,
    )
    scenario.check(hosts, cell_of(Stack, arm="softirq", meanwhile="rebind"))
    still = tried(Guest(), "softirq")[1]
    assert not {"changes", "lost", "again", "late"} & still.keys()


def test_a_packet_that_a_change_lost_or_doubled_is_the_kernels_fault() -> None:
    cell = cell_of(Stack, arm="softirq", meanwhile="rebind")
    # Each came, but one of them twice: another one is missing.
    scenario, _, hosts = changed(again=1)
    with pytest.raises(WrongState, match="1 packets were lost by 714 changes, and 1 came twice"):
        scenario.check(hosts, cell)
    scenario, _, hosts = changed(ended=999)
    with pytest.raises(WrongState, match="1000 packets came, 999 went through"):
        scenario.check(hosts, cell)


def test_a_chain_that_no_packet_saw_changed_proves_nothing() -> None:
    scenario, _, hosts = changed(beside=0)
    with pytest.raises(LabError, match="never changed while packets ran"):
        scenario.check(hosts, cell_of(Stack, arm="softirq", meanwhile="rebind"))


def test_a_round_of_changes_leaves_the_chain_as_it_was() -> None:
    for meanwhile, command in (("rebind", Command.BIND), ("replace", Command.REPLACE)):
        guest = Guest(
            changes="rounds 1\n", counter="beside packets=1\ncounter again=0 late=0 dropped=1000\n"
        )
        tried(guest, "softirq", meanwhile=meanwhile)
        changes, found = b"".join(guest.sent[-2:]), []
        while changes:
            (length,) = struct.unpack_from("<I", changes)
            found.append(parts(changes[:length]))
            changes = changes[-(-length // 4) * 4 :]
        assert {number for number, _, _ in found} == {command}
        assert found[-1][2]["LANA_A_OTHER"] == b"dummy1\0"


def test_linuxs_own_stack_is_neither_longer_nor_changed() -> None:
    assert not Stack.refusal(cell_of(Stack, arm="stack"))
    for axes in ({"chain": 3}, {"meanwhile": "rebind"}):
        assert "stack has no blocks" in Stack.refusal(cell_of(Stack, arm="stack", **axes))


def test_the_chains_table_has_lengths_down_and_arms_across() -> None:
    options = ScenarioOptions(scenario="stack", param=("preset=chain",))
    shape = options.plan({}).shape
    assert (shape.rows, shape.columns) == ("chain", "arm")
    usual = ScenarioOptions(scenario="stack").plan({}).shape
    assert (usual.rows, usual.columns) == ("arm", "coalesce")


# The paper's claims


def run_of(rates: Mapping[str, float], starved: Mapping[str, float]) -> Run:
    full = {metric.name: 1.0 for metric in Stack.shape.metrics}
    samples = [
        sample_in("debian", cell_of(Stack, arm=arm, coalesce=at), full | {name: value})
        for at, name, values in (
            (50, "packets_per_second", rates),
            (250, "starved", starved),
        )
        for arm, value in values.items()
    ]
    kernels: list[dict[str, Any]] = [
        {"name": "debian", "release": "6.1", "sha256": "ab", "inputs": {}, "image_bytes": None}
    ]
    about = {"shape": Stack.shape.to_json(), "kernels": kernels, "plan": {"given": {}}}
    return Run(about, samples)


PUBLISHED = {
    "thread-fifo": 70.0,
    "thread-normal": 75.0,
    "thread-controlled": 90.0,
    "softirq": 130.0,
    "stack": 138.0,
}
STARVED = {"thread-fifo": 900.0, "thread-normal": 300.0, "softirq": 0.0}


def findings(rates: Mapping[str, float], starved: Mapping[str, float]) -> list[Finding]:
    return [claim.finding for claim in claims(run_of(rates, starved))]


def test_the_papers_own_figures_reproduce_it() -> None:
    assert findings(PUBLISHED, STARVED) == [Finding.REPRODUCED] * 6


def test_what_differs_is_said() -> None:
    swapped = PUBLISHED | {"thread-fifo": 90.0, "thread-controlled": 70.0}
    order, fifo, *_ = findings(swapped, STARVED)
    assert (order, fifo) == (Finding.IN_PART, Finding.IN_PART)
    faster = PUBLISHED | {"softirq": 140.0, "thread-fifo": 137.0}
    order, fifo, *_ = findings(faster, STARVED)
    assert (order, fifo) == (Finding.NOT_REPRODUCED, Finding.NOT_REPRODUCED)
    assert findings(PUBLISHED, STARVED | {"softirq": 900.0})[-1] is Finding.NOT_REPRODUCED


def test_what_was_not_measured_is_not_judged() -> None:
    assert set(findings({"softirq": 1.0}, {})) == {Finding.NOT_MEASURED}


@pytest.mark.parametrize(
    ("ours", "finding"),
    [
        (0.55, Finding.REPRODUCED),
        (0.7, Finding.IN_PART),
        (0.3, Finding.NOT_REPRODUCED),
        (1.1, Finding.NOT_REPRODUCED),
    ],
)
def test_a_ratio_is_held_against_the_published_one(ours: float, finding: Finding) -> None:
    assert Finding.of_ratio(ours, 0.51, 1.5) is finding
