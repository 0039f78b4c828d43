"""Functional blocks in a real guest: chains that change while packets run, and the scenario."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guests import Invoke, soon

from linklab.agent.client import Agent
from linklab.commands.kernels import KernelOptions, prepare_subjects
from linklab.errors import LabError
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.paths import GUEST as SOURCES
from linklab.scenarios.scenario import IP
from linklab.scenarios.stack import Stack
from linklab.scenarios.stack.blocks import FBCTL, Block, add, bind, listed, set_to
from linklab.trials.subjects import Requirements

pytestmark = pytest.mark.vm

_PACKETS = 2000
_SEQUENCE = 32  # bytes from the IP header on: pktgen's number of a packet
_PORT_DISCARD = "4,48 0 0 22,21 0 1 0,6 0 0 0,6 0 0 65535"  # bytes 22: UDP's port is 9 with 0
Open = Callable[[], Agent]


@pytest.fixture(scope="module")
def subject(cache: Cache, lab: Lab) -> Subject:
    """Debian's kernel with the module; skip where no archive is within reach."""
    options = KernelOptions("debian").with_scenario(Stack)
    try:
        (made,) = prepare_subjects(options, Requirements.of(Stack, lab), cache, ignore)
    except LabError as error:
        pytest.skip(f"Debian's kernel cannot be had here: {error} {error.evidence}")
    return made


@pytest.fixture
def agent(lab: Lab, subject: Subject, tmp_path: Path) -> Iterator[Agent]:
    """A guest with a veth pair, v0 and v1, and the module; its end says that nothing is wrong."""
    assert lab.boot is Boot.DIRECT
    with lab.session(subject, tmp_path / "console.log") as session:
        # Nobody else speaks.
        shell(session.agent, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        shell(session.agent, f"{IP} link add v0 type veth peer name v1")
        shell(session.agent, f"{IP} link set v0 up; {IP} link set v1 up")
        yield session.agent


def shell(agent: Agent, line: str, status: int = 0) -> str:
    """Run a line; return what it printed."""
    end = agent.run(["/bin/sh", "-c", f"alias fbctl={FBCTL}; {line}"], soon())
    assert end.exit_code == status, end.output.decode()
    return end.output.decode()


def blocks(agent: Agent) -> dict[str, Block]:
    """Return all blocks."""
    return listed(shell(agent, f"{FBCTL} list"))


def batch(agent: Agent, *lines: str) -> None:
    """Have fbctl do some lines, in one process."""
    agent.write_file("/tmp/batch", "".join(f"{line}\n" for line in lines).encode(), soon())
    shell(agent, f"{FBCTL} batch /tmp/batch")


def under_load(agent: Agent, *lines: str, command: str = "", count: int = _PACKETS) -> None:
    """Send numbered packets over v0; meanwhile do some lines again and again, or a command."""
    agent.write_file("/tmp/batch", "".join(f"{line}\n" for line in lines).encode(), soon())
    again = f"until [ -e /tmp/sent ]; do {FBCTL} batch /tmp/batch || exit 1; done"
    # For so long a delay (ns) pktgen sleeps, and wakes in the middle of what fbctl does.
    words = [f"count {count}", "delay 200000", "pkt_size 60", "dst 198.18.0.1"]
    words.append("dst_mac 02:00:00:00:00:99")
    told = "".join(f'echo "{word}" > v0;' for word in words)
    output = shell(
        agent,
        "cd /proc/net/pktgen; echo rem_device_all > kpktgend_0; echo add_device v0 > kpktgend_0; "
        f"{told} rm -f /tmp/sent; (echo start > pgctrl; touch /tmp/sent) & cd /; "
        # pktgen waits an eighth of a second before it begins.
        "until [ -e /tmp/sent ] || grep -q 'v1: *[1-9]' /proc/net/dev; do usleep 1000; done; "
        f"{command or again} || exit 1; wait; cat /proc/net/pktgen/v0",
    )
    found = re.search(r"pkts-sofar: (\d+)", output)
    assert found, output
    assert int(found[1]) == count, output


CHAIN = (
    "add fb_eth eth dev=v1",
    "add fb_dummy one",
    "add fb_dummy left",
    "add fb_dummy right",
    f"add fb_counter end sequence={_SEQUENCE}",
    "bind one left",
    "bind left end",
    "bind eth one",
)


@pytest.mark.parametrize("engine", ["softirq", "thread-fifo", "thread-normal", "thread-controlled"])
def test_no_packet_is_lost_or_comes_twice_while_a_chain_is_bound_anew(
    agent: Agent, engine: str
) -> None:
    batch(agent, *CHAIN, "bind right end", f"set eth engine={engine}")
    under_load(agent, *["rebind one right", "rebind one left"] * 100)
    found = blocks(agent)
    # What a thread has not come to yet waits; it does when nobody else runs.
    assert found["eth"].number("packets") == _PACKETS
    left, right = found["left"].number("packets"), found["right"].number("packets")
    assert min(left, right) > 0, "the chain was never changed while packets ran"
    assert left + right == found["end"].number("packets") == _PACKETS
    assert [found["end"].number(what) for what in ("lost", "again", "short")] == [0, 0, 0]


def test_no_packet_is_lost_or_comes_twice_while_a_block_is_replaced(agent: Agent) -> None:
    batch(agent, *CHAIN)
    under_load(agent, *["replace left right", "replace right left"] * 10)
    found = blocks(agent)
    left, right = found["left"].number("packets"), found["right"].number("packets")
    assert min(left, right) > 0, "no block was replaced while packets ran"
    assert left + right == found["end"].number("packets") == _PACKETS
    assert [found["end"].number(what) for what in ("lost", "again", "short")] == [0, 0, 0]


def test_a_counter_sees_what_unbinding_loses(agent: Agent) -> None:
    batch(agent, *CHAIN)
    under_load(agent, *["unbind one left", "bind one left"] * 100)
    found = blocks(agent)
    assert found["one"].number("dropped") > 0
    assert found["one"].number("dropped") + found["end"].number("packets") == _PACKETS
    assert 0 < found["end"].number("lost") <= found["one"].number("dropped")
    assert found["end"].number("again") == 0


@pytest.mark.parametrize("engine", ["softirq", "thread-normal"])
def test_the_module_goes_while_packets_run(agent: Agent, engine: str) -> None:
    batch(agent, *CHAIN, f"set eth engine={engine}")
    under_load(agent, command="rmmod lana")
    assert "lana " not in agent.read_file("/proc/modules", soon()).decode()


def test_engines_change_while_packets_run(agent: Agent) -> None:
    batch(agent, *CHAIN)
    under_load(agent, *["set eth engine=thread-fifo", "set eth engine=softirq"] * 5)
    found = blocks(agent)
    assert found["end"].number("packets") == found["eth"].number("packets") == _PACKETS


def test_sockets_speak_over_links_with_tags(agent: Agent) -> None:
    ends = [
        line
        for end in (0, 1)
        for line in (
            f"add fb_eth eth{end} dev=v{end}",
            f"add fb_ethvlink link{end} tag=7",
            f"add fb_ethvlink other{end} tag=8 ethertype=0x88b6",
            f"add fb_pflana socket{end}",
            f"bind eth{end} link{end}",
            f"bind link{end} other{end} side",
            f"bind link{end} socket{end}",
            f"subscribe socket{end} eth{end}",
        )
    ]
    batch(agent, *ends)
    agent.start_job([FBCTL, "hear", "socket1", "1"], soon())
    output = b""
    while b"listening" not in output:
        output += agent.job_news(0.1, soon()).output
    shell(agent, f"{FBCTL} say socket0 tagged-as-seven")
    while (news := agent.job_news(0.1, soon())).wait_status is None:
        output += news.output
    assert b"heard tagged-as-seven" in output + news.output
    # The other link has neither the tag nor anybody above it.
    batch(agent, "set link0 tag=8", "set link0 ethertype=0x88b6")
    shell(agent, f"{FBCTL} say socket0 tagged-as-eight")
    assert blocks(agent)["other1"].number("dropped") == 1
    # Who hears of the link is woken when it goes down.
    agent.start_job([FBCTL, "hear", "socket1", "1"], soon())
    while b"listening" not in agent.job_news(0.1, soon()).output:
        pass
    shell(agent, f"{IP} link set v1 down")
    while (news := agent.job_news(0.1, soon())).wait_status is None:
        output += news.output
    assert b"Network is down" in output + news.output
    assert blocks(agent)["socket1"].number("heard") >= 1


def test_a_filter_and_a_tee_send_packets_their_ways(agent: Agent) -> None:
    lines = ("add fb_bpf filter", "add fb_tee tee", "add fb_dummy copy", "add fb_dummy rest")
    batch(agent, "add fb_eth eth dev=v1", *lines, "add fb_dummy taken")
    shell(agent, f"{FBCTL} set filter 'program={_PORT_DISCARD}'")
    binds = ("bind filter taken", "bind filter rest side", "bind tee filter", "bind tee copy side")
    batch(agent, *binds, "bind eth tee")
    under_load(agent, count=100)
    found = blocks(agent)
    assert found["filter"].said["program"].startswith("classic")
    numbers = [found[name].number("packets") for name in ("tee", "copy", "rest", "taken")]
    assert numbers == [100, 100, 100, 0]


def test_what_would_go_wrong_is_refused_with_a_reason(agent: Agent) -> None:
    batch(agent, "add fb_dummy a", "add fb_dummy b", "bind a b")
    for line, why in (
        ("bind b a", "in a circle"),
        ("bind a b", "bound already"),
        ("rm a", "unbind it first"),
        ("add fb_nothing c", "no such type"),
        ("add fb_dummy a", "a name of its own"),
        ("replace a b", "must not be bound"),
        ("set a colour=red", "no such setting"),
        ("rm nobody", "no block of this name"),
        ("unbind b a", "not bound in this order"),
    ):
        assert why in shell(agent, f"{FBCTL} {line} 2>&1", status=1), line


def test_copies_without_end_are_refused(agent: Agent) -> None:
    front = [f"bind front{at} front{at + 1} side" for at in range(8)]
    behind = [f"bind behind{at} behind{at + 1} side" for at in reversed(range(15, 23))]
    both = [f"bind both{at} both{at + 1}{to}" for at in range(8) for to in (" side", "")]
    # Four blocks upwards, each with a copy to the first of the next four.
    each = [f"bind each{at} each{at + 1}" for at in range(23) if at % 4 != 3]
    each += [f"bind each{at} each{at // 4 * 4 + 4} side" for at in range(5, 20)]
    for name, binds, refused, why in (
        ("front", front, "bind front8 front9 side", "at most 8 side ways"),
        ("behind", behind, "bind behind14 behind15 side", "at most 8 side ways"),
        ("both", both, "bind both8 both9 side", "at most 8 side ways"),
        ("each", each, "bind each4 each8 side", "more than 256"),
    ):
        batch(agent, *(f"add fb_tee {name}{at}" for at in range(24)), *binds)
        assert why in shell(agent, f"{FBCTL} {refused} 2>&1", status=1), name
    # What may stand is as many packets as it says, and not more.
    batch(agent, "add fb_eth eth dev=v1", "bind eth both0")
    under_load(agent, count=1)
    assert blocks(agent)["both8"].number("dropped") == 256


def test_what_goes_down_takes_the_way_that_is_bound(agent: Agent) -> None:
    names = ("one", "left", "right")
    binds = ("bind eth one", "bind one left", "bind left end", "bind right end")
    adds = ("add fb_eth eth dev=v1", "add fb_pflana end", *(f"add fb_dummy {n}" for n in names))
    batch(agent, *adds, *binds, "rebind one right")
    shell(agent, f"{FBCTL} say end hello")
    found = blocks(agent)
    assert [found[name].number("packets") for name in ("left", "right", "eth")] == [0, 1, 1]
    # In a process each, so that others run in between.
    again = f"{FBCTL} rebind one left || exit 1; {FBCTL} rebind one right || exit 1"
    shell(
        agent,
        f"rm -f /tmp/sent; (until [ -e /tmp/sent ]; do {again}; done) & "
        f"i=0; while [ $i -lt 100 ]; do {FBCTL} say end hello; i=$((i+1)); done; "
        "touch /tmp/sent; wait $!",
    )
    found = blocks(agent)
    assert [found[name].number("dropped") for name in ("end", *names)] == [0] * 4
    assert found["left"].number("packets") + found["right"].number("packets") == 101
    assert (found["one"].number("packets"), found["eth"].number("packets")) == (101, 101)
    assert found["left"].number("packets") > 0, "nothing was sent while the other way was bound"


def test_python_says_the_same_as_fbctl(agent: Agent) -> None:
    requests = [add("fb_eth", "eth"), set_to("eth", "dev", "v1"), add("fb_dummy", "one")]
    agent.write_file("/tmp/requests", b"".join([*requests, bind("eth", "one")]), soon())
    shell(agent, f"{FBCTL} send /tmp/requests")
    found = blocks(agent)
    assert found["eth"].said["dev"] == "v1"
    assert (found["eth"].said["up"], found["one"].said["down"]) == ("one", "eth")


def test_a_counter_knows_late_packets_from_those_that_come_twice(agent: Agent) -> None:
    batch(agent, *CHAIN, "add fb_tee tee", "rebind eth tee", "bind tee end", "bind tee one side")
    under_load(agent, count=100)
    found = blocks(agent)["end"]
    assert [found.number(what) for what in ("lost", "late", "again")] == [0, 0, 100]


def test_two_nodes_agree_on_a_chain_or_bind_nothing(
    invoke: Invoke, subject: Subject, tmp_path: Path
) -> None:
    words = ("--scenario", "agreement", "--kernel", "debian", "--json", "--leaks", "none")
    done = invoke("run", *words, "--output", str(tmp_path / "run"))
    assert done.status == 0, done.stderr
    of = {sample["offers"]: sample for sample in done.document["samples"]}
    assert all(sample["verified"] for sample in of.values())
    blocks_of = {offers: sample["blocks"] for offers, sample in of.items()}
    assert blocks_of == {"alike": 3, "second": 1, "none": 0, "unknown": 0, "busy": 0}
    # An offer and an answer; two more where one is bound.
    assert {offers: of[offers]["words"] for offers in of} == {
        "alike": 4, "second": 4, "none": 2, "unknown": 4, "busy": 4,
    }  # fmt: skip
    assert of["alike"]["messages"] == 200
    assert "messages" not in of["none"]


def test_sockets_of_the_family_hold_a_conversation_between_two_guests(
    invoke: Invoke, subject: Subject, tmp_path: Path
) -> None:
    done = invoke(
        *("run", "--scenario", "agreement", "--kernel", "debian", "--place", "guests"),
        *("--axis", "offers=alike,none", "--leaks", "none", "--json"),
        *("--output", str(tmp_path / "run")),
    )
    assert done.status == 0, done.stderr
    of = {sample["offers"]: sample for sample in done.document["samples"]}
    assert {sample["place"] for sample in of.values()} == {"guests"}
    assert (of["alike"]["messages"], of["alike"]["lost"], of["alike"]["again"]) == (200, 0, 0)
    assert of["none"]["blocks"] == 0


def test_chains_that_change_lose_nothing_and_each_block_costs(
    invoke: Invoke, subject: Subject, tmp_path: Path
) -> None:
    words = ("--scenario", "stack", "--kernel", "debian", "--cell", "arm=softirq,coalesce=50")
    more = ("--json", "--leaks", "none", "--param", "packets=20000", "--output")
    axes = ("--axis", "chain=1,64", "--axis", "meanwhile=none,rebind,replace")
    done = invoke("run", *words, *axes, *more, str(tmp_path / "run"))
    assert done.status == 0, done.stderr
    of = {(s["chain"], s["meanwhile"]): s for s in done.document["samples"]}
    assert len(of) == 6
    for (_, meanwhile), sample in of.items():
        assert sample["verified"]
        if meanwhile != "none":
            assert (sample["lost"], sample["again"]) == (0, 0)
            assert sample["changes"] > 0
    # A block is a call and a few loads.
    assert 300 < of[64, "none"]["ns"] - of[1, "none"]["ns"] < 6300


def test_a_persons_own_module_is_measured_with_the_same_table(
    invoke: Invoke, subject: Subject, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(SOURCES / "lana", mine)
    text = (mine / "Kbuild").read_text()
    (mine / "Kbuild").write_text(re.sub(r"\blana(\.o|-y)", r"mine\1", text))
    words = ("run", "--scenario", "stack", "--kernel", "debian", "--json", "--leaks", "none")
    cell = ("--axis", "arm=softirq", "--axis", "coalesce=0", "--param", "packets=1000")
    done = invoke(*words, *cell, "--module", str(mine), "--output", str(tmp_path / "run"))
    assert done.status == 0, done.stderr
    (kernel,) = done.document["run"]["kernels"]
    assert "mine" in kernel["modules"]
    assert "lana" not in kernel["modules"]
    # What is no module is refused at once; what compiles and has no such family fails.
    nowhere = invoke(*words, "--module", str(tmp_path / "nowhere"))
    assert (nowhere.status, "there is no such folder" in nowhere.stderr) == (2, True)
    hello = Path(__file__).parent / "modules" / "hello"
    other = invoke(*words, *cell, "--module", str(hello), "--output", str(tmp_path / "other"))
    assert other.status == 1
    assert "does not offer the family LANA" in other.document["run"]["message"]


def test_the_scenario_measures_all_arms(invoke: Invoke, subject: Subject, tmp_path: Path) -> None:
    words = ("--scenario", "stack", "--kernel", "debian", "--param", "packets=1000", "--json")
    # Each packet is polled for alone, so a thread pays for each.
    alone = ("--axis", "coalesce=0", "--repeat", "1")
    done = invoke("run", *words, *alone, "--output", str(tmp_path / "run"))
    assert done.status == 0, done.stderr
    of = {sample["arm"]: sample for sample in done.document["samples"]}
    assert set(of) == set(Stack.shape.axes[0].values)
    assert all(sample["verified"] for sample in of.values())
    assert of["thread-fifo"]["switches"] > 1 > of["softirq"]["switches"]
    assert of["thread-fifo"]["wakes"] > 0.9
    assert of["threaded-napi"]["switches"] > 1
    rates = [of[arm]["packets_per_second"] for arm in ("thread-fifo", "softirq", "stack")]
    assert rates == sorted(rates)
