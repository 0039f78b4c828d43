"""Where the hosts of a topology are: the options that say so, and the lab that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from linklab.commands.kernels import KernelOptions, split_host
from linklab.commands.machines import MachineOptions
from linklab.errors import UsageError
from linklab.events import Listener
from linklab.options import choose, option, split_list
from linklab.paths import IMAGES

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from linklab.host.cache import Cache
    from linklab.lab.lab import Lab, Subject
    from linklab.lab.topology import Topology
    from linklab.machine.spec import NicModel
    from linklab.scenarios.scenario import Scenario
    from linklab.trials.plan import Plan

NICS = IMAGES / "networks" / "nics.config"


def _nics() -> Iterable[str]:
    from linklab.machine.spec import NicModel

    return NicModel


class Place(StrEnum):
    """Where hosts are. Samples of different places are never compared."""

    SPACES = "spaces"
    GUESTS = "guests"


def by_host(option: str, text: str, network: Topology | None) -> tuple[list[str], dict[str, str]]:
    """Return the words of a list that stand for all hosts, and those for one: `a=WORD`.

    Raises `UsageError` for a host that there is not.
    """
    words: list[str] = []
    hosts: dict[str, str] = {}
    for each in split_list(option, text):
        host, word = split_host(each)
        if not host:
            words.append(word)
            continue
        if network is None or host not in network.everyone:
            known = ", ".join(network.roll) if network else "none"
            raise UsageError(f"--{option} {each}: there is no host {host}; hosts are {known}")
        if host in hosts:
            raise UsageError(f"--{option} {text}: host {host} is there twice")
        hosts[host] = word
    return words, hosts


@dataclass(frozen=True)
class PlaceOptions:
    """Where hosts are, as typed."""

    place: str = option(
        Place.SPACES.value,
        "where a topology's hosts are: spaces (network namespaces of one guest) or guests (a "
        "guest for each host, in real time; then --kernel a=KERNEL,b=KERNEL names one for each)",
        values=Place,
    )
    nic: str = option(
        "",
        "with --place guests, the model of the network interfaces: virtio, e1000, e1000e, vmxnet3 "
        "or rtl8139; a=MODEL for one host, comma-separated; default virtio",
        values=_nics,
    )
    capture: bool = option(
        False, "write what crosses each link of the topology to link-*.pcap in the results"
    )

    @property
    def is_guests(self) -> bool:
        """Whether each host is a guest of its own. Raises `UsageError`."""
        return choose("place", self.place, Place) is Place.GUESTS

    def check(
        self,
        network: Topology | None,
        memory: int,
        kind: type[Scenario],
        plan: Plan | None = None,
    ) -> None:
        """Raise `UsageError` for what is wrong by itself, or does not fit topology or scenario.

        `memory` is each guest's, in MiB; `plan` is of what is measured there.
        """
        if network is not None and (why := kind.unfit(network, in_one_guest=not self.is_guests)):
            raise UsageError(f"{kind.name} on `{network}`: {why}")
        if plan is not None:
            self._check_cells(plan)
        if self.is_guests:
            self._check_guests(network, memory, kind)
        else:
            self._check_spaces(network)

    def _check_spaces(self, network: Topology | None) -> None:
        from linklab.lab.spaces import check
        from linklab.machine.spec import MOST_CAPTURES

        if self.nic:
            raise UsageError(f"--nic {self.nic} is for --place guests")
        if self.capture and network is None:
            raise UsageError("--capture: this scenario has no topology, and so no links")
        if network is not None:
            check(network)
            if self.capture and (count := len(network.links)) > MOST_CAPTURES:
                raise UsageError(
                    f"--capture: {network} has {count} links, a guest can write down "
                    f"{MOST_CAPTURES}"
                )

    def _check_guests(self, network: Topology | None, memory: int, kind: type[Scenario]) -> None:
        from linklab.lab.lab import host_memory_available
        from linklab.machine.spec import MOST_NICS

        if network is None:
            raise UsageError("--place guests: this scenario has no topology, and so no hosts")
        for host in network.everyone:
            if len(network.ports_of(host)) > MOST_NICS:
                raise UsageError(
                    f"--place guests: host {host} has {len(network.ports_of(host))} links, a guest "
                    f"has room for {MOST_NICS}"
                )
        if kind.nic_axis and self.nic:
            raise UsageError(
                f"--nic {self.nic}: {kind.name} has models of its own: --axis {kind.nic_axis}=MODEL"
            )
        if any(way.mark for link in network.links for way in (link.there, link.back)):
            raise UsageError(f"--place guests: {network}: a link between guests marks nothing")
        self._models(network)
        available, count = host_memory_available(), len(network.everyone)
        if available is not None and memory * count > available:
            raise UsageError(
                f"--place guests: {count} hosts need {memory} MiB each, this host has "
                f"{available} MiB available"
            )

    def _check_cells(self, plan: Plan) -> None:
        for cell in plan.cells:
            known, given = plan.known(cell), plan.given_in(cell)
            if why := plan.kind.misplaced(known, given, in_one_guest=not self.is_guests):
                raise UsageError(f"--place {self.place}: {plan.shape.in_words(cell)}: {why}")

    def _models(self, network: Topology | None) -> tuple[NicModel, dict[str, NicModel]]:
        from linklab.machine.spec import NicModel

        words, hosts = by_host("nic", self.nic, network) if self.nic else ([], {})
        if len(words) > 1:
            raise UsageError(f"--nic {self.nic}: one model, or a=MODEL for each host")
        general = choose("nic", words[0], NicModel) if words else NicModel.VIRTIO
        return general, {host: choose("nic", word, NicModel) for host, word in hosts.items()}

    def machine(
        self, options: MachineOptions, kind: type[Scenario] | None = None
    ) -> MachineOptions:
        """Return the machine's options with what the place decides. Raises `UsageError`."""
        from linklab.machine.spec import Boot, Clock, MachineType

        if not self.is_guests:
            return options
        if kind is not None and kind.nic_axis:
            if choose("boot", options.boot, Boot) is Boot.RESUME:
                raise UsageError(f"--boot resume: {kind.name} is about guests that begin to work")
            if options.checked_machine() is MachineType.MICROVM:
                raise UsageError(f"--machine microvm: it has no PCI, so no models for {kind.name}")
            options = replace(options, machine=MachineType.PC.value)
        if choose("clock", options.clock, Clock) is Clock.VIRTUAL:
            raise UsageError(
                "--clock virtual: each guest would count its own instructions, and what one sends "
                "could reach another before its own clock says that it was sent: --place guests "
                "takes real time, --place spaces either"
            )
        return replace(options, clock=Clock.REAL.value)

    def kernels(self, options: KernelOptions, network: Topology | None) -> KernelOptions:
        """Return the kernels to build: each once, with drivers for the interfaces."""
        if not self.is_guests:
            return options
        words, hosts = by_host("kernel", options.names, network)
        if hosts and len(words) > 1:
            raise UsageError(
                f"--kernel {options.names}: one kernel for the hosts that have none of their own"
            )
        if hosts and not words and network is not None:
            for host in network.everyone:
                if host not in hosts:
                    raise UsageError(
                        f"--kernel {options.names}: host {host} has none: {host}=KERNEL, or one "
                        "more without a host's name"
                    )
        names = ",".join(dict.fromkeys((*words, *hosts.values())))
        return replace(options, names=names, needed=(*options.needed, str(NICS)))

    def subjects(
        self, typed: str, built: Sequence[Subject], network: Topology | None
    ) -> list[Subject]:
        """Return what is tested: the kernels, or, where hosts have their own, all as one."""
        words, hosts = by_host("kernel", typed, network) if self.is_guests else ([], {})
        if not hosts:
            return list(built)
        by_name = {subject.name: subject for subject in built}
        own = {host: by_name[word] for host, word in hosts.items()}
        others = by_name[words[0]] if words else next(iter(own.values()))
        return [
            replace(
                others,
                name=" ".join((*words, *(f"{host}={word}" for host, word in hosts.items()))),
                inputs={"hosts": _described(own), **others.inputs},
                hosts=own,
            )
        ]

    def lab(self, lab: Lab, network: Topology | None, cache: Cache, listener: Listener) -> Lab:
        """Return a lab whose hosts are where they are wanted."""
        if network is None:
            return lab
        if not self.is_guests:
            return replace(lab, captures=len(network.links) if self.capture else 0)
        from linklab.image.programs import WIRE, build_static
        from linklab.lab.guests import GuestPlace

        general, hosts = self._models(network)
        wire = build_static(WIRE, cache, listener).cached(WIRE.file)
        return replace(lab, guests=GuestPlace(network, wire, general, hosts, self.capture))


def _described(kernels: Mapping[str, Subject]) -> dict[str, dict[str, str]]:
    return {
        host: {"name": each.name, "release": each.release, "sha256": each.sha256}
        for host, each in kernels.items()
    }
