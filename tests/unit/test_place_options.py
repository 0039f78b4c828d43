"""Where hosts are, as typed: what is refused before anything starts, and what is made of it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linklab.agent.replies import Hello
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.places import NICS, PlaceOptions
from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import UsageError
from linklab.events import ignore
from linklab.host.accel import Accel
from linklab.host.cache import Cache, Cached
from linklab.host.qemu import Qemu
from linklab.kernel.requirements import needs_of
from linklab.lab.guests import GuestPlace
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Snapshot
from linklab.lab.topology import parse
from linklab.machine.spec import Boot, MachineType, NicModel
from linklab.scenarios import scenario_named
from linklab.scenarios.aliases import Aliases
from linklab.scenarios.scenario import Scenario
from linklab.trials.subjects import Requirements

NETWORK = parse("a -- r -- b: 10mbit 20ms")
HOSTS = "hosts are a, r, b"
GUESTS = PlaceOptions("guests")
CAPTURED = PlaceOptions(capture=True)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linklab.lab.lab.host_memory_available", lambda: 1000)


def subject(name: str, known: bool = True) -> Subject:
    return Subject(name, "6.12", name * 2, Cached(f"{name}/vmlinux"), known)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (PlaceOptions("moon"), "--place moon: unknown; valid are spaces, guests"),
        (PlaceOptions(nic="e1000"), "--nic e1000 is for --place guests"),
        (replace(GUESTS, nic="e1001"), "--nic e1001: unknown; valid are virtio, e1000, e1000e"),
        (replace(GUESTS, nic="c=e1000"), f"--nic c=e1000: there is no host c; {HOSTS}"),
        (replace(GUESTS, nic="a=e1000,a=virtio"), "host a is there twice"),
        (replace(GUESTS, nic="e1000,virtio"), "one model, or a=MODEL for each host"),
    ],
)
def test_a_wrong_option_is_refused(options: PlaceOptions, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.check(NETWORK, 256, Scenario)
    assert wanted in caught.value.message


@pytest.mark.parametrize("options", [GUESTS, CAPTURED])
def test_a_place_and_links_without_a_topology_are_refused(options: PlaceOptions) -> None:
    with pytest.raises(UsageError, match="has no topology"):
        options.check(None, 256, Scenario)


def test_hosts_behind_one_have_a_place_in_one_guest_and_in_several() -> None:
    few = parse("a -- b[2]: 10mbit")
    for options in (PlaceOptions(), GUESTS):
        options.check(few, 250, Scenario)
    kernels = GUESTS.kernels(KernelOptions("sysfs,b.2=nosysfs"), few)
    assert kernels.names == "sysfs,nosysfs"
    with pytest.raises(UsageError, match=r"there is no host b.3; hosts are a, b, b.1 to b.2"):
        GUESTS.kernels(KernelOptions("sysfs,b.3=nosysfs"), few)


def test_what_crosses_links_in_a_guest_leaves_it_by_a_port_for_each() -> None:
    captured = CAPTURED.lab(lab(), NETWORK, Cache(), ignore)
    assert captured.captures == 2
    assert captured.spec_for(subject("sysfs")).captures == (Path("/dev/null"),) * 2
    needs = {need.option for need in needs_of(Requirements.of(Aliases, captured).needs)}
    assert {"CONFIG_PACKET", "CONFIG_VIRTIO_CONSOLE"} <= needs
    assert PlaceOptions().lab(lab(), NETWORK, Cache(), ignore).captures == 0


def test_more_hosts_than_memory_are_refused() -> None:
    GUESTS.check(NETWORK, 333, Scenario)
    with pytest.raises(UsageError, match="3 hosts need 334 MiB each, this host has 1000 MiB"):
        GUESTS.check(NETWORK, 334, Scenario)


def test_more_links_than_a_guest_has_room_for_are_refused() -> None:
    star = parse("; ".join(f"hub -- h{n}" for n in range(21)))
    with pytest.raises(UsageError, match="host hub has 21 links, a guest has room for 20"):
        GUESTS.check(star, 1, Scenario)


@pytest.mark.parametrize(
    ("kind", "text", "options", "wanted"),
    [
        ("drop", "a -- b", PlaceOptions(), "three hosts in a row are expected"),
        ("drop", "a -- b -- c: 10mbit", PlaceOptions(), "links that do nothing"),
        ("drop", "a -- b -- c", GUESTS, "all hosts are in one guest: --place spaces"),
        ("stack", "a -- b -- c", PlaceOptions(), "two hosts and a link that does nothing"),
        ("aliases", "x -- y", PlaceOptions(), "two hosts and one link between them"),
        ("addresses", "a -- r -- b", PlaceOptions(), "two hosts and one link between them"),
        ("congestion", "a", PlaceOptions(), "two hosts are needed"),
        ("congestion", "a -- b: 10mbit mark=1ms", GUESTS, "a link between guests marks nothing"),
        (
            "congestion",
            "a -- b[20]: 10mbit",
            GUESTS,
            "host b has 21 links, a guest has room",
        ),
        (
            "congestion",
            "a -- b[3]: 10mbit",
            GUESTS,
            "5 hosts need 256 MiB each, this host",
        ),
        ("congestion", "; ".join(f"a -- h{n}" for n in range(29)), CAPTURED, "can write down 28"),
    ],
)
def test_a_scenario_that_a_topology_is_not_for_says_so_before_anything_is_built(
    kind: str, text: str, options: PlaceOptions, wanted: str
) -> None:
    with pytest.raises(UsageError) as caught:
        options.check(parse(text), 256, scenario_named(kind))
    assert wanted in caught.value.message


@pytest.mark.parametrize(
    ("kind", "words", "wanted"),
    [
        ("congestion", {"param": ("trace=drive",)}, "trace=drive: who follows it"),
        ("congestion", {"axis": ("loss=0,1",)}, "bbr, 1 % lost: another link than"),
        ("congestion", {"axis": ("ecn=on",)}, "another link than the topology's"),
        ("mptcp", {"axis": ("operation=dark",)}, "dark needs the middle of each link"),
        ("mptcp", {"axis": ("arm=stripped",)}, "stripped needs the middle of each link"),
        ("congestion", {}, ""),
        ("mptcp", {}, ""),
    ],
)
def test_what_is_done_in_the_middle_of_a_link_takes_hosts_in_one_guest(
    kind: str, words: Any, wanted: str
) -> None:
    options = ScenarioOptions(kind, **words)
    plan, network = options.plan({}), options.kind.network(options.given())
    PlaceOptions().check(network, 256, options.kind, plan)
    try:
        GUESTS.check(network, 256, options.kind, plan)
    except UsageError as error:
        assert wanted and wanted in error.message and "--place spaces" in error.message
    else:
        assert not wanted


def test_nobody_polls_over_a_link_without_a_delay_in_one_guest() -> None:
    for arm, refused in (("busypoll", True), ("epoll-busypoll", True), ("interrupt", False)):
        options = ScenarioOptions("busypoll", axis=(f"arm={arm}",), param=("topology=a -- b",))
        plan, network = options.plan({}), options.kind.network(options.given())
        GUESTS.check(network, 256, options.kind, plan)
        with pytest.raises(UsageError, match="before anybody") if refused else nullcontext():
            PlaceOptions().check(network, 256, options.kind, plan)


def test_guests_take_real_time_and_virtual_time_is_refused_with_the_reason() -> None:
    assert GUESTS.machine(MachineOptions()).clock == "real"
    assert PlaceOptions().machine(MachineOptions()).clock == "auto"
    with pytest.raises(UsageError, match="--clock virtual: each guest would count its own"):
        GUESTS.machine(MachineOptions(clock="virtual"))


def test_kernels_of_guests_have_drivers_and_are_built_once() -> None:
    kernels = GUESTS.kernels(KernelOptions("a=sysfs,b=nosysfs,r=sysfs"), NETWORK)
    assert kernels.names == "sysfs,nosysfs"
    assert kernels.needed == (str(NICS),)
    plain = KernelOptions("sysfs,nosysfs")
    assert PlaceOptions().kernels(plain, NETWORK) is plain


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("c=sysfs", f"--kernel c=sysfs: there is no host c; {HOSTS}"),
        ("a=sysfs,b=nosysfs", "host r has none: r=KERNEL"),
        ("a=sysfs,nosysfs,debug", "one kernel for the hosts that have none of their own"),
    ],
)
def test_a_kernel_for_nobody_or_none_for_somebody_is_refused(names: str, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        GUESTS.kernels(KernelOptions(names), NETWORK)
    assert wanted in caught.value.message


def test_kernels_of_several_hosts_are_tested_as_one() -> None:
    built = [subject("sysfs"), subject("nosysfs")]
    (tested,) = GUESTS.subjects("sysfs,b=nosysfs", built, NETWORK)
    assert tested.name == "sysfs b=nosysfs"
    assert [tested.on(host).kernel for host in "arb"] == [
        Cached("sysfs/vmlinux"),
        Cached("sysfs/vmlinux"),
        Cached("nosysfs/vmlinux"),
    ]
    assert tested.inputs["hosts"]["b"]["sha256"] == "nosysfs" * 2
    assert GUESTS.subjects("sysfs,nosysfs", built, NETWORK) == built


def test_the_drivers_that_a_kernel_lacks_are_named_with_the_option() -> None:
    (need,) = needs_of(GuestPlace(NETWORK, Cached("wire"), NicModel.E1000E).needs)
    assert (need.option, need.module, need.why) == ("CONFIG_E1000E", "e1000e", "--nic e1000e")


def test_each_place_asks_a_kernel_for_what_it_takes_there() -> None:
    def wanted(place: GuestPlace | None) -> set[str]:
        needs = Requirements.of(Aliases, replace(lab(), guests=place)).needs
        return {need.option for need in needs_of(needs)}

    here = wanted(None)
    there = wanted(GuestPlace(NETWORK, Cached("wire"), nics={"b": NicModel.E1000}))
    assert here - there == {
        *("CONFIG_NET_NS", "CONFIG_VETH", "CONFIG_BRIDGE", "CONFIG_NET_SCH_NETEM")
    }
    assert there - here == {"CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_NET", "CONFIG_E1000"}
    assert here & there == {"CONFIG_PROC_SYSCTL"}


@pytest.mark.parametrize("model", NicModel)
def test_every_model_has_a_driver_that_is_looked_for_and_built_in(model: NicModel) -> None:
    *_, need = needs_of([f"nic-{model}"])
    assert f"{need.option}=y" in NICS.read_text()
    assert need.why == f"--nic {model}"


def lab() -> Lab:
    qemu = Qemu(Path("qemu"), "7.2.22")
    return Lab(qemu, Accel.TCG, Boot.DIRECT, None, 1, 256, Cached("initramfs"), None, 60)


def test_a_kernel_has_a_saved_guest_for_each_host_that_is_a_guest() -> None:
    names = ("sysfs", "sysfs on a", "sysfs on b", "nosysfs on a")
    hello = Hello(1, "", "", "", "", 1e-9, 1, 1, 1.0, 7)
    saved = {name: Snapshot(Cached(f"guest {name}"), hello) for name in names}

    def found(place: GuestPlace | None) -> list[str]:
        with_saved = replace(lab(), snapshots=saved, guests=place)
        return [guest.folder.name for guest in with_saved.saved_guests("sysfs")]

    assert found(None) == ["guest sysfs"]
    assert found(GuestPlace(NETWORK, Cached("wire"))) == ["guest sysfs on a", "guest sysfs on b"]


def machines(**more: Any) -> dict[str, MachineType]:
    place = GuestPlace(NETWORK, Cached("wire"), **more)
    joined = replace(lab(), guests=place)
    assert joined.machines == 3
    specs = joined.specs_for(replace(subject("sysfs"), hosts={"b": subject("new", known=False)}))
    assert [len(spec.nics) for spec in specs.values()] == [1, 2, 1]
    return {host: spec.machine for host, spec in specs.items()}


def test_a_guest_has_the_fastest_machine_that_its_kernel_and_interfaces_take() -> None:
    fast, slow = MachineType.MICROVM, MachineType.PC
    assert machines() == {"a": fast, "r": fast, "b": slow}
    assert machines(nics={"a": NicModel.E1000}) == {"a": slow, "r": fast, "b": slow}
