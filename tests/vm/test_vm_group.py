"""The grouping agent in guests where things go wrong, and where there is much of everything."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from guests import Invoke, Opener, soon

from linklab.agent.client import Agent
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.image.programs import build_program
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.lab import Lab
from linklab.scenarios.inherit import Inherit
from linklab.scenarios.scenario import GROUPS
from linklab.trials.subjects import subject_of

pytestmark = pytest.mark.vm

HERE = Path(__file__).parent
MANY = 10_000
MANY_MIB = 900
JOURNAL = "/run/linklab-group.journal"
FIRST = "02:00:00:00:00:01"


def shell(agent: Agent, script: str, seconds: float = 900) -> str:
    """What a script printed, which must end well; `group` is the grouping agent."""
    words = ["/bin/sh", "-c", f"alias group={GROUPS}; alias ip=/bin/ip\n{script}"]
    end = agent.run(words, soon(seconds))
    assert end.exit_code == 0, end.output.decode()
    return end.output.decode()


def make(agent: Agent, count: int, name: str = "d", group: int = 42) -> None:
    """Dummies, all in a group."""
    lines = "".join(f"link add {name}{n} group {group} type dummy\n" for n in range(count))
    agent.write_file("/tmp/made", lines.encode(), soon())
    shell(agent, "ip -batch /tmp/made")


def state(agent: Agent) -> dict[str, dict[str, object]]:
    """All links, as `ip` shows them."""
    found: list[dict[str, object]] = json.loads(shell(agent, "ip -json link show"))
    return {str(link["ifname"]): link for link in found}


def test_links_that_vanish_in_the_middle_are_named_and_all_others_done(guest: Opener) -> None:
    with guest() as session:
        agent, gone = session.agent, 0
        for _ in range(5):
            make(agent, 300)
            lines = "".join(f"link delete d{n}\n" for n in range(0, 300, 3))
            agent.write_file("/tmp/deleted", lines.encode(), soon())
            said = shell(
                agent,
                f"ip -batch /tmp/deleted & group assign 42 mac {FIRST} inet 10.0.0.1/16\n"
                "echo status $?; wait",
            )
            assert "status 0" in said, said
            gone += said.count("gone meanwhile")
            left = state(agent)
            assert sum(name.startswith("d") for name in left) == 200
            for number in range(300):
                if number % 3:
                    assert str(left[f"d{number}"]["address"]).startswith("02:00:00:00:")
            shell(agent, "ip link delete group 42")
        assert gone, "in none of the attempts did one vanish in the middle"


def test_all_or_nothing_leaves_alone_what_somebody_else_changes_meanwhile(guest: Opener) -> None:
    """The last takes no IPv6 address, which the kernel says when all others have one."""
    with guest() as session:
        agent = session.agent
        make(agent, 200)
        shell(agent, "echo 1 > /proc/sys/net/ipv6/conf/d199/disable_ipv6")
        before = {name: link["address"] for name, link in state(agent).items()}
        said = shell(
            agent,
            "(while :; do ip link set d7 address 06:00:00:00:00:07; done) & other=$!\n"
            "(while :; do ip link set d9 group 43; ip link set d9 group 42; done) & mover=$!\n"
            "for i in 1 2 3 4 5 6; do\n"
            f"group --atomic assign 42 mac {FIRST} inet6 fd00::1/64 && exit 1\n"
            "done; kill $other $mover; ip -o -6 address show to fd00::/64",
        )
        assert "d199 (ifindex" in said and "all is as it was" in said
        assert "inet6 fd00" not in said
        now = {name: link["address"] for name, link in state(agent).items()}
        assert now.pop("d7") == "06:00:00:00:00:07"
        before.pop("d7")
        assert now == before
        assert "nothing to recover" in shell(agent, "group recover")


def test_killed_in_the_middle_it_is_undone_or_finished(guest: Opener) -> None:
    with guest() as session:
        agent, journals = session.agent, 0
        make(agent, 400)
        before = {name: link["address"] for name, link in state(agent).items()}
        for how in ("undo", "finish") * 4:
            said = shell(
                agent,
                f"group --atomic assign 42 mac {FIRST} & busy=$!\n"
                f"while [ ! -e {JOURNAL} ] && kill -0 $busy 2>/dev/null; do :; done\n"
                f"kill -9 $busy; wait $busy; test -e {JOURNAL} && echo left; "
                f"group recover {how}",
            )
            now = {name: link["address"] for name, link in state(agent).items()}
            done = {f"d{n}": (0x02_00_00_00_00_01 + n).to_bytes(6).hex(":") for n in range(400)}
            done["lo"] = str(before["lo"])
            if "left" in said:
                journals += 1
                assert now == (before if how == "undo" else done), said
            if now == done:
                shell(agent, "ip link delete group 42")
                make(agent, 400)
                before = {name: link["address"] for name, link in state(agent).items()}
        assert journals, "it was never killed in the middle"


def test_a_full_receive_buffer_is_made_up_for(guest: Opener) -> None:
    with guest() as session:
        agent = session.agent
        agent.write_file("/tmp/rules", b"name x* join 42\n", soon())
        make(agent, 400, "d")
        lines = "".join(f"link add x{n} type dummy\n" for n in range(500))
        agent.write_file("/tmp/links", lines.encode(), soon())
        said = shell(
            agent,
            "group --json watch interval 50 room 4608 > /tmp/digest & watch=$!\n"
            "group inherit /tmp/rules room 4608 2> /tmp/words > /tmp/ready & daemon=$!\n"
            "until grep -q ready /tmp/ready; do sleep 0.1; done\n"
            "kill -STOP $watch $daemon\n"
            "ip -batch /tmp/links; ip link set x7 group 9; group set 42 mtu 1400\n"
            "kill -CONT $watch $daemon\n"
            "for i in $(seq 100); do [ $(group list 42 count) = 899 ] && break; sleep 0.1; done\n"
            "sleep 0.2; kill $watch $daemon; wait $watch $daemon\n"
            "cat /tmp/words; group list 42 count; group list 9 count; cat /tmp/digest",
        )
        words, joined, by_hand, *digests = said.splitlines()
        assert "messages were lost" in words
        assert (joined, by_hand) == ("899", "1")
        sums: Counter[str] = Counter()
        for line in map(json.loads, digests):
            sums.update({what: line[what] for what in ("new", "mtu", "lost")})
        assert (sums["new"], sums["mtu"]) == (500, 400) and sums["lost"] >= 1


def test_a_daemon_that_was_killed_goes_on_where_it_was(guest: Opener) -> None:
    with guest() as session:
        agent = session.agent
        agent.write_file("/tmp/rules", b"name x* join 42\n", soon())
        start = (
            "group inherit /tmp/rules > /tmp/ready & daemon=$!\n"
            "until grep -q ready /tmp/ready; do sleep 0.1; done\n"
        )
        ends = "sleep 0.5; kill -9 $daemon; wait $daemon; > /tmp/ready\n"
        said = shell(
            agent,
            f"ip link add x0 type dummy\n{start}ip link add x1 type dummy\n{ends}"
            f"ip link set x1 group 0; ip link add x2 type dummy\n{start}"
            f"ip link add x3 type dummy\n{ends}group list 42",
        )
        listed = [line.split()[1] for line in said.splitlines() if " kind " in line]
        assert listed == ["x2", "x3"], said


def test_memory_that_is_short_changes_nothing(guest: Opener) -> None:
    with guest() as session:
        agent = session.agent
        make(agent, 400)
        said = shell(
            agent,
            "for k in $(seq 100 20 2000); do\n"
            "(ulimit -d $k; group --atomic set 42 mtu 1400) 2>> /tmp/words && break\n"
            "[ $(ip -o link show group 42 | grep -c 'mtu 1500') = 400 ] || exit 1\n"
            f"[ ! -e {JOURNAL} ] || exit 1\n"
            "done\n"
            "cat /tmp/words; ip -o link show group 42 | grep -c 'mtu 1400'",
        )
        assert "memory is short" in said and said.endswith("\n400\n")


@pytest.fixture
def failing(cache: Cache, lab: Lab, tmp_path: Path) -> Iterator[Agent]:
    """A guest whose kernel has no memory where it is told so, and links of all kinds."""
    options = BuildOptions(configs=(*Inherit.fragments(), HERE / "group.config"))
    kernel = resolve_kernel("sysfs", options, cache, ignore)
    with lab.session(subject_of(kernel, cache, ignore), tmp_path / "console.log") as session:
        agent = session.agent
        agent.write_file("/tmp/failing", (HERE / "in_guest" / "failing").read_bytes(), soon())
        shell(agent, ". /tmp/failing; may_fail")
        yield agent


@pytest.mark.parametrize(
    "change", ["set 42 up", f"assign 42 mac {FIRST} inet 10.0.0.1/24"], ids=["group", "each"]
)
def test_a_kernel_that_lacks_memory_does_all_or_nothing(failing: Agent, change: str) -> None:
    """At each allocation of the program's whole life, and for a spell from each on."""
    lines = ["echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6", "ip link add base type dummy"]
    for n in range(1, 7):
        mac = f"address 06:00:00:00:00:0{n}"
        lines += [
            f"ip link add link base name m{n} {mac} group 42 type macvlan",
            f"echo link set m{n} down {mac} >> /tmp/undo",
            f"echo address flush dev m{n} >> /tmp/undo",
        ]
    shell(failing, "\n".join(lines))
    said = {
        how: shell(failing, f". /tmp/failing; > /tmp/words; sweep {how} {course} {change}")
        for how, course in (("once", "0 1 30"), ("spell", "60000 1000 4"))
    }
    for how, words in said.items():
        first = words.splitlines()[0]
        print(how, first)
        assert re.fullmatch(r"\d+ of \d+ recovered", first), "it was something in between"
    refused = r"^linklab-group: m\d \(ifindex \d+\): (Out of memory|No buffer space available)"
    assert re.search(refused, said["once"], re.MULTILINE)
    assert "all is as it was" in said["once"]
    assert "the journal stays: `recover`" in said["spell"] and "\nundone\n" in said["spell"]


def test_a_daemon_whose_kernel_lacks_memory_misses_no_link(failing: Agent) -> None:
    failing.write_file("/tmp/rules", b"on 42 kind macvlan join 42\n", soon())
    said = shell(
        failing,
        "ip link add base group 42 type dummy\n"
        "group inherit /tmp/rules > /tmp/ready 2> /tmp/words & daemon=$!\n"
        "until grep -q ready /tmp/ready; do sleep 0.1; done\n"
        "for n in $(seq 60); do\n"
        "echo $n > /proc/$daemon/fail-nth\n"
        "ip link add link base name m$n type macvlan\n"
        "for i in $(seq 50); do\n"
        "[ $(group list 42 count) = $((n + 1)) ] && break; sleep 0.1\n"
        "done; done\n"
        "kill $daemon; wait $daemon; echo status $?; group list 42 count; cat /tmp/words",
    )
    status, joined, *words = said.splitlines()
    assert (status, joined) == ("status 0", "61"), words
    assert words, "no allocation failed that mattered"


def test_ipvlan_and_ppp_join_as_any_other_kind(failing: Agent, cache: Cache) -> None:
    program = build_program(HERE / "in_guest" / "ppp", cache, ignore)
    failing.write_file("/tmp/ppp", program.read_bytes(), soon())
    rules = b"on 42 kind ipvlan join 42\nname ppp1 join 44\nkind ppp join 43\n"
    failing.write_file("/tmp/rules", rules, soon())
    said = shell(
        failing,
        "chmod 755 /tmp/ppp\n"
        "ip link add base group 42 type dummy; ip link add other type dummy\n"
        "group inherit /tmp/rules > /tmp/ready & daemon=$!\n"
        "until grep -q ready /tmp/ready; do sleep 0.1; done\n"
        "ip link add link base name i1 type ipvlan; ip link add link base name i2 type ipvlan\n"
        "ip link add link other name i3 type ipvlan\n"
        "/tmp/ppp > /tmp/made & first=$!; until grep -q ppp0 /tmp/made; do sleep 0.1; done\n"
        "/tmp/ppp > /tmp/made & second=$!; until grep -q ppp1 /tmp/made; do sleep 0.1; done\n"
        "sleep 1; kill $daemon; wait $daemon; group list; kill $first $second",
    )
    rows = [line.split() for line in said.splitlines()]
    found = {row[1]: (row[3], row[-1]) for row in rows}
    del found["lo"]
    assert found == {
        "base": ("42", "dummy"), "other": ("default", "dummy"),
        "i1": ("42", "ipvlan"), "i2": ("42", "ipvlan"), "i3": ("default", "ipvlan"),
        "ppp0": ("43", "ppp"), "ppp1": ("44", "ppp"),
    }  # fmt: skip


def test_ten_thousand_interfaces_are_listed_and_changed(cache: Cache, subjects: dict[str, object],
                                                        tmp_path: object) -> None:  # fmt: skip
    lab = set_up_lab(MachineOptions(), MANY_MIB, cache, ignore)
    with lab.session(subjects["nosysfs"], tmp_path / "console.log") as session:  # type: ignore[arg-type, operator]
        agent = session.agent
        make(agent, MANY)
        true = ["/bin/true"]
        none, dump = (
            agent.run_each(true, 0, 1, soon(900), dump_first=first).measure.seconds
            for first in (False, True)
        )
        listed = agent.run([GROUPS, "list"], soon(900))
        assert listed.output.count(b" kind dummy\n") == MANY
        ratio = listed.measure.seconds / (dump - none)
        print(f"list {listed.measure.seconds:.4f} s, a bare dump {dump - none:.4f} s: {ratio:.2f}")
        assert ratio <= 1.5
        shell(agent, f"group --atomic assign 42 mac {FIRST} inet 10.0.0.1/16")
        shell(agent, "group set 42 mtu 1400")
        rows = shell(agent, "ip -o link show group 42 | grep -c 'mtu 1400.*02:00:00:00:'")
        assert rows == f"{MANY}\n"


def test_each_scenario_measures_and_checks_every_interface(invoke: Invoke) -> None:
    small = {
        "tree": ("interfaces=128", "leaves=1,4"),
        "notify": ("interfaces=64", "listeners=0,2"),
        "sysfs": ("interfaces=64",),
        "inherit": ("stacked=40",),
        "filter": ("interfaces=16,64",),
        "addresses": ("addresses=64", "operation=assign", "arm=process,batch,agent"),
    }
    found = {}
    for name, axes in small.items():
        words = [word for axis in axes for word in ("--axis", axis)]
        done = invoke("run", "--scenario", name, "--kernel", "sysfs", *words, "--json")
        assert done.status == 0, done.stderr
        assert all(sample["verified"] for sample in done.document["samples"])
        found[name] = {
            (s["arm"], s.get("listeners", s.get("operation", s.get("interfaces")))): s
            for s in done.document["samples"]
        }
    agent, process = (found["addresses"][arm, "assign"]["seconds"] for arm in ("agent", "process"))
    assert agent * 10 < process
    assert found["inherit"]["daemon", None]["seconds"] < found["inherit"]["loop", None]["seconds"]
    assert found["notify"]["raw", 2]["heard"] == 128 > found["notify"]["digest", 2]["heard"] == 2
    rate = {key: sample["packets_per_second"] for key, sample in found["filter"].items()}
    assert rate["each", 64] < 0.7 * rate["each", 16]
    for arm in ("group", "tree"):
        assert rate[arm, 64] == pytest.approx(rate[arm, 16], rel=0.02)
        assert rate[arm, 64] > rate["each", 64]
