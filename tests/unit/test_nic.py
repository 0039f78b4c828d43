"""Models of network interfaces: what is read in the guest, what it becomes, what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from fake_hosts import cell_of, given_to
from hand_made import sample_in

from linklab.agent.replies import JobNews, Measure, ProgramEnd
from linklab.commands.machines import MachineOptions
from linklab.commands.places import PlaceOptions
from linklab.errors import LabError, UsageError
from linklab.host.cache import Cached
from linklab.lab.guests import GuestPlace
from linklab.lab.topology import parse
from linklab.machine.qmp import kvm_exits
from linklab.machine.spec import NicModel
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios.nic import Nic, claims, path_name
from linklab.scenarios.scenario import Finding, Host

MEASURE = Measure(1.0, 0.1, 0.1, 1, 1, 0)
NETWORK = parse("a == b")
FEATURES = """tx-scatter-gather 1
tx-checksum-ipv4 0
tx-checksum-ip-generic 1
rx-checksum 1
tx-tcp-segmentation 0
tx-vlan-hw-insert 0
rx_ring 256
tx_ring 256
xdp 0
carrier_ns 250000000
"""
INTERRUPTS = """           CPU0       CPU1
  4:       9000          0   IO-APIC   4-edge      ttyS1
 10:       {}          1   IO-APIC  10-fasteoi   virtio9, a
 25:       5          0   PCI-MSI 49152-edge      a-rx-0
LOC:       7777       7777   Local timer interrupts
"""
SLOTS = {"a": "0000:00:03.0", "a2": "0000:00:04.0"}


@dataclass
class Guest:
    """An agent of who receives. Cards that are bound in another order have other names."""

    interrupts: list[int] = field(default_factory=lambda: [100, 600])
    packets: list[int] = field(default_factory=lambda: [1000, 2000])
    has_sysfs: bool = True
    names: dict[str, str] = field(default_factory=lambda: {s: n for n, s in SLOTS.items()})
    macs: dict[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    listens: bool = False
    bus: str = ""

    def __post_init__(self) -> None:
        ports = NETWORK.ports_of("b")
        self.macs = {SLOTS[port.interface]: port.mac for port in ports}

    def slot(self, name: str) -> str:
        return next(slot for slot, its in self.names.items() if its == name)

    def said(self, argv: Sequence[str]) -> str:
        if argv[0] == "/bin/sh":
            return self.shell(argv[-1])
        if argv[0] in ("/bin/cat", "/bin/readlink"):
            return self.file(argv[-1])
        if "nic" in argv:
            return FEATURES
        if "-d" in argv:
            return "3: a2: <UP> mtu 1500 numtxqueues 4 numrxqueues 1 gso_max_size 65536\n"
        return "ns_p50 500000\nns_p99 900000\n" if "request" in argv else ""

    def file(self, path: str) -> str:
        if path == "/proc/net/dev":
            count = self.packets.pop(0)
            return f" a: 1 {count} 0 0 0 0 0 0 9 {count} 0\n a2: 1 5 0 0 0 0 0 0 9 5 0\n"
        if path == "/proc/interrupts":
            return INTERRUPTS.format(self.interrupts.pop(0))
        slot = self.slot(path.split("/")[4])
        is_mac = path.endswith("address")
        at = self.bus or f"pci0000:00/{slot}"
        return self.macs[slot] if is_mac else f"/sys/devices/{at}/virtio1\n"

    def shell(self, text: str) -> str:
        if text.startswith("ls -d"):
            return "/sys/bus/pci" if self.has_sysfs else ""
        if text.startswith("ls "):
            slot = text.split("/")[5]
            return f"/sys/bus/pci/devices/{slot}/virtio1/net:\n{self.names[slot]}\n"
        if "bind" in text:
            _, _, last = text.partition("echo ")
            bound = sum(name.startswith("eth") for name in self.names.values())
            self.names[last.partition(" ")[0]] = "" if "unbind" in text else f"eth{bound}"
        elif "byte_queue_limits" in text:
            return "30000\n"
        return " 1 packets received"

    def run(self, argv: Sequence[str], _deadline: float) -> ProgramEnd:
        self.ran.append(" ".join(argv))
        if argv[0] == "/bin/ip" and "name" in argv and "-batch" not in argv:
            self.names[self.slot(argv[argv.index("dev") + 1])] = argv[-1]
        elif argv[0] == "/bin/ip" and "address" in argv and "dev" in argv and "set" in argv:
            self.macs[self.slot(argv[argv.index("dev") + 1])] = argv[-1]
        return ProgramEnd(1, 0, MEASURE, self.said(argv).encode())

    def write_file(self, *_: object) -> None:
        pass

    def start_job(self, argv: Sequence[str], _deadline: float) -> int:
        self.listens = False
        return 1

    def job_news(self, _wait: float, _deadline: float, _job: int = 0) -> JobNews:
        if not self.listens:
            self.listens = True
            return JobNews(b"listening\n", MEASURE, None)
        got = "bytes 1000000000\ninner 500000000\nstart 0\nend 8000000000\n"
        return JobNews(got.encode(), MEASURE, 0)


def tried(guest: Guest, load: str = "stream", exits: bool = False) -> Mapping[str, float]:
    """Return the figures of a trial in fake guests."""
    spent = {"boot_seconds": 0.5, "cpu_seconds": 0.0} | ({"exits": 0.0} if exits else {})

    def outside() -> dict[str, float]:
        for name in spent.keys() - {"boot_seconds"}:
            spent[name] += 4
        return dict(spent)

    agent: Any = guest
    one = Host("b", agent, lambda _: 60.0, network=NETWORK, outside=outside)
    hosts = {"a": replace(one, name="a"), "b": one}
    scenario = Nic(given_to(Nic))
    list(scenario.set_up(hosts, Cell({"arm": "virtio"})))
    return scenario.trial(hosts, cell_of(Nic, load=load))


def test_what_a_driver_says_becomes_counts() -> None:
    found = tried(Guest())
    assert found["offloads"] == 3
    names = ("tx_checksum", "rx_checksum", "scatter", "tso", "vlan", "xdp", "bql")
    assert [found[name] for name in names] == [1, 1, 1, 0, 0, 0, 1]
    assert [found[name] for name in ("queues", "rx_ring", "tx_ring")] == [1, 256, 256]
    assert found["carrier"] == pytest.approx(0.75), "the boot, and from up to a carrier"


def test_interrupts_are_those_of_the_interface_for_each_packet_of_both_ways() -> None:
    # 500 more of its own line, shared or not, and 2 x 1000 packets.
    assert tried(Guest())["interrupts"] == pytest.approx(0.25)
    with pytest.raises(LabError, match="a of b counted no packets"):
        tried(Guest(packets=[5, 5]))


def test_exits_are_there_where_something_counts_them() -> None:
    assert "exits" not in tried(Guest())
    assert tried(Guest(), exits=True)["exits"] > 0


def test_each_load_has_figures_of_its_own() -> None:
    stream, requests = tried(Guest()), tried(Guest(), "requests")
    assert (stream["goodput"], stream["sender_cpu"]) == (500.0, 1.0)
    assert (requests["request"], requests["request_p99"]) == (0.5, 0.9)
    assert not {"goodput"} & requests.keys() | {"request"} & stream.keys()


def test_names_follow_the_order_or_the_card_or_neither() -> None:
    guest = Guest()
    found = tried(guest)
    assert [found[name] for name in ("by_order", "by_mac", "by_path")] == [2, 1, 0]
    assert guest.names == {slot: name for name, slot in SLOTS.items()}, "as the lab had them"
    assert guest.macs == {SLOTS[port.interface]: port.mac for port in NETWORK.ports_of("b")}
    named = [line for line in guest.ran if " name " in line]
    assert any("name enp0s3" in line for line in named)
    assert any("name enx0200" in line for line in named)


def test_without_sysfs_nobody_can_tell_names() -> None:
    assert not {"by_order", "by_mac", "by_path"} & tried(Guest(has_sysfs=False)).keys()


def test_interfaces_on_another_bus_have_no_path() -> None:
    guest = Guest(bus="virtio-mmio-cmdline/virtio-mmio.0")
    assert not {"by_order", "by_mac", "by_path"} & tried(guest).keys()
    assert not [line for line in guest.ran if "bind" in line]


def test_a_path_on_pci_is_a_name() -> None:
    assert [path_name(slot) for slot in ("0000:00:03.0", "0001:0a:1f.2")] == [
        "enp0s3",
        "enP1p10s31f2",
    ]


def test_the_arm_is_the_model_so_no_other_is_taken() -> None:
    guests = PlaceOptions("guests")
    guests.check(NETWORK, 128, Nic)
    for options, why in (
        (PlaceOptions("guests", nic="e1000"), "--axis arm=MODEL"),
        (PlaceOptions(), "--place guests"),
    ):
        with pytest.raises(UsageError, match=why):
            options.check(NETWORK, 128, Nic)
    assert guests.machine(MachineOptions(), Nic).machine == "pc"
    for machine, why in (
        (MachineOptions(boot="resume"), "begin to work"),
        (MachineOptions(machine="microvm"), "no PCI"),
    ):
        with pytest.raises(UsageError, match=why):
            guests.machine(machine, Nic)


def test_guests_have_the_interfaces_of_their_arm() -> None:
    from fake_lab import lab_of

    place = GuestPlace(NETWORK, Cached("wire"), nics={"b": NicModel.E1000})
    lab = replace(lab_of(), guests=place).with_nics("rtl8139")
    assert lab.guests is not None
    assert {lab.guests.model(host) for host in "ab"} == {NicModel.RTL8139}


def test_every_model_that_there_is_is_an_arm() -> None:
    assert Nic.shape.axis("arm").values == tuple(NicModel)


def test_exits_are_summed_over_cpus() -> None:
    async def execute(command: str, wanted: dict[str, Any]) -> Any:
        assert (command, wanted["target"]) == ("query-stats", "vcpu")
        return [{"stats": [{"name": "exits", "value": count}]} for count in (5, 7)]

    def talk(ask: Any, _limit: float, _wish: str) -> int:
        coroutine = ask(SimpleNamespace(execute=execute))
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        return int(done.value.value)

    control: Any = SimpleNamespace(talk=talk)
    assert kvm_exits(control, 1.0) == 12


def findings(**of: Mapping[str, float]) -> list[Finding]:
    """What is found of models with some metrics."""
    full = {each.name: 1.0 for each in Nic.shape.metrics if each.name != "exits"}
    samples = [
        sample_in("sysfs", cell_of(Nic, load="stream", arm=arm), full | dict(values))
        for arm, values in of.items()
    ]
    kernel: dict[str, Any] = {
        "name": "sysfs",
        "release": "6.12",
        "sha256": "ab",
        "inputs": {},
        "image_bytes": None,
    }
    about: dict[str, Any] = {
        "shape": Nic.shape.to_json(), "kernels": [kernel], "plan": {"given": {}}
    }  # fmt: skip
    return [claim.finding for claim in claims(Run(about, samples))]


def test_what_is_known_of_drivers_is_held_against_what_was_found() -> None:
    known = {"by_order": 2, "by_path": 0, "bql": 1}
    virtio, e1000 = {"xdp": 1, "goodput": 10, **known}, {"xdp": 0, "goodput": 5, **known}
    assert findings(virtio=virtio, e1000=e1000) == [Finding.REPRODUCED] * 5
    faster = {**e1000, "xdp": 1, "bql": 0, "by_path": 1, "goodput": 20}
    assert findings(virtio=virtio, e1000=faster) == [
        Finding.IN_PART, Finding.NOT_REPRODUCED, Finding.REPRODUCED, Finding.IN_PART,
        Finding.NOT_REPRODUCED,
    ]  # fmt: skip
    assert findings(vmxnet3={**known, "bql": 0})[-1] is Finding.NOT_MEASURED
