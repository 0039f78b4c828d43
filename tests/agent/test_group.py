"""The program `linklab-group` on this host, in a network namespace of its own.

As root of the namespace, and as somebody who has CAP_NET_ADMIN alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agentbox import inside, ip_program, isolation

from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.host.run import Completed, look_for, run, start
from linklab.image.programs import GROUP, build_static
from linklab.paths import GUEST

pytestmark = pytest.mark.agent

NOBODY = 65534
ALONE = (
    "setpriv",
    *(f"--re{who}id={NOBODY}" for who in ("u", "g")),
    "--clear-groups",
    *(f"--{which}=-all,+net_admin" for which in ("inh-caps", "bounding-set", "ambient-caps")),
)
NAMES = "# ours\n42\tedge\n43 core\n0x64 all # every one\n"
TREE = "all: edge core # the root\ncore: dev c9\n"
PATIENCE = 20.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it goes into an image."""
    cache = Cache(tmp_path_factory.mktemp("group-cache"))
    return build_static(GROUP, cache, ignore).file(GROUP.file)


class Net:
    """A network namespace, a folder of files, and the program with them."""

    def __init__(self, program: Path, pid: int, folder: Path, who: Sequence[str]) -> None:
        self.prefix, self.who, self.folder = inside(pid), tuple(who), folder
        self.program = [
            str(program),
            *("--names", str(folder)),
            *("--journal", str(folder / "journal")),
        ]
        self.write("group", NAMES)
        self.write("group.tree", TREE)
        self.namespace = Path(f"/proc/{pid}/ns/net").stat().st_ino

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def ip(self, words: str, *, check: bool = True) -> Completed:
        return run([*self.prefix, ip_program(), *words.split()], deadline=60, check=check)

    def argv(self, words: str) -> list[str]:
        return [*self.prefix, *self.who, *self.program, *words.split()]

    def group(self, words: str, *, status: int = 0) -> str:
        """What it says on standard output, or its complaints where it is to fail."""
        ended = run(self.argv(words), deadline=60, check=False)
        assert ended.returncode == status, ended.stderr.decode()
        return ended.stderr.decode() if status else ended.stdout.decode()

    def links(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.ip("-json -details address show").stdout)
        return {link["ifname"]: link for link in found}

    def of(self, what: str) -> dict[str, Any]:
        """An attribute of all that the test made, by name."""
        return {name: link.get(what) for name, link in self.links().items() if name != "lo"}

    def make(self, *names: str, group: int = 42) -> None:
        """Links whose MAC address and MTU can be changed."""
        for name in names:
            if self.ip(f"link add {name} group {group} type dummy", check=False).returncode:
                self.ip(f"link add {name} group {group} type bridge")

    def stack(self, name: str, lower: str, kind: str = "macvlan") -> None:
        made = self.ip(f"link add link {lower} name {name} type {kind}", check=False)
        if made.returncode:
            pytest.skip(f"this host's kernel makes no {kind}")

    @contextmanager
    def running(self, words: str, ready: str = "") -> Iterator[subprocess.Popen[bytes]]:
        with start(self.argv(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                if ready:
                    assert process.stdout.readline().decode() == f"{ready}\n"
                yield process
            finally:
                process.kill()

    def until(self, what: str, wanted: dict[str, Any]) -> None:
        """Wait for a state that a daemon brings about."""
        due = time.monotonic() + PATIENCE
        while self.of(what) != wanted:
            assert time.monotonic() < due, (self.of(what), wanted)
            time.sleep(0.02)

    def journal(self, *lines: str) -> None:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        whole = ["linklab-group journal 1", f"{self.namespace} {boot}", *lines, f"end {len(lines)}"]
        self.write("journal", "".join(f"{line}\n" for line in whole))


@contextmanager
def a_net(built: Path, who: Sequence[str]) -> Iterator[Net]:
    prefix = isolation()
    if prefix is None or (who and os.geteuid()):
        pytest.skip("this host does not let us make a network namespace, or be somebody else")
    with tempfile.TemporaryDirectory(prefix="linklab-group-") as name:
        folder = Path(name)
        program = Path(shutil.copy(built, folder / "linklab-group"))
        argv = [*prefix, "sh", "-c", "echo made; read -r line"]
        with start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"made\n"
            try:
                net = Net(program, holder.pid, folder, who)
                if who:
                    shutil.chown(folder, NOBODY, NOBODY)
                yield net
            finally:
                holder.kill()


@pytest.fixture(params=[(), ALONE], ids=["root", "net-admin"])
def net(request: pytest.FixtureRequest, built: Path) -> Iterator[Net]:
    """A network, once for root and once for somebody with CAP_NET_ADMIN alone."""
    with a_net(built, request.param) as made:
        yield made


@pytest.fixture
def rooted(built: Path) -> Iterator[Net]:
    """A network for root."""
    with a_net(built, ()) as made:
        yield made


def test_it_is_small_enough_for_every_image(built: Path) -> None:
    assert built.stat().st_size <= GROUP.budget == 200_000


class TestNames:
    def test_files_fragments_and_numbers_as_iproute2_has_them(self, rooted: Net) -> None:
        rooted.write("group.d/10-ours.conf", "7 gold\n 0x8\tsilver rest\n-1 nobody\n")
        rooted.write("group.d/.hidden.conf", "9 hidden\n")
        rooted.write("group.d/notes.txt", "9 notes\n")
        said = rooted.group("names edge all gold silver default 43 0x2a 010 99")
        numbers = [int(line.split("\t")[0]) for line in said.splitlines()]
        assert numbers == [42, 100, 7, 8, 0, 43, 42, 8, 99]
        assert said.splitlines()[5:7] == ["43\tcore", "42\tedge"]
        for unknown in ("hidden", "notes", "nobody", "-1", "4294967296", "x1"):
            assert "no group" in rooted.group(f"names {unknown}", status=2)

    def test_a_name_comes_before_a_number_and_a_broken_line_ends_a_file(self, rooted: Net) -> None:
        rooted.write("group", "42 43\nbroken\n44 later\n")
        ended = run(rooted.argv("names 43"), check=True)
        assert (ended.stdout, b"broken" in ended.stderr) == (b"42\t43\n", True)
        assert "no group" in rooted.group("names later", status=2)

    def test_of_two_numbers_of_a_name_the_first_row_counts(self, rooted: Net) -> None:
        """Rows are numbers by 256; in one row the later line counts, as in iproute2's hash."""
        rooted.write("group", "5 a\n3 a\n1 b\n257 b\n6 old\n6 new\n")
        assert rooted.group("names a b 6") == "3\ta\n257\tb\n6\tnew\n"


class TestTree:
    @pytest.mark.parametrize(
        ("text", "line", "why"),
        [
            ("all: edge\nedge: core\ncore: all\n", 3, "would contain itself"),
            ("all: all\n", 1, "would contain itself"),
            ("all: edge nowhere\n", 1, "nowhere: no group"),
            ("# one\nall: edge\ncore: edge\n", 3, "edge is in all already, by line 2"),
            ("edge: dev a\ncore: dev a\n", 2, "a is in edge already, by line 1"),
            ("edge: dev\n", 1, "a device is expected"),
            ("edge core\n", 1, "`GROUP: MEMBER...` is expected"),
            ("all: default\n", 1, "group 0"),
        ],
    )
    def test_what_is_no_tree_is_refused_with_its_line(
        self, rooted: Net, text: str, line: int, why: str
    ) -> None:
        rooted.write("group.tree", text)
        said = rooted.group("set all mtu 1400", status=2)
        assert f"group.tree:{line}: " in said and why in said

    def test_a_parent_reaches_all_below_it_by_a_request_for_each_leaf(self, net: Net) -> None:
        net.make("e1", "e2")
        net.make("c1", group=43)
        net.make("c9", "other", group=7)
        shown = net.group("--dry-run set all mtu 1400 up").splitlines()
        assert shown == [
            "RTM_NEWLINK group edge mtu 1400 up",
            "RTM_NEWLINK group core mtu 1400 up",
            "RTM_NEWLINK dev c9 mtu 1400 up",
            "3 messages, 136 bytes",
        ]
        assert set(net.of("mtu").values()) == {1500}, "nothing was sent"
        net.group("set all mtu 1400 up")
        assert net.of("mtu") == {"e1": 1400, "e2": 1400, "c1": 1400, "c9": 1400, "other": 1500}
        assert [name for name, flags in net.of("flags").items() if "UP" not in flags] == ["other"]
        net.group("apply")
        assert net.of("group") == {
            "e1": "42", "e2": "42", "c1": "43", "c9": "43", "other": "7",
        }  # fmt: skip

    def test_one_mask_fits_a_subtree_and_nobody_else(self, rooted: Net) -> None:
        rooted.write("group", "")
        rooted.write("group.tree", "a: b c\nb: d e f\nz:\n")
        encoded = rooted.group("encode")
        rooted.write("group.d/tree.conf", encoded)
        number = {name: int(value, 16) for value, name in map(str.split, encoded.splitlines())}
        assert len(set(number.values())) == 7 and max(number.values()) < 1 << 31
        below = {"a": "abcdef", "b": "bdef", "c": "c", "d": "d", "z": "z"}
        for group, inner in below.items():
            said = rooted.group(f"mask {group}").splitlines()
            value, mask = (int(word, 16) for word in said[0].split("/"))
            assert {n for n, it in number.items() if it & mask == value} == set(inner)
            assert said[1] == f"nft: meta iifgroup & {mask:#010x} == {value:#010x}"
            nft = look_for("nft")
            if nft:
                rule = f"table ip t {{ chain c {{ {said[1][5:]} drop\n }}\n }}\n"
                path = rooted.write("rule", rule)
                run([*rooted.prefix, nft, "-c", "-f", path])
        rooted.write("group", f"{number['b'] + 1} stranger\n")
        assert "fits stranger, too" in rooted.group("mask a", status=1)


class TestAssign:
    def test_addresses_count_up_in_the_order_that_is_asked_for(self, net: Net) -> None:
        net.make("p10", "p2", "p1")
        words = "mac 02:00:00:00:00:fe inet 10.0.0.254/16 stride 2 inet6 fd00::ffff/64"
        net.group(f"assign edge {words} order name")
        links = net.links()
        found = {
            name: [link["address"], *(a["local"] for a in link["addr_info"])]
            for name, link in links.items()
            if name != "lo"
        }
        assert found == {
            "p1": ["02:00:00:00:00:fe", "10.0.0.254", "fd00::ffff"],
            "p2": ["02:00:00:00:00:ff", "10.0.1.0", "fd00::1:0"],
            "p10": ["02:00:00:00:01:00", "10.0.1.2", "fd00::1:1"],
        }
        again = net.group(f"--dry-run assign edge {words} order name")
        assert again == "0 messages, 0 bytes\n", "who has its address keeps it"

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ("mac 01:00:00:00:00:01", "of p1, the 1. of 3: 01:00:00:00:00:01 is a multicast"),
            ("mac 00:ff:ff:ff:ff:ff", "the 2. of 3: 01:00:00:00:00:00 is a multicast address"),
            ("mac 00:00:00:00:00:00", "is zero"),
            ("mac fe:ff:ff:ff:ff:ff stride 0x800000000000", "does not fit"),
            ("mac 02:00:00:00:00:01 stride 0", "gives all 3 members one address"),
            ("inet 10.0.0.253/24", "10.0.0.255 is the broadcast address"),
            ("inet 10.0.0.254/31", "10.0.1.0 is behind the end of the prefix"),
            ("inet 10.0.0.0/24", "is the network's own"),
            ("inet 224.0.0.1/24", "is a multicast address"),
            ("inet6 ff02::1/64", "is a multicast address"),
            ("inet6 fd00::ffff:ffff:ffff:fffe/64", "fd00:0:0:1:: is behind the end"),
            ("inet 192.0.2.4/24", "192.0.2.5, meant for p2, is taken by taker"),
            ("mac 02:00:00:00:0a:00", "02:00:00:00:0a:01, meant for p2, is taken by taker"),
            ("inet 10.1.0.1/24 inet 10.1.0.3/24", "is meant for"),
            ("inet 10.0.0.1", "ADDRESS/PREFIX is expected"),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_is_sent(
        self, rooted: Net, words: str, why: str
    ) -> None:
        rooted.make("p1", "p2", "p3")
        rooted.make("taker", group=7)
        rooted.ip("link set taker address 02:00:00:00:0a:01")
        rooted.ip("address add 192.0.2.5/24 dev taker")
        before = rooted.of("address"), rooted.of("addr_info")
        assert why in rooted.group(f"assign edge {words}", status=2)
        assert (rooted.of("address"), rooted.of("addr_info")) == before


class TestAllOrNothing:
    def _group(self, net: Net) -> None:
        net.make("b1", "b2")
        net.stack("bad", "b1")
        net.ip("link set bad group 42")
        net.make("b3")
        net.ip("link set b2 mtu 1450")

    def test_the_kernel_undoes_nothing(self, net: Net) -> None:
        """The macvlan may be no larger than what it is on, and is asked after that."""
        self._group(net)
        net.ip("link set b1 group 0")
        said = net.group("set edge mtu 1600", status=1)
        assert "group edge: " in said and "bad (ifindex" in said and "stopped here" in said
        assert net.of("mtu") == {"b1": 1500, "b2": 1600, "bad": 1500, "b3": 1500}

    @pytest.mark.parametrize("words", ["mtu 1600", "mtu 1600 txqueuelen 7 up"])
    def test_who_refused_is_named_where_one_request_was_all(self, rooted: Net, words: str) -> None:
        """Without a tree's devices nobody looked at the members before."""
        rooted.write("group.tree", "")
        self._group(rooted)
        rooted.ip("link set b1 group 0")
        said = rooted.group(f"set edge {words}", status=1)
        assert "bad (ifindex" in said and "Invalid argument: the kernel stopped here" in said
        assert rooted.of("mtu") == {"b1": 1500, "b2": 1600, "bad": 1500, "b3": 1500}

    def test_atomic_gives_each_what_it_had_and_names_who_refused(self, net: Net) -> None:
        self._group(net)
        net.ip("link set b1 group 0")
        before = net.of("mtu")
        said = net.group("--atomic set edge mtu 1600", status=1)
        assert "bad (ifindex" in said and "Invalid argument" in said
        assert "all is as it was" in said
        assert net.of("mtu") == before == {"b1": 1500, "b2": 1450, "bad": 1500, "b3": 1500}
        assert not (net.folder / "journal").exists()
        net.group("--atomic set edge mtu 1400 txqueuelen 7")
        assert (net.of("mtu")["bad"], net.of("txqlen")["b3"]) == (1400, 7)

    def test_what_a_kill_left_is_undone_or_finished(self, net: Net) -> None:
        net.make("b1", "b2", "b3")
        index = {name: link["ifindex"] for name, link in net.links().items()}
        lines = [f"mtu {index[name]} {name} 1500 1400 0" for name in ("b1", "b2", "b3")]
        for how, wanted in (("undo", 1500), ("finish", 1400)):
            net.ip("link set b1 mtu 1400")
            net.journal(*lines)
            assert "was cut off" in net.group("--atomic set edge mtu 1300", status=1)
            assert net.group(f"recover {how}").split() == [f"{how}{'ed' if wanted == 1400 else ''}"
                if how == "finish" else "undone"]  # fmt: skip
            assert set(net.of("mtu").values()) == {wanted}
        net.journal(*lines)
        assert net.group("recover") == "finished\n", "all of it was done"
        assert net.group("recover") == "nothing to recover\n"

    def test_who_was_changed_by_somebody_else_or_is_gone_is_left_alone(self, rooted: Net) -> None:
        rooted.make("b1", "b2")
        index = {name: link["ifindex"] for name, link in rooted.links().items()}
        rooted.ip("link set b1 mtu 1234")
        rooted.ip("link set b2 mtu 1400")
        lines = [f"mtu {index[name]} {name} 1500 1400 0" for name in ("b1", "b2")]
        rooted.journal(*lines, "mtu 4000 gone 1500 1400 0")
        ended = run(rooted.argv("recover undo"))
        said = ended.stderr.decode()
        assert "b1 (ifindex" in said and "somebody else" in said and "gone (ifindex 4000)" in said
        assert rooted.of("mtu") == {"b1": 1234, "b2": 1500}

    def test_a_journal_that_is_not_ours_or_not_whole_is_refused(self, rooted: Net) -> None:
        rooted.write("journal", "linklab-group journal 1\n1 another\nend 0\n")
        assert "of another network namespace" in rooted.group("recover", status=1)
        rooted.write("journal", "linklab-group journal 1\n1 another\nmtu 1 lo 1 2 0\n")
        assert "journal:4: its end is missing" in rooted.group("recover", status=2)

    def test_killed_at_any_moment_it_can_be_undone(self, rooted: Net) -> None:
        names = [f"k{number}" for number in range(60)]
        rooted.make(*names)
        before, left = rooted.of("address"), 0
        for attempt in range(12):
            argv = rooted.argv("--atomic assign edge mac 02:00:00:00:00:01 inet 10.0.0.1/16")
            with start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(0.002 * attempt)
                process.send_signal(signal.SIGKILL)
            if (rooted.folder / "journal").exists():
                left += 1
                assert rooted.group("recover") == "undone\n"
            if rooted.of("address") != before:  # it was done before it was killed
                macs = [link["address"] for name, link in rooted.links().items() if name != "lo"]
                assert macs == [f"02:00:00:00:00:{n:02x}" for n in range(1, 61)]
                break
            assert not any(rooted.of("addr_info").values())

    def test_memory_that_is_short_changes_nothing(self, rooted: Net) -> None:
        rooted.make(*[f"k{number}" for number in range(400)])
        said = []
        for data in range(100_000, 2_000_000, 20_000):
            argv = rooted.argv("--atomic set edge mtu 1400")
            at = argv.index(rooted.program[0])
            ended = run([*argv[:at], "prlimit", f"--data={data}", *argv[at:]], check=False)
            if ended.returncode == 0:
                break
            said.append(ended.stderr.decode())
            assert set(rooted.of("mtu").values()) == {1500}
            assert not (rooted.folder / "journal").exists()
        assert any("memory is short" in text for text in said)
        assert set(rooted.of("mtu").values()) == {1400}, "in the end it is enough"


class TestWatch:
    def test_a_digest_has_a_line_for_each_group(self, net: Net) -> None:
        net.make("e1", "e2", "e3")
        net.make("c1", group=43)
        with net.running("--json watch interval 300") as watch:
            time.sleep(0.5)
            net.group("set all mtu 1400")
            net.make("e4")
            assert watch.stdout is not None
            lines = [json.loads(watch.stdout.readline()) for _ in range(2)]
            watch.send_signal(signal.SIGTERM)
            rest = [json.loads(line) for line in watch.communicate()[0].splitlines()]
        by_group: dict[str, dict[str, int]] = {}
        for line in lines + rest:
            sums = by_group.setdefault(line["group"], {})
            for what in ("mtu", "new", "messages"):
                sums[what] = sums.get(what, 0) + line[what]
            assert not line["lost"]
        assert (by_group["edge"]["mtu"], by_group["edge"]["new"]) == (3, 1)
        assert by_group["core"] == {"mtu": 1, "new": 0, "messages": 1}
        assert lines[0]["to_mtu"] == 1400

    def test_what_was_lost_is_read_anew(self, net: Net) -> None:
        names = [f"e{number}" for number in range(150)]
        net.make(*names)
        with net.running("--json watch interval 100 room 4608") as watch:
            time.sleep(0.5)
            watch.send_signal(signal.SIGSTOP)
            net.group("set edge mtu 1400")
            watch.send_signal(signal.SIGCONT)
            assert watch.stdout is not None
            line = json.loads(watch.stdout.readline())
        assert line["lost"] and line["mtu"] == 150 > line["messages"]

    def test_readers_of_one_that_serves_hear_the_same(self, net: Net) -> None:
        net.make("e1", "e2")
        socket = net.folder / "digest"
        with net.running(f"watch interval 100 serve {socket}"):
            due = time.monotonic() + PATIENCE
            while not socket.exists():
                assert time.monotonic() < due
                time.sleep(0.02)
            with net.running(f"watch from {socket}") as a, net.running(f"watch from {socket}") as b:
                time.sleep(0.5)
                net.group("set edge mtu 1400")
                assert a.stdout is not None and b.stdout is not None
                line = a.stdout.readline()
                assert line == b.stdout.readline()
        assert line.startswith(b"group edge: 2 mtu 1400, 2 messages, ")

    @pytest.mark.parametrize(("way", "each"), [("raw", 5), ("digest", 1)])
    def test_listeners_are_counted(self, net: Net, way: str, each: int) -> None:
        net.make(*[f"e{number}" for number in range(5)])
        with net.running(f"watch interval 60000 listeners 3 {way}", "listening") as watch:
            net.group("set edge mtu 1400")
            watch.send_signal(signal.SIGTERM)
            output, complaints = watch.communicate(timeout=60)
        said = dict(line.split() for line in output.decode().splitlines())
        assert (watch.returncode, complaints) == (0, b"")
        assert (said["messages"], said["lost"]) == (str(3 * each), "0")
        assert int(said["bytes"]) > 0 and int(said["cpu_ns"]) > 0


class TestInherit:
    RULES = "# members\non edge kind macvlan,veth join edge\nname ppp* join core\n"

    @contextmanager
    def daemon(self, net: Net, more: str = "") -> Iterator[subprocess.Popen[bytes]]:
        net.write("rules", self.RULES)
        state = net.folder / "seen"
        with net.running(f"inherit {net.folder}/rules state {state} {more}", "ready") as process:
            yield process

    def test_what_is_stacked_on_a_member_joins_as_it_appears(self, net: Net) -> None:
        net.make("base")
        net.make("else", group=7)
        net.make("late", group=0)
        with self.daemon(net):
            net.ip("link set late group 42")  # which is down: nobody is told
            net.stack("m4", "late")
            net.stack("m1", "base")
            net.stack("m2", "else")
            net.ip("link add v1 group 42 type veth peer name v2")
            net.ip("link add v3 type veth peer name v4")
            net.make("ppp0", group=0)
            net.stack("m3", "v2")  # on one that has joined itself
            groups = {
                "base": "42", "else": "7", "m1": "42", "m2": "default", "v1": "42",
                "v2": "42", "v3": "default", "v4": "default", "ppp0": "43", "m3": "42",
                "late": "42", "m4": "42",
            }  # fmt: skip
            net.until("group", groups)

    def test_a_group_that_somebody_set_stays(self, net: Net) -> None:
        net.make("base")
        with self.daemon(net):
            net.ip("link add link base name m1 group 9 type macvlan")
            net.stack("m2", "base")
            net.until("group", {"base": "42", "m1": "9", "m2": "42"})
            net.ip("link set m2 group 0 up")
            net.stack("m3", "base")
            net.until("group", {"base": "42", "m1": "9", "m2": "default", "m3": "42"})

    def test_one_that_was_killed_goes_on_where_it_was(self, net: Net) -> None:
        net.make("base")
        net.stack("old", "base")
        with self.daemon(net) as process:
            net.stack("m1", "base")
            net.until("group", {"base": "42", "old": "default", "m1": "42"})
            time.sleep(0.2)  # it has written down that it knows it
            process.kill()
        net.ip("link set m1 group 0")
        net.stack("m2", "base")
        with self.daemon(net):
            net.until("group", {"base": "42", "old": "default", "m1": "default", "m2": "42"})

    def test_at_its_first_start_it_can_be_told_to_take_what_there_is(self, net: Net) -> None:
        net.make("base")
        net.stack("m1", "base")
        with self.daemon(net, "existing"):
            net.until("group", {"base": "42", "m1": "42"})

    def test_lost_notifications_are_made_up_for(self, net: Net) -> None:
        net.make("base")
        with self.daemon(net, "room 4608") as process:
            process.send_signal(signal.SIGSTOP)
            for number in range(40):
                net.stack(f"m{number}", "base")
            net.ip("link set m7 group 9")
            process.send_signal(signal.SIGCONT)
            joined = {f"m{number}": "42" for number in range(40)}
            net.until("group", {"base": "42"} | joined | {"m7": "9"})
            process.send_signal(signal.SIGTERM)
            assert b"messages were lost" in process.communicate()[1]

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("on edge kind vlan\n", "rules:1: join is missing"),
            ("\non nowhere join edge\n", "rules:2: nowhere: no group"),
            ("join edge\n", "rules:1: every link would join"),
            ("kind ppp join same\n", "rules:1: join same: on is missing"),
            ("on edge join\n", "rules:1: join: a word is expected"),
        ],
    )
    def test_what_is_no_rule_is_refused_with_its_line(
        self, rooted: Net, text: str, why: str
    ) -> None:
        path = rooted.write("rules", text)
        assert why in rooted.group(f"inherit {path} check", status=2)


def test_lists_are_by_group_tree_state_kind_and_name(net: Net) -> None:
    net.make("e1", "e2")
    net.make("c1", group=43)
    net.make('q"1', group=7)
    net.ip("link set e2 up")
    rows = {
        words: [line.split()[1] for line in net.group(f"list {words}").splitlines()]
        for words in ("all", "edge", "edge up", "all down", "name ?1", "kind vlan", "7")
    }
    assert rows == {
        "all": ["e1", "e2", "c1"], "edge": ["e1", "e2"], "edge up": ["e2"],
        "all down": ["e1", "c1"], "name ?1": ["e1", "c1"], "kind vlan": [], "7": ['q"1'],
    }  # fmt: skip
    assert net.group("list all count") == "3\n"
    row = json.loads(net.group("--json list 7"))
    assert (row["ifname"], row["number"], row["up"], row["mtu"]) == ('q"1', 7, False, 1500)


def test_the_kernel_lets_nobody_without_the_capability(rooted: Net) -> None:
    rooted.make("e1")
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    shutil.chown(rooted.folder, NOBODY, NOBODY)
    rooted.who = tuple(word.replace("+net_admin", "").rstrip(",") for word in ALONE)
    assert "Operation not permitted" in rooted.group("set edge mtu 1400", status=1)
    assert rooted.of("mtu") == {"e1": 1500}


class TestMake:
    def test_install_puts_the_program_and_its_page_where_they_belong(self, tmp_path: Path) -> None:
        made: list[str | Path] = [
            "make",
            "-C",
            GUEST / "group",
            f"BUILD={tmp_path}/b",
            f"DESTDIR={tmp_path}/d",
        ]
        run([*made, "install"], deadline=120)
        program = tmp_path / "d/usr/local/sbin/linklab-group"
        page = tmp_path / "d/usr/local/share/man/man8/linklab-group.8"
        assert run([program, "names", "7"]).text == "7\t7"
        commands = run([program], check=False).stderr.decode()
        for line in commands.splitlines():
            if line.startswith("usage: "):
                word = line.split()[3]
                assert f"\n.BR {word} " in page.read_text() or f".BI {word} " in page.read_text()

    def test_parsers_and_the_netlink_reader_stand_what_is_thrown_at_them(
        self, tmp_path: Path
    ) -> None:
        made: list[str | Path] = [
            "make",
            "-C",
            GUEST / "group",
            f"BUILD={tmp_path}/b",
            f"{tmp_path}/b/fuzz",
        ]
        if run(made, deadline=300, check=False).returncode:
            pytest.skip("this host has no gcc with sanitizers")
        said = run([tmp_path / "b/fuzz", "3", "7"], cwd=tmp_path, deadline=120).text
        tried = {name: int(count) for name, count in map(str.split, said.splitlines())}
        assert set(tried) == {"names", "tree", "rules", "journal", "netlink", "answers"}
        assert min(tried.values()) > 0
