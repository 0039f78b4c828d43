"""Hosts that are guests: their interfaces, how these get their names, and what is shared with
namespaces."""

from __future__ import annotations

import resource
import signal
import struct
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import GuestHung, LabError
from linklab.host.cache import Cached
from linklab.lab import captures, guests, spaces
from linklab.lab.captures import check_room, cut_to_packets, whole_packets, why_not_written
from linklab.lab.guests import GuestNetwork, GuestPlace
from linklab.lab.spaces import over_a_cut_link
from linklab.lab.topology import parse
from linklab.machine.spec import Nic, NicModel
from linklab.results.model import Sample
from linklab.results.shape import Cell

TEXT = "a -- r -- b: 10mbit | clean"


class Hand:
    """A host whose kernel found its interfaces the other way round."""

    def __init__(self, macs: Sequence[str]) -> None:
        self._macs = macs
        self.ran: list[list[str]] = []
        self.files: dict[str, str] = {}
        self.looks = 0
        self.pinged: list[str] = []

    def run(self, argv: Sequence[str]) -> None:
        self.ran.append(list(argv))

    def printed(self, argv: Sequence[str]) -> str:
        if argv[0] == "/bin/sh":
            self.pinged.append(argv[2])
            return f"1 packets transmitted, {int(len(self.pinged) > 1)} packets received"
        if argv[-1] == "up":
            self.looks += 1
            flags = "BROADCAST,UP,LOWER_UP" if self.looks > 1 else "NO-CARRIER,BROADCAST,UP"
            return "\n".join(f"2: {name}: <{flags}> mtu 1500" for name in "abr")
        assert argv == ["/bin/ip", "-o", "link", "show"]
        lines = ["1: lo: <LOOPBACK> mtu 65536\\    link/loopback 00:00:00:00:00:00 brd 00:00"]
        lines += [
            f"{n + 2}: eth{n}: <BROADCAST> mtu 1500 qdisc noop\\    link/ether {mac} brd ff:ff"
            for n, mac in enumerate(reversed(self._macs))
        ]
        return "\n".join(lines)

    def write(self, path: str, content: bytes) -> None:
        self.files[path] = content.decode()


def place(**more: Any) -> GuestPlace:
    return GuestPlace(parse(TEXT), Cached("wire"), **more)


def brought_up() -> dict[str, Hand]:
    there = place()
    hands = {
        host: Hand([nic.mac for nic in there.interfaces(host)]) for host in there.topology.hosts
    }
    there.bring_up(hands)
    return hands


def test_each_host_has_an_interface_for_each_of_its_links() -> None:
    assert place().interfaces("r") == (
        Nic(NicModel.VIRTIO, "02:00:00:01:00:02"),
        Nic(NicModel.VIRTIO, "02:00:00:02:00:02"),
    )


def test_one_host_may_have_another_model() -> None:
    there = place(nic=NicModel.E1000, nics={"b": NicModel.RTL8139})
    models = [there.interfaces(host)[0].model for host in there.topology.hosts]
    assert models == [NicModel.E1000, NicModel.E1000, NicModel.RTL8139]


def test_each_link_has_a_socket_at_both_ends_and_is_captured_at_one() -> None:
    def socket(number: int) -> SimpleNamespace:
        return SimpleNamespace(fileno=lambda: number)

    wire: Any = SimpleNamespace(ends=[(socket(10), socket(11)), (socket(12), socket(13))])
    there = place(captures=True)
    nics = [
        (host, nic.fd, nic.capture.name if nic.capture else "")
        for host in there.topology.hosts
        for nic in there.joined(host, wire, Path("/out/console-001-sysfs.log"))
    ]
    assert nics == [
        ("a", 10, "link-001-sysfs-1.pcap"),
        ("r", 11, ""),
        ("r", 12, "link-001-sysfs-2.pcap"),
        ("b", 13, ""),
    ]


def test_interfaces_are_called_after_their_peers_in_whatever_order_they_were_found() -> None:
    names = brought_up()["r"].files["/tmp/interfaces.batch"].splitlines()
    assert names == [
        "link set dev eth1 name linklab-0",
        "link set dev eth0 name linklab-1",
        "link set dev linklab-0 name a",
        "link set dev linklab-1 name b",
    ]


def pcap(packets: int, size: int) -> bytes:
    """A capture with as many packets, all alike."""
    record = struct.pack("=IIII", 0, 0, size, size) + bytes(size)
    return struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1) + packets * record


@pytest.mark.parametrize("torn", [1, 16, 500])
def test_a_capture_that_found_its_disk_full_is_cut_to_whole_packets(
    tmp_path: Path, torn: int
) -> None:
    path = tmp_path / "link-001-1.pcap"
    path.write_bytes(pcap(2000, 984) + pcap(1, 984)[24 : 24 + torn])
    cut_to_packets(path)
    left = path.read_bytes()
    kept = (len(left) - 24) // 1000
    assert left == pcap(kept, 984)
    assert 0 <= 2000 - kept - (1 << 19) // 1000 <= 1, "room for what the run still writes"


def test_what_a_guest_wrote_down_is_left_in_whole_packets_however_it_ended(tmp_path: Path) -> None:
    torn, empty, never = (tmp_path / f"link-001-{n}.pcap" for n in range(3))
    with pytest.raises(KeyboardInterrupt), whole_packets([torn, empty, never]):
        torn.write_bytes(pcap(3, 984) + b"torn")
        empty.write_bytes(pcap(0, 0))
        raise KeyboardInterrupt
    assert torn.read_bytes() == pcap(3, 984)
    assert [path.exists() for path in (empty, never)] == [False, False]


def test_a_capture_that_a_guest_writes_is_the_labs_fault_where_its_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "link-001-1.pcap"
    with whole_packets([path]):
        path.write_bytes(pcap(2000, 984))
        check_room([path])
        monkeypatch.setattr(captures, "_has_room", lambda _path: False)
        with pytest.raises(LabError, match=r"link-001-1.pcap: No space left on device; what came"):
            check_room([path])
    assert len(path.read_bytes()) < 1000 * 2000 - (1 << 19) + 1000, "the run has to end there"


class Told:
    """A guest whose captures say something in the end."""

    def __init__(self, said: str) -> None:
        self._said = said

    def printed(self, _argv: Sequence[str]) -> str:
        return self._said


def test_a_capture_that_lacks_something_says_how_much() -> None:
    hands: Any = Told
    spaces.end_captures(hands("link-1 missed 0\nlink-2 missed 0\n"))
    with pytest.raises(LabError, match="the capture of link 2 lacks 5 packets"):
        spaces.end_captures(hands("link-1 missed 0\nlink-2 missed 5\n"))
    with pytest.raises(LabError, match="link 1 did not end in order: process 77"):
        spaces.end_captures(hands("link-1 process 77\n"))


def full(tmp_path: Path, words: str) -> GuestNetwork:
    """A network of a guest that is captured, with what its QEMU said."""
    path = tmp_path / "link-001-1.pcap"
    path.write_bytes(pcap(1, 984))
    nics = (Nic(NicModel.VIRTIO, "02:00:00:01:00:01", capture=path), Nic(NicModel.VIRTIO, "02"))
    machine = SimpleNamespace(last_words=words, spec=SimpleNamespace(nics=nics))
    session: Any = SimpleNamespace(machine=machine, name="a")
    return GuestNetwork(parse(TEXT), {"a": session}, Counting())  # type: ignore[arg-type]


def test_a_capture_that_qemu_gave_up_is_the_labs_fault_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(tmp_path, "").watch()()
    network = full(tmp_path, "network dump write error - stopping dump")
    with pytest.raises(LabError, match="guest a: QEMU no longer writes"):
        network.watch()()
    monkeypatch.setattr(guests, "why_not_written", lambda _path: "No space left on device")
    with pytest.raises(LabError, match=r"link-001-1.pcap: No space left on device; what came"):
        network.watch()()


def test_why_a_file_cannot_grow_is_found_by_trying_and_it_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert why_not_written(path) == ""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        assert why_not_written(path) == "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"content"


def test_what_a_guest_does_not_do_over_a_link_that_is_cut_is_not_its_kernels_fault() -> None:
    wire: Any = SimpleNamespace(darken=lambda _link: None, light=lambda _link: None)
    network = joined(wire)
    network.darken(0)
    assert network.cut == {0}
    silence = GuestHung("guest a: no answer", "its console")
    fault = over_a_cut_link(network.topology, network.cut, silence)
    assert isinstance(fault, LabError)
    assert fault.message == "link 1, a -- r, was cut: guest a: no answer"
    assert fault.evidence == "its console"
    silence.reports = (Report(Fault.SILENCE, "hung", None, (), "what the lab makes of it"),)
    assert over_a_cut_link(network.topology, network.cut, silence) is not silence
    silence.reports = (Report(Fault.SOFT_LOCKUP, "soft lockup", None, (), "on its console"),)
    assert over_a_cut_link(network.topology, network.cut, silence) is silence


def test_an_interface_that_the_kernel_has_no_driver_for_is_named() -> None:
    there = place()
    hands = {"a": Hand([])}
    with pytest.raises(LabError, match="host a has no interface 02:00:00:01:00:01") as caught:
        there.bring_up(hands)
    assert "--nic virtio takes CONFIG_VIRTIO_PCI and CONFIG_VIRTIO_NET" in caught.value.message
    with pytest.raises(LabError, match=r"--nic e1000 takes CONFIG_E1000$"):
        place(nics={"a": NicModel.E1000}).bring_up(hands)


def test_a_host_is_up_when_its_interfaces_have_a_carrier() -> None:
    assert {hand.looks for hand in brought_up().values()} == {2}


def test_a_link_is_there_when_a_packet_has_come_over_it_and_back() -> None:
    pinged = {host: hand.pinged for host, hand in brought_up().items()}
    assert [len(each) for each in pinged.values()] == [2, 2, 0]
    assert "10.0.2.3" in pinged["r"][0]


def test_a_host_is_brought_up_by_the_same_commands_in_both_places() -> None:
    hands = brought_up()
    guest = Hand([])
    spaces.build(parse(TEXT), 1, guest.run, guest.write)
    for host, hand in hands.items():
        inside = list(spaces.inside(host))
        here = [argv[2:] for argv in guest.ran if argv[:2] == inside and "plain" not in argv]
        assert hand.ran[1:] == here
        own = {path: text for path, text in hand.files.items() if "interfaces" not in path}
        assert own == {path: guest.files[path] for path in own}
        assert set(own) == {f"/tmp/{host}.sysctl", f"/tmp/{host}.batch", "/etc/hosts"}


class Counting:
    """A wire that counts on each time that it is asked."""

    def __init__(self, overflowed: int = 0) -> None:
        self._asked = 0
        self._overflowed = overflowed

    def counters(self, link: int) -> tuple[dict[str, int], dict[str, int]]:
        self._asked += 1
        there = {"lost": 10 * self._asked, "most_packets": 50, "overflowed": self._overflowed}
        self._overflowed *= self._asked + 1
        return there, dict.fromkeys(there, 0)


def joined(wire: Any) -> GuestNetwork:
    return GuestNetwork(parse(TEXT), {}, wire)


def test_what_a_link_did_in_a_trial_is_in_its_sample() -> None:
    told = joined(Counting()).watch()()
    assert told["link1_there_lost"] == 10
    assert told["link1_there_most_packets"] == 50
    assert not any(name.startswith("link2") for name in told), "nothing is in its middle"
    sample = Sample("s", "k", "direct", "tcg", Cell(), 1, {}, 0, True, place="guests", links=told)
    line = sample.to_json()
    assert (line["link1_there_lost"], line["place"]) == (10, "guests")
    assert "links" not in line


def test_a_wire_whose_memory_was_full_is_the_labs_fault() -> None:
    with pytest.raises(LabError, match="link1_there_overflowed = 1: the wire's memory was full"):
        joined(Counting(overflowed=1)).watch()()
