"""The program `traffic` on this host, in a network namespace of its own.

Figures of a host that does other things too mean nothing here: what is tested
is what arrives, what is counted, and what is said when something fails.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from agentbox import inside, ip_program, isolation

from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.host.run import CommandFailed, Completed, look_for, run, start
from linklab.image.programs import TRAFFIC, build_static

pytestmark = pytest.mark.agent

HERE = "127.0.0.1"
PORT = "5001"
PERIOD = 65536
MS = 1_000_000
BIN = 10 * MS

Figures = dict[str, list[int]]


def figures(output: bytes | str) -> Figures:
    """What the program printed, by name."""
    text = output if isinstance(output, str) else output.decode()
    lines = (line.split() for line in text.splitlines())
    return {name: [int(value) for value in values] for name, *values in lines}


def stream(length: int) -> bytes:
    """What a stream carries: the linear congruential generator of Knuth's MMIX, 64 KiB of it."""
    value, words = 0, []
    for _ in range(PERIOD // 8):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
        words.append(value)
    period = struct.pack(f"<{len(words)}Q", *words)
    return (period * (length // PERIOD + 1))[:length]


class Net:
    """A network namespace, and the program in it."""

    def __init__(self, program: Path, pid: int) -> None:
        self._prefix = inside(pid)
        self.program = program
        self.ip("link", "set", "lo", "up")

    def do(self, *words: str | Path, check: bool = True) -> Completed:
        """Run any program to its end."""
        return run([*self._prefix, *words], deadline=60, check=check)

    def ip(self, *words: str) -> None:
        self.do(ip_program(), *words)

    def traffic(self, *words: str) -> Figures:
        return figures(self.do(self.program, *words).text)

    def refused(self, *words: str) -> tuple[int, str]:
        """The status and the words of a program that fails, and has no figures then."""
        ended = self.do(self.program, *words, check=False)
        assert ended.text == ""
        return ended.returncode, ended.stderr.decode()

    @contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        argv: list[str | Path] = [*self._prefix, self.program, *words]
        process = start(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            try:
                yield Running(process)
            finally:
                process.kill()

    @contextmanager
    def listening(self, *words: str) -> Iterator[Running]:
        with self.running(*words) as it:
            assert it.process.stdout is not None
            assert it.process.stdout.readline() == b"listening\n"
            yield it

    def bash(self, script: str, *words: str | Path) -> None:
        """A script of bash, whose redirections know the network."""
        bash = look_for("bash")
        if not bash:
            pytest.skip("this host has no bash, which can send any bytes")
        self.do(bash, "-c", script, "bash", *words)


class Running:
    """A receiver in the background."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def end(self) -> tuple[int, Figures, str]:
        """Its status, figures and complaints."""
        output, complaints = self.process.communicate(timeout=60)
        return self.process.returncode, figures(output), complaints.decode()

    def figures(self) -> Figures:
        status, said, complaints = self.end()
        assert (status, complaints) == (0, "")
        return said


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it goes into an image."""
    cache = Cache(tmp_path_factory.mktemp("traffic-cache"))
    return build_static(TRAFFIC, cache, ignore).file(TRAFFIC.file)


@pytest.fixture
def net(program: Path) -> Iterator[Net]:
    prefix = isolation()
    if prefix is None:
        pytest.skip("this host does not let us make a network namespace")
    argv = [*prefix, "sh", "-c", "echo made; read -r line"]
    with start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"made\n"
        try:
            yield Net(program, holder.pid)
        finally:
            holder.kill()


def add_addresses(net: Net, *addresses: str) -> None:
    for address in addresses:
        more = ("nodad",) if ":" in address else ()
        net.ip("address", "add", address, "dev", "lo", *more)


class TestFlows:
    @pytest.mark.parametrize("address", [HERE, "::1"])
    def test_two_flows_arrive_whole(self, net: Net, address: str) -> None:
        with net.listening("sink", "tcp", PORT, "2", "30") as sink:
            sent = net.traffic("send", "tcp", address, PORT, "2", "1", "0", "-", "3000001")
            got = sink.figures()
        assert sent["sent"] == got["bytes"] == [3_000_001] * 2
        assert (got["flows"], got["wrong"], got["reset"], sent["reset"]) == ([2], [0], [0], [0])
        assert sent["ports"] == got["ports"]
        assert sum(got["bins"]) == 6_000_002
        for own in range(2):
            assert sent["began"][own] <= got["first"][own] <= got["last"][own]
            assert sent["began"][own] <= sent["ended"][own] <= sent["closed"][own]
            assert got["last"][own] <= sent["closed"][own]
            assert 0 < sent["connect_ns"][own] < 10**10

    def test_flows_begin_one_after_the_other_where_they_are_told_so(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "3", "30") as sink:
            words = ("send", "tcp", HERE, PORT, "3", "1", "1", "reno", "0", "300")
            sent = net.traffic(*words)
            got = sink.figures()
        first, second, third = sent["began"]
        assert second - first >= 250 * MS and third - second >= 250 * MS
        assert sent["sent"] == [got["bytes"][got["ports"].index(p)] for p in sent["ports"]]
        # While the first one is alone Jain's index of three is a third.
        assert got["fair"][0] == pytest.approx(333_333, abs=1)
        assert len(got["fair"]) == len(got["bins"]) // 10

    def test_what_both_sent_meanwhile_is_within_the_window(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "2", "30") as sink:
            sent = net.traffic("send", "tcp", HERE, PORT, "2", "1", "1", "reno")
            got = sink.figures()
        (start_,), (end,) = got["start"], got["end"]
        assert max(got["first"]) <= start_ < end <= min(got["last"])
        assert (start_ - min(got["first"])) % BIN == (end - start_) % BIN == 0
        skipped = (start_ - min(got["first"])) // BIN
        within = got["bins"][skipped : skipped + (end - start_) // BIN]
        assert sum(within) == sum(got["inner"]) <= sum(got["bytes"]) == sum(sent["sent"])
        assert 0 < got["gap"][0] <= max(got["last"]) - min(got["first"])
        assert len(sent["acked"]) == 2
        assert all(a - 1 <= b for a, b in zip(sent["acked"], sent["sent"], strict=True))
        assert 0 < sent["rtt_samples"][0] <= 100
        assert sent["rtt_median_us"] <= sent["rtt_p95_us"] <= sent["rtt_p99_us"]
        assert sent["cpu_ns"][0] > 0 < got["cpu_ns"][0]
        assert "cwnd" not in sent

    def test_of_one_flow_its_course_is_told(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "1", "30", "unchecked") as sink:
            sent = net.traffic("send", "tcp", HERE, PORT, "1", "1", "1")
            got = sink.figures()
        assert "wrong" not in got
        points = [len(sent[name]) for name in ("at", "cwnd", "rtt_us", "pacing", "delivery")]
        assert points == [sent["rtt_samples"][0] // 10] * 5
        assert sent["at"] == sorted(sent["at"])
        assert sent["at"][0] >= 100 * MS
        assert min(sent["cwnd"]) > 0

    @pytest.mark.parametrize(
        ("first", "others"),
        [
            ("10.9.0.254", ("10.9.0.255", "10.9.1.0")),
            ("fd00::fffe", ("fd00::ffff", "fd00::1:0")),
        ],
    )
    def test_three_addresses_take_turns(
        self, net: Net, first: str, others: tuple[str, str]
    ) -> None:
        add_addresses(net, first, others[0])
        words = ("send", "tcp", first, PORT, "4", "3", "0", "-", "1000")
        with net.listening("sink", "tcp", PORT, "4", "30"):
            status, said = net.refused(*words)
        assert (status, said) == (1, "traffic: cannot connect: Network unreachable\n")
        add_addresses(net, others[1])
        with net.listening("sink", "tcp", PORT, "4", "30") as sink:
            net.traffic(*words)
            assert sink.figures()["bytes"] == [1000] * 4

    def test_more_flows_than_a_shell_gives_files(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "1100", "30") as sink:
            net.traffic("send", "tcp", HERE, PORT, "1100", "2", "0", "-", "100")
            got = sink.figures()
        assert (got["bytes"], got["wrong"]) == ([100] * 1100, [0])

    def test_datagrams_of_two_sources_are_told_apart(self, net: Net) -> None:
        with net.listening("sink", "udp", PORT, "2", "30") as sink:
            sent = net.traffic("send", "udp", HERE, PORT, "2", "1", "0", "-", "14000")
            got = sink.figures()
        assert sent["sent"] == [14_000] * 2
        assert dict(zip(sent["ports"], sent["sent"], strict=True)) == dict(
            zip(got["ports"], got["bytes"], strict=True)
        )
        assert got["wrong"] == [0]

    def test_multipath_says_whether_it_is(self, net: Net) -> None:
        if not Path("/proc/sys/net/mptcp/enabled").exists():
            pytest.skip("this host's kernel has no MPTCP")
        for protocol, speaks in (("mptcp", 1), ("tcp", 0)):
            with net.listening("sink", protocol, PORT, "1", "30") as sink:
                sent = net.traffic("send", "mptcp", HERE, PORT, "1", "1", "0", "-", "500000")
                got = sink.figures()
            assert (got["bytes"], got["wrong"]) == ([500_000], [0])
            assert (sent["mptcp"], sent["subflows"]) == ([speaks], [speaks])
            assert sent["is_mptcp"] == [speaks]

    @pytest.mark.parametrize("size", [1, 1000, 65536, 262144])
    def test_of_each_send_that_is_not_copied_its_completion_is_read(
        self, net: Net, size: int
    ) -> None:
        total = 65537 * size if size == 1 else 1_000_001
        for arm in ("copy", "zerocopy"):
            with net.listening("sink", "tcp", PORT, "1", "60") as sink:
                sent = net.traffic("stream", HERE, PORT, str(total), str(size), arm)
                got = sink.figures()
            assert (got["bytes"], got["wrong"], sent["sent"]) == ([total], [0], [total])
            # A send that finds little room is made in parts, each with a completion.
            assert sent["sends"][0] >= -(-total // size)
            completed = sent["sends"] if arm == "zerocopy" else [0]
            assert (sent["completed"], sent["twice"], sent["unknown"]) == (completed, [0], [0])
            assert sent["copied"] == completed, "what is looped to this host is copied after all"
            assert 0 <= sent["notifications"][0] <= completed[0]
            assert sent["stream_cpu_ns"][0] > 0


class TestPaths:
    def test_flows_take_algorithms_by_turns(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "3", "30") as sink:
            net.traffic("send", "tcp", HERE, PORT, "3", "1", "0", "reno,cubic", "1000")
            assert sink.figures()["bytes"] == [1000] * 3
        _status, said = net.refused("send", "tcp", HERE, PORT, "2", "1", "1", "reno,nosuch")
        assert "nosuch" in said

    def test_what_goes_over_an_interface_is_counted_until_it_is_enough(self, net: Net) -> None:
        with net.running("watch", "100", "lo") as watching:
            sleep(0.3)
            with net.listening("sink", "tcp", PORT, "1", "30") as sink:
                net.traffic("send", "tcp", HERE, PORT, "1", "1", "0", "-", "300000")
                sink.figures()
            sleep(0.3)
            watching.process.send_signal(signal.SIGTERM)
            said = watching.figures()
        assert len(said["lo.sent"]) == len(said["lo.received"]) >= 5
        assert 300_000 < sum(said["lo.sent"]) == sum(said["lo.received"]) < 400_000
        assert said["lo.sent"][0] == 0

    def test_an_interface_that_is_not_there_is_named(self, net: Net) -> None:
        assert "nosuch" in net.refused("watch", "100", "nosuch")[1]
        assert "nosuch" in net.refused("strip", "lo", "nosuch")[1]


class TestWhatGoesWrong:
    def test_nobody_connects(self, net: Net) -> None:
        """It takes 11 s, for two at once."""
        with (
            net.listening("sink", "tcp", PORT, "1", "1") as lonely,
            net.listening("sink", "tcp", "5002", "2", "1") as half,
            net.running("send", "tcp", HERE, "5002", "1", "1", "30"),
        ):
            for sink, came in ((half, "1 of 2"), (lonely, "0 of 1")):
                status, said, complaints = sink.end()
                assert (status, said) == (1, {})
                assert complaints == f"traffic: {came} flows came: Operation timed out\n"

    @pytest.mark.parametrize("at", [0, 1, 63, 64, 65_535, 65_536, 199_999])
    def test_a_wrong_byte_is_found(self, net: Net, tmp_path: Path, at: int) -> None:
        right = stream(200_000)
        (tmp_path / "right").write_bytes(right)
        wrong = bytearray(right)
        wrong[at] ^= 0x10
        (tmp_path / "wrong").write_bytes(wrong)
        with net.listening("sink", "tcp", PORT, "2", "30") as sink:
            for name in ("right", "wrong"):
                net.bash(f'cat "$1" >/dev/tcp/{HERE}/{PORT}', tmp_path / name)
            got = sink.figures()
        assert (got["bytes"], got["wrong"]) == ([200_000] * 2, [1])

    @pytest.mark.parametrize("flipped", [False, True])
    def test_a_wrong_byte_of_a_datagram_is_found(
        self, net: Net, tmp_path: Path, flipped: bool
    ) -> None:
        offset = 70_000
        content = bytearray(struct.pack(">Q", offset) + stream(offset + 1400)[offset + 8 :])
        content[-1] ^= flipped
        (tmp_path / "datagram").write_bytes(content)
        with net.listening("sink", "udp", PORT, "1", "1") as sink:
            net.bash(f'cat "$1" >/dev/udp/{HERE}/{PORT}', tmp_path / "datagram")
            got = sink.figures()
        assert (got["bytes"], got["wrong"]) == ([1400], [flipped])

    def test_a_sender_that_is_killed_is_an_end_like_any_other(self, net: Net) -> None:
        with (
            net.listening("sink", "tcp", PORT, "1", "30") as sink,
            net.running("send", "tcp", HERE, PORT, "1", "1", "30") as sender,
        ):
            with pytest.raises(subprocess.TimeoutExpired):
                sender.process.wait(0.5)
            sender.process.send_signal(signal.SIGKILL)
            got = sink.figures()
        assert got["flows"] == [1]
        assert got["bytes"][0] > 0
        assert got["wrong"] == [0]
        assert max(got["last"]) - min(got["first"]) < 25_000 * MS

    def test_a_receiver_that_has_had_enough_is_told_of(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "2", "1") as sink:
            sent = net.traffic("send", "tcp", HERE, PORT, "2", "1", "30")
            got = sink.figures()
        assert sent["reset"] == [2]
        assert all(last - min(got["first"]) < 1000 * MS for last in got["last"])
        assert len(got["bins"]) <= 100

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            ("", "usage: traffic plain INTERFACE..."),
            ("nonsense", "usage: traffic plain INTERFACE..."),
            ("plain", "usage: traffic plain"),
            ("sink tcp 5001 1", "usage:"),
            ("sink sctp 5001 1 1", "sctp: tcp, mptcp or udp is expected"),
            ("sink tcp 65536 1 1", "65536: a number from 1 to 65535 is expected"),
            ("sink tcp 5001 0 1", "0: a number from 1 to 65536"),
            ("sink tcp 5001 1 1 checked", "checked: `unchecked` or nothing is expected"),
            ("send tcp localhost 5001 1 1 1", "localhost: an address is expected"),
            ("send tcp 127.0.0.1 5001 1 0 1", "0: a number from 1 to"),
            ("send tcp 127.0.0.1 5001 1 1 0", "0: a number from 1 to"),
            ("send tcp 127.0.0.1 5001 1 1 -1", "-1: a number from 1 to"),
            ("serve udp 5001 1", "udp: tcp or mptcp is expected"),
            ("stream 127.0.0.1 5001 1 1 paste", "paste: copy or zerocopy is expected"),
            ("stream 127.0.0.1 5001 1 1048577 copy", "1048577: a number from 1 to 1048576"),
            ("stream 127.0.0.1 5001 99999999 1 zerocopy", "are too many sends of 1"),
            ("request 127.0.0.1 5001 1 1 1 poll 5", "poll: interrupt, busypoll, epoll or"),
            ("train 127.0.0.1 5001 1 3", "3: a number from 4 to"),
            ("ping 127.0.0.1 5001 1x 1 64", "1x: a number from 1 to"),
            ("ipset listed hash:mac /dev/null", "hash:mac: hash:ip or hash:net is expected"),
            ("nftset ip6 ladder listed set /dev/null", "ip6: ip or netdev is expected"),
            ("nftset ip ladder listed tree /dev/null", "tree: set or prefixes is expected"),
            ("switch joined both a b", "both: plain or tracked is expected"),
            ("shape lo 0 0 1 1000001 0 0", "1000001: a number from 0 to 1000000"),
        ],
    )
    def test_wrong_arguments_are_named(self, net: Net, words: str, complaint: str) -> None:
        status, said = net.refused(*words.split())
        assert status == 2
        assert complaint in said

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            ("send tcp 127.0.0.1 5001 1 1 1", "cannot connect: Connection refused"),
            ("send tcp 127.0.0.1 5001 1 1 1 nonsense", "nonsense: No such file or directory"),
            ("request 127.0.0.1 5001 1 1 1", "cannot connect: Connection refused"),
            ("connect 127.0.0.1 1 5001 1", "cannot connect: Connection refused"),
            ("ping 127.0.0.1 5001 2 10 64", "Connection refused"),
            ("plain nowhere", "nowhere: No such device"),
            ("napi nowhere", "nowhere: No such device"),
            ("stream 127.0.0.1 5001 1 1 zerocopy", "cannot connect: Connection refused"),
            ("ipset listed hash:ip /nowhere", "/nowhere: No such file or directory"),
            ("shape nowhere 0 0 1 0 0 0", "nowhere: No such device"),
            ("queue 10 nowhere", "nowhere: No such device"),
            ("relay 10 lo nowhere 5 /dev/null", "nowhere: No such device"),
        ],
    )
    def test_what_the_kernel_refuses_is_told(self, net: Net, words: str, complaint: str) -> None:
        status, said = net.refused(*words.split())
        assert status == 1
        assert said.startswith("traffic: ")
        assert said.endswith(f"{complaint}\n")


class TestProbes:
    def test_requests_are_answered(self, net: Net) -> None:
        with net.listening("serve", "tcp", PORT, "200") as server:
            asked = net.traffic("request", HERE, PORT, "200", "1", "300000")
            assert server.figures()["requests"] == [200]
        assert asked["ns_p50"] <= asked["ns_p95"] <= asked["ns_p99"]
        for part in ("p50", "p95", "p99"):
            assert abs(asked[f"us_{part}"][0] * 1000 - asked[f"ns_{part}"][0]) <= 500
        assert asked["rate"][0] > 0

    @pytest.mark.parametrize("way", ["interrupt", "busypoll", "epoll", "epoll-busypoll"])
    def test_requests_are_waited_for_in_every_way(self, net: Net, way: str) -> None:
        words = ("request", HERE, PORT, "50", "10", "300000", way, "20")
        with net.listening("serve", "tcp", PORT, "50") as server:
            ended = net.do(net.program, *words, check=False)
            if "cannot busy-poll" in ended.stderr.decode():
                pytest.skip("this host's kernel has no such busy polling")
            asked = figures(ended.text)
            assert server.figures()["requests"] == [50]
        assert asked["switches"][0] > 0 and asked["request_cpu_ns"][0] > 0
        assert asked["softirqs"][0] >= 50, "each answer comes by the loopback's backlog"
        assert asked["polled"] == [0], "which nobody can poll"

    def test_requests_that_do_not_come_are_missed_on_both_sides(self, net: Net) -> None:
        with net.listening("serve", "tcp", PORT, "3") as server:
            net.traffic("request", HERE, PORT, "2", "10", "10")
            status, said, complaints = server.end()
        assert (status, said) == (1, {})
        assert complaints == "traffic: request 3 did not come: Connection reset by peer\n"
        with net.listening("serve", "tcp", PORT, "2"):
            status, complaints = net.refused("request", HERE, PORT, "3", "10", "10")
        assert status == 1
        assert "the answer to request 3 did not come" in complaints or "send" in complaints

    def test_a_train_arrives(self, net: Net) -> None:
        with net.listening("count", PORT, "5000", "2000") as counter:
            sent = net.traffic("train", HERE, PORT, "5000", "100")
            got = counter.figures()
        assert (sent["sent"], sent["bytes"]) == ([5000], [500_000])
        assert (got["received"], got["bytes"]) == ([5000], [500_000])
        assert (got["duplicates"], got["reordered"]) == ([0], [0])
        assert sent["began"] <= got["first"] < got["last"]

    def test_a_train_may_be_in_bursts_of_which_two_come_first(self, net: Net) -> None:
        with net.listening("count", PORT, "100", "1000") as counter:
            pace = ("20", "50000000")
            sent = net.traffic("train", HERE, PORT, "100", "100", *pace)
            got = counter.figures()
        assert got["received"] == [100]
        assert sent["ended"][0] - sent["began"][0] >= 150_000_000
        assert got["last"][0] - got["first"][0] >= 140_000_000

    def test_what_is_lost_twice_there_or_late_is_counted(self, net: Net) -> None:
        numbers = "".join(
            rf"printf '\0\0\0\{number}abc' >/dev/udp/{HERE}/{PORT};" for number in (0, 3, 1, 3, 4)
        )
        with net.listening("count", PORT, "6", "300") as counter:
            net.bash(numbers)
            got = counter.figures()
        assert (got["received"], got["bytes"]) == ([4], [35])
        assert (got["duplicates"], got["reordered"]) == ([1], [1])
        assert got["first"] < got["last"]

    def test_ping_is_answered(self, net: Net) -> None:
        with net.listening("echo", PORT, "5") as echo:
            said = net.traffic("ping", HERE, PORT, "5", "10", "64")
            assert echo.figures()["echoed"] == [5]
        assert (said["sent"], said["replies"]) == ([5], [5])
        assert 0 < said["rtt_min_ns"][0] <= said["rtt_median_ns"][0] <= said["rtt_max_ns"][0]

    def test_whoever_answers_ends_with_who_asks(self, net: Net) -> None:
        with net.listening("echo", PORT, "1000") as echo:
            net.traffic("ping", HERE, PORT, "2", "0", "4")
            assert echo.figures()["echoed"] == [2]

    def test_connections_are_set_up_one_after_the_other(self, net: Net) -> None:
        with net.listening("sink", "tcp", PORT, "100", "10") as sink:
            said = net.traffic("connect", HERE, "3", PORT, "100")
            got = sink.figures()
        assert said["connections"] == [100]
        assert 0 < said["connect_median_ns"][0] <= said["connect_p95_ns"][0]
        assert (got["flows"], got["bytes"], got["bins"]) == ([100], [0] * 100, [])


def offloads(net: Net, interface: str) -> dict[str, str]:
    ethtool = look_for("ethtool")
    if not ethtool:
        pytest.skip("this host has no ethtool, which says what is on")
    lines = net.do(ethtool, "-k", interface).text.splitlines()
    return dict(line.strip().split(": ", 1) for line in lines if ": " in line)


class TestLinks:
    def test_packets_are_of_the_size_of_a_wires(self, net: Net) -> None:
        net.ip("link", "add", "one", "type", "veth", "peer", "name", "other")
        segments = ("tx-tcp-segmentation", "tx-tcp6-segmentation")
        generic = ("generic-segmentation-offload", "generic-receive-offload")
        net.traffic("plain", "one", "other")
        for interface in ("one", "other"):
            said = offloads(net, interface)
            assert [said[name] for name in (*segments, *generic)] == ["off"] * 4

    def test_netem_does_what_it_is_told(self, net: Net) -> None:
        """Of a guest's kernel, which has netem, `tests/vm/test_vm_networks.py` asks more."""
        net.ip("link", "add", "one", "type", "veth", "peer", "name", "other")
        words = ("shape", "one", "8000000", "20000000", "77", "10000", "1", "-14")
        ended = net.do(net.program, *words, check=False)
        if ended.returncode and b"one: No such file or directory" in ended.stderr:
            pytest.skip("this host's kernel has no netem")
        assert (ended.returncode, ended.stderr) == (0, b"")
        tc = look_for("tc")
        assert tc, "iproute2 is not installed: `invoke setup` installs what is missing"
        said = net.do(tc, "qdisc", "show", "dev", "one").text
        for word in ("netem", "limit 77", "delay 20ms", "loss 1%", "rate 8Mbit", "overhead -14"):
            assert word in said


def test_what_crosses_an_interface_is_written_down_until_it_is_told_to_end(
    net: Net, tmp_path: Path
) -> None:
    capture, told = tmp_path / "lo.pcap", tmp_path / "told"
    assert net.traffic("capture", "lo", str(capture), str(told)) == {}
    (process,) = figures(told.read_text())["process"]
    net.do("ping", "-c", "3", "-i", "0.01", "-s", "1000", HERE)
    os.kill(process, signal.SIGTERM)
    until = monotonic() + 10
    while "missed" not in (said := told.read_text()):
        assert monotonic() < until, said
        sleep(0.01)
    assert figures(said) == {"missed": [0]}
    packets = packets_in(capture.read_bytes())
    assert len(packets) == 12, "there and back, and each leaves and comes in"
    assert {len(packet) for packet in packets} == {14 + 20 + 8 + 1000}


def packets_in(content: bytes) -> list[bytes]:
    """The packets of a file with nanoseconds as pcap-savefile(5) has them."""
    assert struct.unpack_from("<IHH", content) == (0xA1B23C4D, 2, 4)
    at, packets = 24, []
    while at < len(content):
        _, nanoseconds, kept, length = struct.unpack_from("<IIII", content, at)
        assert kept == length
        assert nanoseconds < 10**9
        at += 16 + length
        packets.append(content[at - length : at])
    assert at == len(content)
    return packets


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("no-such", "x", "y"), "No such device"),
        (("lo", "/no/such", "y"), "/no/such: No such file"),
    ],
)
def test_what_cannot_be_captured_is_refused(net: Net, words: tuple[str, ...], why: str) -> None:
    status, said = net.refused("capture", *words)
    assert status == 1
    assert why in said


def test_an_interface_that_is_dark_loses_all_and_one_that_is_bare_nothing(net: Net) -> None:
    def answers() -> bool:
        return net.do("ping", "-c", "1", "-W", "1", HERE, check=False).returncode == 0

    net.traffic("bare", "lo")  # nothing is there yet
    try:
        net.traffic("dark", "lo")
    except CommandFailed as failed:
        pytest.skip(f"this host's kernel has no netem: {failed}")
    assert not answers()
    net.traffic("bare", "lo")
    assert answers()
