"""nic: what models of network interfaces can do, do, and cost, between two guests.

A pair of guests for each model of `--nic`, joined by two links that do nothing. Counts come
first: what offloads the driver has on, its queues and descriptors, whether it runs XDP itself,
whether it counts what it has queued (BQL), its interrupts for each packet. Seconds are this
host's, of an emulator if there is no KVM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from linklab.errors import LabError
from linklab.lab.spaces import TRAFFIC, await_answers, configure
from linklab.lab.topology import Topology
from linklab.paths import IMAGES
from linklab.results.figures import Figures
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import IP, Claim, Finding, Host, Hosts, Metrics, Parameter, Scenario

__all__ = ["Nic"]

_PORT = "5001"
_VIRTIO, _VMXNET3 = "virtio", "vmxnet3"
_MODELS = (_VIRTIO, "e1000", "e1000e", _VMXNET3, "rtl8139")  # as `--nic` names them
_REQUESTS, _STREAM = "requests", "stream"
_PACKETS_COLUMN = re.compile(r"^\s*(\S+):\s*\d+\s+(\d+)(?:\s+\d+){7}\s+(\d+)", re.M)
_CHECKSUMS = ("tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6")
# What else a driver says is no offload.
_OTHER = ("queues", "rx_ring", "tx_ring", "xdp", "carrier_ns")
_ANOTHER_MAC = "02:00:00:00:77:01"


class Nic(Scenario):
    """See above. The first host sends to the second one, over the first of their links."""

    name = "nic"
    about = "models of network interfaces: offloads, queues, XDP, BQL, interrupts, names, carrier"
    shape = Shape(
        axes=(
            Axis(
                "load",
                (_REQUESTS, _STREAM),
                among=(_REQUESTS, _STREAM),
                help="requests: one byte there and one back; stream: TCP as fast as it goes",
            ),
            Axis("arm", _MODELS, among=_MODELS, per_guest=True, help="the model"),
        ),
        metrics=(
            Metric("interrupts", zero=True, matters=0.01, title="interrupts for each packet of the "
                   "one who receives", short="interrupts a packet"),
            Metric("exits", zero=True, optional=True, short="exits a packet"),
            Metric("offloads", better=Better.MORE, zero=True, matters=1, short="offloads"),
            Metric("tx_checksum", better=Better.MORE, zero=True, matters=1, short="checksum out"),
            Metric("rx_checksum", better=Better.MORE, zero=True, matters=1, short="checksum in"),
            Metric("scatter", better=Better.MORE, zero=True, matters=1, short="scatter-gather"),
            Metric("tso", better=Better.MORE, zero=True, matters=1, short="TSO"),
            Metric("vlan", better=Better.MORE, zero=True, matters=1, short="VLAN tags"),
            Metric("queues", better=Better.NEITHER, short="queues"),
            Metric("rx_ring", better=Better.NEITHER, optional=True, short="descriptors in"),
            Metric("tx_ring", better=Better.NEITHER, optional=True, short="descriptors out"),
            Metric("xdp", better=Better.MORE, zero=True, matters=1, short="native XDP"),
            Metric("bql", better=Better.MORE, zero=True, matters=1, short="BQL"),
            Metric("by_order", zero=True, matters=1, optional=True, short="renamed, by order"),
            Metric("by_mac", zero=True, matters=1, optional=True, short="by MAC"),
            Metric("by_path", zero=True, matters=1, optional=True, short="by path"),
            Metric("carrier", "s", short="power on to carrier"),
            Metric("goodput", "Mbit/s", Better.MORE, optional=True, short="goodput"),
            Metric("sender_cpu", "s/Gbit", optional=True, short="sender's CPU"),
            Metric("receiver_cpu", "s/Gbit", optional=True, short="receiver's CPU"),
            Metric("request", "ms", optional=True, short="request"),
            Metric("request_p99", "ms", optional=True, short="request, 99 %"),
        ),
        rows="load",
        columns="arm",
        text="{load} over {arm}",
    )  # fmt: skip
    topology = "a == b"
    parameters = (
        Parameter("seconds", 3, "how long the stream is", 1, 600),
        Parameter("requests", 500, "how many requests there are", 10, 1_000_000),
    )
    needs = IMAGES / "nic" / "needs.toml"
    nic_axis = "arm"
    compared: ClassVar = {"load": (_STREAM,), "arm": (_VIRTIO,)}
    judged: ClassVar = {"load": (_STREAM,)}

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why there are no interfaces to measure."""
        if in_one_guest:
            return "interfaces are those of guests: --place guests"
        if len(network.hosts) != 2 or len(network.links) != 2:
            return "two hosts and two links are expected, as in `a == b`"
        return ""

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Ask the driver of the one who receives, and have its interfaces found anew."""
        self.a, self.b = (hosts[name] for name in self.drawn.hosts)
        _, second = self.drawn.ports_of(self.b.name)
        # The first link has its connections; the second one may be down.
        said = self.b.said([TRAFFIC, "nic", second.interface])
        has = {name for name in said if name not in _OTHER and said.number(name)}
        told = {name: said.number(name) for name in ("rx_ring", "tx_ring") if name in said}
        boot = self.b.outside().get("boot_seconds", 0.0)
        self.facts: dict[str, float] = {
            "offloads": len(has),
            "tx_checksum": bool(has & set(_CHECKSUMS)),
            "rx_checksum": "rx-checksum" in has,
            "scatter": "tx-scatter-gather" in has,
            "tso": "tx-tcp-segmentation" in has,
            "vlan": "tx-vlan-hw-insert" in has,
            "queues": said.number("queues") if "queues" in said else self._queues(second.interface),
            **told,
            "xdp": said.number("xdp"),
            "carrier": boot + said.number("carrier_ns") / 1e9,
            **self._renamed(),
        }
        configure(self.drawn, self.b.name, self.b.run, self.b.write)
        await_answers(self.drawn, hosts)
        return ()

    def _queues(self, interface: str) -> int:
        """Return how many queues receive, of a driver that does not tell channels."""
        shown = self.b.printed([IP, "-d", "-o", "link", "show", "dev", interface])
        found = re.search(r"\bnumrxqueues (\d+)", shown)
        if not found:
            raise LabError(f"ip does not say how many queues {interface} has: {shown.strip()}")
        return int(found[1])

    def _renamed(self) -> dict[str, float]:
        """Return how many of two interfaces have another name, by the three ways to name them.

        They are probed in the reverse order, as when a driver was slower; then one has another
        card's MAC. udev's names are those of systemd.net-naming-scheme(7). Without sysfs
        nobody can ask where a card is, or have it probed again.
        """
        if not self.b.printed(["/bin/sh", "-c", "ls -d /sys/bus/pci || true"]).strip():
            return {}
        ports = self.drawn.ports_of(self.b.name)
        slots = [_slot(self.b, port.interface) for port in ports]
        if not all(slots):  # as with virtio on `microvm`, which has another bus
            return {}
        for slot in slots:
            _tell_driver(self.b, "unbind", slot)
        for slot in reversed(slots):
            _tell_driver(self.b, "bind", slot)
        found = [_name_at(self.b, slot) for slot in slots]
        macs = [_mac_of(self.b, name) for name in found]
        orders = [f"eth{number}" for number in range(len(slots))]
        by = {
            "by_order": sum(new != old for new, old in zip(found, orders, strict=True)),
            "by_mac": sum(mac != port.mac for mac, port in zip(macs, ports, strict=True)),
            "by_path": len({*slots} ^ {_slot(self.b, name) for name in found}),
        }
        last = found[-1]
        self.b.ip(f"link set dev {last} address {_ANOTHER_MAC}")
        by["by_order"] += _name_at(self.b, slots[-1]) != last
        by["by_mac"] += _mac_of(self.b, last) != macs[-1]
        by["by_path"] += _slot(self.b, last) != slots[-1]
        self.b.ip(f"link set dev {last} address {macs[-1]}")
        for name, slot, mac, port in zip(found, slots, macs, ports, strict=True):
            # As udev would name it, by its path and by its MAC; then as the lab does.
            at = name
            for new in (path_name(slot), f"enx{mac.replace(':', '')}", port.interface):
                self.b.ip(f"link set dev {at} name {new}")
                at = new
        return {name: float(count) for name, count in by.items()}

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Load the link, and count interrupts and packets meanwhile."""
        interface = self.b.interface
        before, exits = _interrupts(self.b, interface), self.b.outside().get("exits")
        packets = _packets(self.b, interface)
        if cell["load"] == _STREAM:
            did = _stream(self.a, self.b, int(self.given["seconds"]), cell)
        else:
            did = _requests(self.a, self.b, int(self.given["requests"]), cell)
        count = _packets(self.b, interface) - packets
        if count <= 0:
            raise LabError(f"{interface} of {self.b.name} counted no packets")
        bql = f"cat /sys/class/net/{self.a.interface}/queues/tx-*/byte_queue_limits/limit || true"
        limits = self.a.printed(["/bin/sh", "-c", f"{{ {bql}; }} 2> /dev/null"]).split()
        counted = {} if exits is None else {"exits": (self.b.outside()["exits"] - exits) / count}
        return {
            **self.facts,
            **counted,
            **did,
            "interrupts": (_interrupts(self.b, interface) - before) / count,
            "bql": any(int(limit) for limit in limits),
        }

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what is known of the drivers, each with our figures."""
        return claims(run)


def _stream(a: Host, b: Host, seconds: int, cell: Cell | None = None) -> dict[str, float]:
    """Return what a TCP connection as fast as it goes carried, and its CPU time of this host."""
    patience = str(seconds + int(b.limit(cell)))
    running = b.start([TRAFFIC, "sink", "tcp", _PORT, "1", patience], "listening", cell)
    before = [host.outside()["cpu_seconds"] for host in (a, b)]
    a.said([TRAFFIC, "send", "tcp", b.address(), _PORT, "1", "1", str(seconds)], cell)
    got = running.end()
    gigabits = sum(got["bytes"]) * 8 / 1e9
    used = [host.outside()["cpu_seconds"] - then for host, then in zip((a, b), before, strict=True)]
    return {
        "goodput": sum(got["inner"]) * 8e3 / (got.number("end") - got.number("start")),
        "sender_cpu": used[0] / gigabits,
        "receiver_cpu": used[1] / gigabits,
    }


def _requests(a: Host, b: Host, count: int, cell: Cell | None = None) -> dict[str, float]:
    """Return how long a request of one byte took, and its answer, in ms."""
    running = b.start([TRAFFIC, "serve", "tcp", _PORT, str(count)], "listening", cell)
    asked = a.said([TRAFFIC, "request", b.address(), _PORT, str(count), "1", "1"], cell)
    running.end()
    return {
        "request": asked.number("ns_p50") / 1e6,
        "request_p99": asked.number("ns_p99") / 1e6,
    }


def path_name(slot: str) -> str:
    """Return the name by its place on PCI of an interface: `0000:00:03.0` is enp0s3."""
    domain, bus, device = slot.split(":")
    number, _, function = device.partition(".")
    first = f"P{int(domain, 16)}" if int(domain, 16) else ""
    last = f"f{int(function, 16)}" if int(function, 16) else ""
    return f"en{first}p{int(bus, 16)}s{int(number, 16)}{last}"


def _slot(host: Host, interface: str) -> str:
    """Return the place on PCI of an interface, if it is there; virtio's own bus lies in between."""
    path = host.printed(["/bin/readlink", "-f", f"/sys/class/net/{interface}/device"])
    slots = re.findall(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", path)
    return str(slots[-1]) if slots else ""


def _name_at(host: Host, slot: str) -> str:
    at = f"/sys/bus/pci/devices/{slot}"
    found = host.printed(["/bin/sh", "-c", f"ls {at}/net {at}/virtio*/net 2> /dev/null || true"])
    names = [word for word in found.split() if not word.endswith(":")]
    if len(names) != 1:
        raise LabError(f"{host.name} has no interface at {slot}: {found.strip()}")
    return names[0]


def _mac_of(host: Host, interface: str) -> str:
    return host.printed(["/bin/cat", f"/sys/class/net/{interface}/address"]).strip()


def _tell_driver(host: Host, what: str, slot: str) -> None:
    """Have the driver of a card let it go, or take it again: the one that it had."""
    link = f"/tmp/driver-{slot}"
    keep = f"readlink -f /sys/bus/pci/devices/{slot}/driver > {link}; " if what == "unbind" else ""
    host.run(["/bin/sh", "-ec", f"{keep}echo {slot} > $(cat {link})/{what}"])


def _packets(host: Host, interface: str) -> int:
    """Return how many packets an interface received and sent."""
    for name, came, went in _PACKETS_COLUMN.findall(host.printed(["/bin/cat", "/proc/net/dev"])):
        if name == interface:
            return int(came) + int(went)
    raise LabError(f"{host.name} has no interface {interface}")


def _interrupts(host: Host, interface: str) -> int:
    """Return how many interrupts the lines of an interface had; virtio's have their own names."""
    total = 0
    for line in host.printed(["/bin/cat", "/proc/interrupts"]).splitlines()[1:]:
        _, *words = line.split()
        names = [word.rstrip(",") for word in words]
        if any(n == interface or n.startswith((f"{interface}-", "virtio")) for n in names):
            counts = []
            for word in words:
                if not word.isdigit():
                    break
                counts.append(int(word))
            total += sum(counts)
    return total


# What is known of Linux's drivers, by the metric that says it: those of whom it holds.
_KNOWN: Sequence[tuple[str, str, Mapping[str, bool], str]] = (
    (
        "native XDP is a matter of few drivers",
        "xdp",
        {"virtio": True, "e1000": False, "e1000e": False, "rtl8139": False},
        "virtio_net (4.10) and vmxnet3 (6.6) have ndo_bpf; e1000, e1000e and 8139cp have none",
    ),
    (
        "e1000, e1000e and 8139cp tell BQL what they queued",
        "bql",
        {"e1000": True, "e1000e": True, "rtl8139": True, "vmxnet3": False},
        "netdev_sent_queue() in their sources; none where the kernel has no sysfs",
    ),
    (
        "names by the order of probing follow it",
        "by_order",
        dict.fromkeys(_MODELS, True),
        "systemd.net-naming-scheme(7), which is why it has others",
    ),
    (
        "names by the path stay, whatever the order and the card",
        "by_path",
        dict.fromkeys(_MODELS, False),
        "systemd.net-naming-scheme(7)",
    ),
)


def claims(run: Any) -> list[Claim]:
    """Return every claim; a ratio of goodput is none, but stands with its note among them."""
    figures = Figures(run)
    return [*(_known(figures, *each) for each in _KNOWN), _goodput(figures)]


def _found(figures: Figures, model: str, metric: str) -> dict[str, float]:
    return figures.by_kernel(Cell({"load": _STREAM, "arm": model}), metric)


def _known(
    figures: Figures, text: str, metric: str, wanted: Mapping[str, bool], source: str
) -> Claim:
    found = {model: _found(figures, model, metric) for model in wanted}
    told = {
        f"{model} {value:.0f}" + (f" ({kernel})" if len(figures.kernels) > 1 else ""): (
            bool(value) == wanted[model]
        )
        for model, values in found.items()
        for kernel, value in values.items()
    }
    if not told:
        return Claim.unmeasured(text, source, f"needs load={_STREAM}, and a kernel with sysfs")
    return Claim(text, source, ", ".join(told), Finding.of(told.values()))


def _goodput(figures: Figures) -> Claim:
    text, theirs = "a paravirtual interface carries more than an emulated one", "no figure"
    rates = {model: _found(figures, model, "goodput") for model in _MODELS}
    first, others = rates[_VIRTIO], set(_MODELS) - {_VIRTIO, _VMXNET3}
    ratios = {
        (model, kernel): rates[model][kernel] / first[kernel]
        for model in _MODELS
        for kernel in rates[model]
        if kernel in first and model != _VIRTIO
    }
    if not ratios:
        return Claim.unmeasured(text, theirs, f"needs load={_STREAM}, virtio and another one")
    ours = ", ".join(f"{model} {ratio:.2f}" for (model, _), ratio in ratios.items())
    held = [ratio < 1 for (model, _), ratio in ratios.items() if model in others]
    why = "real time of a busy host; virtio without a vnet header has no offload between guests"
    return Claim(text, theirs, f"of virtio's goodput: {ours}", Finding.of(held), why)
