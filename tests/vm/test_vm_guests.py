"""Hosts that are guests of their own: real kernels, the wire between them, real time."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from guests import Invoke, packets_of, soon

from linklab import paths
from linklab.commands.kernels import KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import KernelCrashed, LabError, Verdict
from linklab.events import ignore
from linklab.host.cache import Cache, Cached
from linklab.image.programs import WIRE, build_static
from linklab.lab.captures import capture_of
from linklab.lab.guests import GuestNetwork, GuestPlace
from linklab.lab.lab import Lab, Subject
from linklab.lab.spaces import TRAFFIC, await_answers
from linklab.lab.topology import parse
from linklab.machine.spec import NicModel
from linklab.scenarios.scenario import Host, Hosts
from linklab.trials.links import check_links
from linklab.trials.subjects import Requirements

pytestmark = pytest.mark.vm

NETWORKS = paths.IMAGES / "networks"
MEMORY = 128
PORT = "5001"


@dataclass(frozen=True)
class Network:
    """Guests that are up and know each other."""

    joined: GuestNetwork
    hosts: Hosts

    def rtt(self, start: str, end: str) -> float:
        """The shortest of 20 pings, in ms."""
        with_echo = [TRAFFIC, "echo", PORT, "20"]
        echo = self.hosts[end].start(with_echo, "listening")
        address = self.joined.topology.address(end)
        said = self.hosts[start].said([TRAFFIC, "ping", address, PORT, "20", "10", "64"])
        echo.stop()
        assert said.number("replies") >= 15, "a busy host may be late with some"
        return said.number("rtt_min_ns") / 1e6

    def goodput(self, start: str, end: str, seconds: int) -> float:
        """Mbit/s of one TCP connection."""
        sink = [TRAFFIC, "sink", "tcp", PORT, "1", str(seconds + 30)]
        running = self.hosts[end].start(sink, "listening")
        address = self.joined.topology.address(end)
        words = ["tcp", address, PORT, "1", "1", str(seconds)]
        self.hosts[start].said([TRAFFIC, "send", *words])
        got = running.end()
        return sum(got["inner"]) * 8e3 / (got.number("end") - got.number("start"))


@pytest.fixture(scope="module")
def prepared(cache: Cache) -> tuple[Lab, Subject, Cached]:
    fragments = tuple(str(NETWORKS / name) for name in ("kernel.config", "nics.config"))
    kernels = replace(KernelOptions("sysfs"), needed=fragments)
    lab = set_up_lab(MachineOptions(clock="real"), MEMORY, cache, ignore, NETWORKS)
    (subject,) = prepare_subjects(kernels, Requirements(lab.boot, image=NETWORKS), cache, ignore)
    return lab, subject, build_static(WIRE, cache, ignore).cached(WIRE.file)


class Guests:
    """Opens networks of guests."""

    def __init__(self, prepared: tuple[Lab, Subject, Cached], folder: Path) -> None:
        self.lab, self.subject, self._wire = prepared
        self.log = folder / "console-001.log"

    @contextmanager
    def __call__(
        self,
        text: str,
        nic: NicModel = NicModel.VIRTIO,
        captures: bool = False,
        cache: Cache | None = None,
    ) -> Iterator[Network]:
        network = parse(text)
        place = GuestPlace(network, self._wire, nic, captures=captures)
        lab = replace(self.lab, guests=place)
        if cache is not None:
            lab = lab.with_snapshots([self.subject], cache, ignore)
        with lab.network(self.subject, self.log, 1) as joined:
            hosts = {
                name: Host(name, session.agent, lambda _: 60.0, network=network)
                for name, session in joined.sessions.items()
            }
            place.bring_up(hosts)
            yield Network(joined, hosts)


@pytest.fixture
def guests(prepared: tuple[Lab, Subject, Cached], tmp_path: Path) -> Guests:
    return Guests(prepared, tmp_path)


def test_a_link_through_a_router_has_its_rate_and_its_round_trip(guests: Guests) -> None:
    with guests("a -- r -- b: 10mbit 20ms queue=50") as network:
        check_links(network.joined.topology, network.hosts, looks=15)
        assert 80 <= network.rtt("a", "b") <= 100, "four delays, and what guests add"
        network.joined.counters(0)  # the marks of those trains, which go both ways
        # Of each 1514 bytes that the link carries 1448 are the sender's; how much of it TCP
        # uses is this host's doing, too, when it is busy.
        assert 0.25 < network.goodput("a", "b", 5) / (10 * 1448 / 1514) < 1.03
        there, back = network.joined.counters(0)
        assert there["most_packets"] > back["most_packets"] > 0
        assert there["overflowed"] == back["overflowed"] == 0
        said = network.hosts["a"].printed(["/bin/ping", "-c", "1", "b"])
        assert "1 packets received" in said


SAME = "a -- r -- b: clean | 2mbit 20ms queue=20"
NEAR = 0.05
TRIES = 3


def test_the_same_experiment_gives_the_same_figures_wherever_its_hosts_are(
    invoke: Invoke, tmp_path: Path
) -> None:
    """In virtual time they depend on nothing else; the others are to be near those.

    The queue is always full, so the link decides the goodput, and the window goes up and
    down many times, so the median says little of when. What is left is a host that lets
    the guests or the wire wait for a CPU: each place in real time may try three times,
    and a link that is then out of tolerance, or a guest that is silent, is such a try.
    """

    def figures(clock: str, place: str, turn: int = 0) -> tuple[float, float] | str:
        done = invoke(
            *("run", "--scenario", "congestion", "--kernel", "nosysfs", "--leaks", "none"),
            *("--axis", "arm=cubic", "--param", "seconds=8", "--param", f"topology={SAME}"),
            *("--clock", clock, "--place", place),
            *("--output", str(tmp_path / f"{clock}-{place}-{turn}"), "--json"),
        )
        if done.status and clock == "real":
            about = done.document.get("run", done.document)
            verdict, message = about["verdict"], about["message"]
            if verdict == Verdict.HANG or (verdict == Verdict.ERROR and message.startswith("link")):
                return f"{verdict}: {message}"
        assert done.status == 0, done.stderr
        (sample,) = done.document["samples"]
        assert (sample["clock"], sample["place"]) == (clock, place)
        return sample["goodput"], sample["rtt"]

    wanted = pytest.approx(figures("virtual", "spaces"), rel=NEAR)
    for place in ("spaces", "guests"):
        found: list[tuple[float, float] | str] = []
        while wanted not in found:
            assert len(found) < TRIES, (place, found)
            found.append(figures("real", place, len(found)))


@pytest.mark.parametrize("nic", NicModel)
def test_every_model_carries_traffic(guests: Guests, nic: NicModel) -> None:
    with guests("a -- b", nic) as network:
        assert network.rtt("a", "b") < 50
        assert network.goodput("a", "b", 1) > 1
        told = network.hosts["a"].printed(["/bin/ip", "-6", "address", "show", "dev", "b"])
        assert "fd00:1::1/64" in told
        assert "tentative" not in told


def test_a_cut_link_has_no_carrier_and_a_dark_one_has(guests: Guests) -> None:
    def state(network: Network) -> str:
        return network.hosts["b"].printed(["/bin/ip", "-o", "link", "show", "dev", "a"])

    def await_state(network: Network, word: str) -> None:
        """The kernel looks after a carrier at most once a second (net/core/link_watch.c)."""
        until = soon()
        while word not in (last := state(network)):
            assert time.monotonic() < until, last
            time.sleep(0.1)

    with guests("a -- b: 1ms") as network:
        network.joined.darken(0)
        assert "LOWER_UP" in state(network)
        lost = network.hosts["a"].agent.run(["/bin/ping", "-c1", "-W1", "b"], time.monotonic() + 60)
        assert lost.exit_code == 1
        network.joined.pull(0)
        await_state(network, "NO-CARRIER")
        network.joined.plug(0)
        await_state(network, "LOWER_UP")
        await_answers(network.joined.topology, network.hosts)
        assert network.rtt("a", "b") >= 2


@pytest.fixture(scope="module")
def captured(
    prepared: tuple[Lab, Subject, Cached], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """What crossed two links, one with the wire in its middle: pings, and a TCP connection."""
    guests = Guests(prepared, tmp_path_factory.mktemp("captured"))
    with guests("a -- r -- b: clean | 10mbit", captures=True) as network:
        network.rtt("a", "b")
        network.goodput("a", "b", 1)
    return [capture_of(guests.log, link) for link in range(2)]


def test_what_crosses_a_link_is_captured_packet_by_packet(captured: list[Path]) -> None:
    for capture, (a, b) in zip(captured, (("1", "2"), ("2", "3")), strict=True):
        packets = packets_of(capture)
        ip = [packet[14:] for packet in packets if packet[12:14] == b"\x08\x00"]
        assert len(ip) > 100
        for packet in ip:
            header = packet[: 4 * (packet[0] & 15)]
            total = sum(struct.unpack(f">{len(header) // 2}H", header))
            assert (total & 0xFFFF) + (total >> 16) in (0xFFFF, 0x1FFFE), "RFC 791's check sum"
            length = int.from_bytes(packet[2:4])
            assert length <= len(packet) <= max(length, 46)
        protocols = [packet[9] for packet in ip]
        assert min(protocols.count(number) for number in (6, 17)) >= 35, "TCP, UDP"
        senders = {packet[6:12].hex(":")[-2:] for packet in packets}
        assert senders == {f"0{a}", f"0{b}"}


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_what_was_captured_and_finds_nothing_wrong(captured: list[Path]) -> None:
    for capture in captured:
        words = ["tshark", "-r", str(capture), "-T", "fields", "-e", "frame.number"]
        words += ["-o", "ip.check_checksum:TRUE", "-Y"]
        for condition, expected in (
            ("frame", len(packets_of(capture))),
            ("_ws.malformed || ip.checksum.status == 0 || tcp.len > 1460", 0),
        ):
            found = subprocess.run([*words, condition], capture_output=True, text=True, check=True)
            assert len(found.stdout.splitlines()) == expected
            assert "cut short" not in found.stderr


def test_saved_guests_are_joined_when_they_go_on(guests: Guests, cache: Cache) -> None:
    for _ in range(2):
        with guests("a -- b: 5ms", cache=cache) as network:
            assert 10 <= network.rtt("a", "b") <= 20, "twice the delay, and what guests add"
            assert network.joined.counters(0)[0]["came"] < 60, "no frames of QEMU's own"


def test_a_panic_of_one_guest_is_its_own(guests: Guests) -> None:
    with pytest.raises(KernelCrashed) as caught, guests("a -- b: 1ms") as network:
        crash = ["/bin/sh", "-c", "sleep 1; echo c >/proc/sysrq-trigger"]
        network.hosts["b"].agent.start_job(crash, time.monotonic() + 30)
        network.hosts["a"].run(["/bin/sleep", "30"])
    assert caught.value.guest == "b"
    assert "sysrq" in str(caught.value)
    assert "-b.log" in caught.value.evidence


def test_a_wire_that_dies_is_nobodys_fault_but_the_labs(guests: Guests) -> None:
    with pytest.raises(LabError) as caught, guests("a -- b: 1ms") as network:
        crash = f"sleep 0.5; kill -9 {network.joined.wire.pid}"
        from linklab.host.run import start

        start(["/bin/sh", "-c", crash])
        network.hosts["a"].run(["/bin/sleep", "30"])
    assert "the wire, which is the links between the guests" in caught.value.message
