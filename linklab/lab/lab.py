"""The lab as set up for one run: what boots, on what machine, under which accelerator."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from linklab.agent.line import PollHandler
from linklab.agent.replies import Hello
from linklab.console.report import NO_NOISE, Noise
from linklab.errors import GuestHung, LabError, RequestRefused, UsageError
from linklab.events import Listener, step
from linklab.host.accel import Accel
from linklab.host.cache import Cache, Cached, key_of
from linklab.host.cpus import VIRTUAL_TSC_KHZ, own_cores
from linklab.host.qemu import Qemu
from linklab.host.run import shown
from linklab.lab.captures import capture_of, whole_packets
from linklab.lab.console_access import Hold
from linklab.lab.guests import GuestNetwork, GuestPlace
from linklab.lab.recording import recorded
from linklab.lab.session import (
    Session,
    Snapshot,
    Start,
    open_session,
    open_sessions,
    save_session,
)
from linklab.lab.spaces import over_a_cut_link
from linklab.lab.wire import Wire
from linklab.machine.commandline import DISTRIBUTION, RECORDING, measuring_command_line
from linklab.machine.spec import (
    Boot,
    Clock,
    DirectBoot,
    IsoBoot,
    MachineSpec,
    MachineType,
    NicModel,
    Share,
    qemu_argv,
)

_MEMORY_STEP = 64
_SNAPSHOT_SCHEMA = 2  # raise it when a guest saved before is of no use any more
_LABEL_LENGTH = 100  # file systems take names of 255 bytes
MINIMUM_MEMORY = 256
SHELL_MIB = 128  # what a person at a shell needs, on a plain kernel
MEMORY_LIMITS = (64, 1 << 20)
CPU_LIMITS = (1, 64)  # the lab's kernels have CONFIG_NR_CPUS=64


def file_label(name: str) -> str:
    """Return a kernel's name, which may be a long path, as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-_LABEL_LENGTH:].strip("_") or "kernel"


@dataclass(frozen=True)
class Subject:
    """A kernel under test, with the files that boot it, as every host's cache calls them.

    `kernel` is what QEMU loads: a vmlinux with a PVH entry, or a bzImage.
    `known` says that the lab configured it, so it has what `microvm` needs.
    `symbols` is a vmlinux with debug information, where there is one.
    `initramfs` is the image's with modules of this kernel, which `modules`
    names with their SHA-256; without one it is the lab's. `parameters` go on
    its command line, unless it boots from an ISO, which has its own. `hosts`
    are the kernels of hosts that have another one, where hosts are guests.
    """

    name: str
    release: str
    sha256: str
    kernel: Cached
    known: bool
    iso: Cached | None = None
    image_bytes: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    symbols: Cached | None = None
    initramfs: Cached | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    hosts: Mapping[str, Subject] = field(default_factory=dict)

    def on(self, host: str) -> Subject:
        """Return the kernel of a host."""
        return self.hosts.get(host, self)

    @property
    def label(self) -> str:
        """Its name as part of a file's name."""
        return file_label(self.name)


class Fleet(Protocol):
    """Hosts that do batches of trials, and whatever else guests are wanted for.

    Sent to one of them it is None.

    `measured` has the console logs of the guests that each host has run.
    """

    measured: dict[str, list[str]]

    def events(self, batch: Any, folder: Path) -> Iterator[Any]:
        """Do a batch there: see `Batch.events` of linklab/trials/engine.py."""

    def each(self, parts: Sequence[Any], folder: Path) -> Iterator[tuple[Any, Any]]:
        """Do parts there: see `Part` and `Done` of linklab/fleet/worker.py."""


@dataclass(frozen=True)
class Lab:
    """Everything about a run's machines but the kernel. `memory` is in MiB.

    It can be sent to a host whose cache has the same artefacts: paths are found where a
    guest is opened. Only one with a `hold`, a `meanwhile` or `shares` is of use on this host alone.
    """

    qemu: Qemu
    accel: Accel
    boot: Boot
    machine: MachineType | None
    cpus: int
    memory: int
    initramfs: Cached
    tsc_khz: int | None
    boot_limit: float
    image: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of its parts
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)  # by the kernel's name
    noise: Noise = NO_NOISE  # reports of kernels that are known and do not count
    clock: Clock = Clock.REAL
    slowness: float = 1.0  # how many times as long guests may take here as elsewhere: for deadlines
    hold: Hold | None = None  # keeps a guest that failed running, for a person
    meanwhile: Callable[[], None] | None = None  # what this process does while a guest boots
    records: bool = False  # a guest that fails leaves its recording beside its console's log
    shares: tuple[Share, ...] = ()  # folders of the host that its guests may mount
    boots: int = 1  # saved guests of each kernel, which guests go on from by turns
    guests: GuestPlace | None = None  # where each host of a topology is a guest of its own
    captures: int = 0  # links between the hosts of one guest that it writes down what crosses
    fleet: Fleet | None = None  # where its batches are done, if not here

    @property
    def machines(self) -> int:
        """How many machines work together on one trial."""
        return len(self.guests.topology.everyone) if self.guests else 1

    @property
    def clock_name(self) -> str:
        """What the seconds of its samples are, as results keep it."""
        return "recorded" if self.records else self.clock.value

    def machine_for(self, subject: Subject) -> MachineType:
        """Return the machine type that boots a kernel fastest, or the one asked for."""
        if self.boot is Boot.ISO:
            return MachineType.PC
        if self.machine is not None:
            return self.machine
        return MachineType.MICROVM if subject.known else MachineType.PC

    def spec_for(self, subject: Subject) -> MachineSpec:
        """Return the machine that a kernel is measured on."""
        machine = self.machine_for(subject)
        if self.boot is Boot.ISO:
            if subject.iso is None:
                raise LabError(f"there is no ISO of kernel {subject.name}")
            boot: DirectBoot | IsoBoot = IsoBoot(subject.iso.path)
        else:
            blank = DirectBoot(Path(), Path())
            device = MachineSpec(blank, self.accel, machine, clock=self.clock).agent_device
            spared = () if subject.known else DISTRIBUTION
            words = measuring_command_line(
                device,
                self.tsc_khz,
                stays=self.hold is not None,
                takes_turns=self.clock is Clock.VIRTUAL,
            )
            recorded_words = RECORDING if self.records else ()
            words += (*spared, *subject.parameters, *recorded_words)
            initramfs = subject.initramfs or self.initramfs
            boot = DirectBoot(subject.kernel.path, initramfs.path, words)
        return MachineSpec(
            boot,
            self.accel,
            machine,
            self.cpus,
            self.memory,
            clock=self.clock,
            shares=self.shares,
            captures=(Path("/dev/null"),) * self.captures,
        )

    def specs_for(self, subject: Subject) -> dict[str, MachineSpec]:
        """Return all machines that a kernel is measured on by the hosts that they are.

        Their interfaces lead nowhere yet. Where there is one, it has no name.
        """
        if self.guests is None:
            return {"": self.spec_for(subject)}
        found = {}
        for host in self.guests.topology.everyone:
            is_on_pci = self.guests.model(host) is not NicModel.VIRTIO
            lab = replace(self, machine=MachineType.PC) if is_on_pci else self
            nics = self.guests.interfaces(host)
            found[host] = replace(lab.spec_for(subject.on(host)), nics=nics)
        return found

    def argv_for(self, subject: Subject) -> tuple[str, ...]:
        """Return QEMU's command line for a kernel, without its ports."""
        return qemu_argv(self.qemu.path, self.spec_for(subject))

    def command_lines(self, subjects: Sequence[Subject]) -> dict[str, str]:
        """Return QEMU's command lines, without their ports, by the machines' names."""
        return {
            _machine_name(subject, host): shown(qemu_argv(self.qemu.path, spec))
            for subject in subjects
            for host, spec in self.specs_for(subject).items()
        }

    @contextmanager
    def session(self, subject: Subject, console_log: Path, draw: int = 0) -> Iterator[Session]:
        """Boot a guest with a kernel; see `open_session`.

        In virtual time guests of the same `draw` get the same entropy. Raises `LabError`
        for an artefact that this host's cache lacks.
        """
        captures = tuple(capture_of(console_log, link) for link in range(self.captures))
        spec = replace(self.spec_for(subject), seed=draw, captures=captures)
        saved = self.snapshots.get(_saved_name(subject.name, self.saved_number(draw)))
        symbols = self._found(subject, saved)
        with ExitStack() as stack:
            stack.enter_context(whole_packets(captures))
            if self.records:
                kept = recorded(self.qemu, spec, console_log, symbols)
                spec = stack.enter_context(kept)
            opened = open_session(
                self.qemu.path,
                spec,
                console_log,
                self.boot_limit,
                saved,
                noise=self.noise,
                symbols=symbols,
                hold=self.hold,
                started=self.meanwhile if saved is None else None,
            )
            yield stack.enter_context(opened)

    @contextmanager
    def network(
        self, subject: Subject, console_log: Path, seed: int, draw: int = 0
    ) -> Iterator[GuestNetwork]:
        """Boot the guests of its topology, joined by its links; see `open_sessions`.

        `seed` decides what lossy links lose, `draw` which saved guests they go on from. Each
        console has a log of its own beside `console_log`, with the host's name behind.
        """
        place = self.guests
        assert place is not None
        with Wire(place.wire.found(), place.topology.all_links, seed) as wire:
            starts = []
            for host, spec in self.specs_for(subject).items():
                linked = replace(spec, nics=place.joined(host, wire, console_log))
                log = console_log.with_name(f"{console_log.stem}-{host}{console_log.suffix}")
                name = _machine_name(subject.on(host), host)
                saved = self.snapshots.get(_saved_name(name, self.saved_number(draw)))
                symbols = self._found(subject.on(host), saved)
                starts.append(Start(linked, log, saved, symbols, host))

            def broken() -> None:
                raise wire.died()

            joined: GuestNetwork | None = None
            try:
                with open_sessions(
                    self.qemu.path,
                    starts,
                    self.boot_limit * max(1, self.machines / len(own_cores())),
                    self.noise,
                    self.hold,
                    [PollHandler(wire.pidfd, broken)] if wire.pidfd is not None else [],
                    wire.let_go,
                ) as opened:
                    names = (start.name for start in starts)
                    sessions = dict(zip(names, opened, strict=True))
                    joined = GuestNetwork(place.topology, sessions, wire)
                    yield joined
            except (GuestHung, RequestRefused) as fault:
                if joined is None or not joined.cut:
                    raise
                judged = over_a_cut_link(place.topology, joined.cut, fault)
                raise judged from (None if judged is fault else fault)

    def _found(self, subject: Subject, saved: Snapshot | None) -> Path | None:
        """Look for all that opens a guest; return its kernel's symbols. Raises `LabError`."""
        for file in self._files(subject, saved):
            file.found()
        return subject.symbols.path if subject.symbols else None

    def _files(self, subject: Subject, saved: Snapshot | None) -> list[Cached]:
        """Return what this host's cache must have to open a guest."""
        direct = (subject.kernel, subject.initramfs or self.initramfs)
        booted = (subject.iso,) if self.boot is Boot.ISO else direct
        return [file for file in (*booted, subject.symbols, saved and saved.folder) if file]

    def with_nics(self, model: str) -> Lab:
        """Return the same lab, whose guests have interfaces of a model, as `--nic` names it."""
        assert self.guests is not None, "only guests have interfaces"
        return replace(self, guests=replace(self.guests, nic=NicModel(model), nics={}))

    def recording(self) -> Lab:
        """Return the same lab with guests that are recorded, which decides their machine."""
        return replace(self, machine=MachineType.PC, tsc_khz=VIRTUAL_TSC_KHZ, records=True)

    def with_snapshots(
        self, subjects: Sequence[Subject], cache: Cache, listener: Listener, draw: int = 0
    ) -> Lab:
        """Return the same lab with saved guests of each kernel too, saving what is missing.

        In virtual time guests saved with the same `draw` had the same entropy. Where there are
        several of each, a kernel that is there twice has others the second time: what a
        comparison with itself shows must have the boots in it.
        """
        same = [subject.sha256 for subject in subjects]
        saved = {
            _saved_name(_machine_name(subject.on(host), host), number): self._saved(
                subject.on(host),
                replace(spec, seed=draw + number - 1),
                number + same[:place].count(subject.sha256) * self.boots * (self.boots > 1),
                cache,
                listener,
            )
            for number in range(1, self.boots + 1)
            for place, subject in enumerate(subjects)
            for host, spec in self.specs_for(subject).items()
        }
        return replace(self, snapshots={**self.snapshots, **saved})

    def saved_number(self, draw: int) -> int:
        """Return the number, from 1 on, of the saved guest that one of this draw goes on from."""
        return 1 + draw % self.boots

    def saved_guests(self, kernel: str) -> list[Snapshot]:
        """Return a saved guest of a kernel, by its name: one for each host that is a guest."""
        hosts = self.guests.topology.everyone if self.guests else ("",)
        names = [f"{kernel} on {host}" if host else kernel for host in hosts]
        return [self.snapshots[name] for name in names if name in self.snapshots]

    def _saved(
        self, subject: Subject, spec: MachineSpec, number: int, cache: Cache, listener: Listener
    ) -> Snapshot:
        """Return the guest saved with this kernel, image, machine, QEMU and host CPU."""
        binary = self.qemu.path.stat()
        key = {
            "schema": _SNAPSHOT_SCHEMA,
            "kernel": cache.hash_of(subject.kernel.found()),
            "image": dict(self.image),
            "modules": dict(subject.modules),
            "argv": qemu_argv(self.qemu.path, spec),
            "qemu": [self.qemu.version, binary.st_size, binary.st_mtime_ns],
            "cpu": host_cpu(),
            **({"number": number} if number > 1 else {}),
        }

        def make(folder: Path) -> Mapping[str, Any]:
            which = f" ({1 + (number - 1) % self.boots} of {self.boots})" if self.boots > 1 else ""
            with step(listener, f"save a guest with kernel {subject.name}{which}"):
                hello = save_session(self.qemu.path, spec, folder, self.boot_limit)
            return {"hello": asdict(hello)}

        name = f"the saved guest with kernel {subject.name}"
        artefact = cache.get("snapshot", key_of(key), make, listener, name)
        return Snapshot(Cached.at(artefact.path), Hello(**artefact.about["hello"]))


def _saved_name(name: str, number: int) -> str:
    return f"{name}, boot {number}" if number > 1 else name


def _machine_name(subject: Subject, host: str) -> str:
    return f"{subject.name} on {host}" if host else subject.name


def choose_memory(asked: int | None, needed: int, what: str) -> int:
    """Return the guest's memory in MiB: what was asked for, or what is needed.

    Raises `UsageError` when what was asked for is too little, or when this
    host does not have it.
    """
    if asked is not None and asked < needed:
        raise UsageError(f"{what} need {needed} MiB of guest memory, --memory gives {asked}")
    memory = asked or max(MINIMUM_MEMORY, -(-needed // _MEMORY_STEP) * _MEMORY_STEP)
    available = host_memory_available()
    if available is not None and memory > available:
        wish = f"{what} need a guest of {memory} MiB," if asked is None else f"--memory {asked}:"
        raise UsageError(f"{wish} this host has {available} MiB available")
    return memory


def host_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what the host's CPU calls itself."""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def host_memory_available(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the MiB that the host could give to a guest, or None where it does not say."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    return int(found[1]) // 1024 if found else None
