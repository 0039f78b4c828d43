"""What a machine is, as a value, and the QEMU command line that makes it.

`qemu_argv` is a pure function: the same spec gives the same words, without a
look at the host. What depends on the host (does KVM work, which file
descriptors are open) is decided before and stands in the spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from linklab.host.accel import Accel


class MachineType(StrEnum):
    """QEMU's machine types that the lab knows.

    `MICROVM` has no firmware worth the name, no PCI and one UART: it boots
    fastest. `PC` has a BIOS and two UARTs: it boots ISOs, and kernels that
    were not configured by the lab.
    """

    PC = "pc"
    MICROVM = "microvm"


class NicModel(StrEnum):
    """The network interfaces that QEMU emulates and Linux has drivers for, as `--nic` names them.

    All but `VIRTIO` are on PCI, which `MICROVM` lacks.
    """

    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    VMXNET3 = "vmxnet3"
    RTL8139 = "rtl8139"


class Clock(StrEnum):
    """What a guest's seconds are. Samples of different clocks are never compared.

    `REAL`: time passes as on the host. `VIRTUAL`: QEMU counts the instructions
    that the guest executes, and each takes one nanosecond; a guest that waits
    goes on at once to its next timer (docs/virtual-time.md).
    """

    AUTO = "auto"
    REAL = "real"
    VIRTUAL = "virtual"


class Boot(StrEnum):
    """How a guest comes to life. Samples of different boots are never compared."""

    DIRECT = "direct"
    ISO = "iso"
    RESUME = "resume"


@dataclass(frozen=True)
class DirectBoot:
    """QEMU loads the kernel and the initramfs itself."""

    kernel: Path
    initramfs: Path
    command_line: tuple[str, ...] = ()


@dataclass(frozen=True)
class IsoBoot:
    """The BIOS loads isolinux from a CD-ROM, and that the rest."""

    iso: Path


@dataclass(frozen=True)
class FdPort:
    """A serial port whose host end is a connected socket that QEMU inherits."""

    fd: int


@dataclass(frozen=True)
class TerminalPort:
    """A serial port on the terminal that QEMU was started on."""


@dataclass(frozen=True)
class NullPort:
    """A serial port that nobody listens at: what a replayed guest hears is in its recording."""


@dataclass(frozen=True)
class PipePort:
    """A serial port on a pair of pipes: `path` with `.in` and `.out` behind it."""

    path: Path


Port = FdPort | TerminalPort | NullPort | PipePort


@dataclass(frozen=True)
class RamFile:
    """Guest memory in a file: written through, or, `private`, only read and copied on write.

    Any number of machines can share one private file; none changes it.
    """

    path: Path
    private: bool


@dataclass(frozen=True)
class Recording:
    """A file with all that a guest cannot know beforehand: what comes in, and when.

    QEMU writes it, or, `replayed`, makes the guest do the very same once more.
    """

    path: Path
    replayed: bool = False


@dataclass(frozen=True)
class Share:
    """A folder of the host that the guest may mount, by its tag, over 9p.

    The guest's root acts as the user who runs QEMU: it needs no right to more.
    """

    tag: str
    folder: Path
    writable: bool = False


@dataclass(frozen=True)
class Nic:
    """A network interface. `fd` is a datagram socket, a frame each, that QEMU inherits.

    `capture` is a file for what crosses it, as tcpdump has it, written by QEMU.
    """

    model: NicModel
    mac: str
    fd: int = -1
    capture: Path | None = None


MOST_CAPTURES = 28  # a virtio serial device has 31 ports, of which the agent may have one
MOST_NICS = 20  # microvm has 24 slots for virtio, and `pc` 32 for PCI; other devices take some


@dataclass(frozen=True)
class MachineSpec:
    """Everything that decides what a machine is.

    `memory` is in MiB. `agent` is the agent's port: the second UART on `pc`, a
    virtio port on `microvm`, which has one UART. `control` is for QMP. With
    `incoming` QEMU waits for a saved state instead of starting the guest.
    `debugger` is the unix socket at which QEMU waits for gdb, before the
    guest's first instruction. `clock` is never `AUTO`; `seed` is what QEMU
    draws its random numbers with in virtual time. `recording` wants TCG, one CPU,
    a clock that is not virtual, and `pc`: loading a snapshot makes a virtio port
    start a timer that is not in the recording (fetch_active_ports_list in QEMU's
    hw/char/virtio-serial-bus.c). `captures` are files, each of which the guest writes to by
    a port of its own, whatever becomes of the guest: see `capture_port`.
    """

    boot: DirectBoot | IsoBoot
    accel: Accel
    machine: MachineType = MachineType.MICROVM
    cpus: int = 1
    memory: int = 256
    console: Port | None = None
    agent: Port | None = None
    control: Port | None = None
    screen: bool = False
    ram: RamFile | None = None
    incoming: bool = False
    debugger: Path | None = None
    clock: Clock = Clock.REAL
    seed: int = 0
    recording: Recording | None = None
    shares: tuple[Share, ...] = ()
    nics: tuple[Nic, ...] = ()
    captures: tuple[Path, ...] = ()

    @property
    def is_virtual(self) -> bool:
        """Whether QEMU counts instructions instead of seconds."""
        return self.clock is Clock.VIRTUAL

    @property
    def agent_device(self) -> str:
        """What the agent's port is called in the guest, under /dev."""
        return "ttyS1" if self._agent_has_uart else "vport0p1"

    @property
    def _agent_has_uart(self) -> bool:
        # A UART takes 16 bytes while the guest stands still, a virtio port a whole request.
        return self.machine is MachineType.PC and not self.is_virtual


def qemu_argv(qemu: Path | str, spec: MachineSpec) -> tuple[str, ...]:
    """Return the command line that makes the machine. Has no side effects."""
    return (
        str(qemu),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-name", "linklab"),
        *_machine_args(spec),
        *(_counting_args(spec.seed) if spec.is_virtual else ()),
        *_screen_args(spec),
        *_port_args("console", spec.console),
        *(("-serial", "chardev:console") if spec.console else ("-serial", "none")),
        *_port_args("agent", spec.agent),
        *_agent_device_args(spec),
        *_share_args(spec),
        *_nic_args(spec),
        *_port_args("control", spec.control),
        *(("-mon", "chardev=control,mode=control") if spec.control else ()),
        *_boot_args(spec.boot),
        *(("-incoming", "defer") if spec.incoming else ()),
        *_debugger_args(spec.debugger),
        *_recording_args(spec.recording),
    )


def _machine_args(spec: MachineSpec) -> tuple[str, ...]:
    # KVM: the host's own CPU, so that what is measured is this machine.  TCG:
    # a fixed model, because `max` differs from one QEMU to the next; with an
    # APIC timer that never stops, or Linux wants a second timer to fall back
    # on, which microvm lacks, and stays without high-resolution timers
    # (tick_is_oneshot_available in kernel/time/tick-oneshot.c).
    cpu = "host" if spec.accel is Accel.KVM else "qemu64,+arat"
    if spec.accel is Accel.TCG and spec.shares:
        # For this host's programs: many are compiled for x86-64-v2 (a numpy of PyPI),
        # and KVM in the guest does with less of the emulator where it has NPT.
        cpu += ",+ssse3,+sse4.1,+sse4.2,+popcnt,+npt"
    # Linux takes microvm for a machine without an 8259 and leaves that as the
    # firmware did; a tick of the PIT that it passes on is then interrupt 0, a
    # division error.  With QEMU 10 that ends nearly every boot.
    devices = ",pit=off,pic=off" if spec.machine is MachineType.MICROVM else ""
    backend = ",memory-backend=ram" if spec.ram else ""
    # One thread translates for all CPUs: with one each, QEMU before 8.1 runs code
    # that another CPU has already patched, and a healthy kernel crashes at a static
    # key (fixed by its commit deba78709a; seen as `Oops: int3` and in netif_rx_internal).
    thread = ",thread=single" if spec.accel is Accel.TCG and spec.cpus > 1 else ""
    return (
        *("-machine", f"{spec.machine.value}{devices}{backend}"),
        *("-accel", f"{spec.accel.value}{thread}"),
        *("-cpu", cpu),
        *("-smp", str(spec.cpus)),
        *("-m", f"{spec.memory}M"),
        *_ram_args(spec.ram, spec.memory),
    )


def _counting_args(seed: int) -> tuple[str, ...]:
    """Return what makes a guest's time, and all that it sees, depend on its instructions alone."""
    return (
        # 2**0 ns an instruction; who waits goes on at once to the next timer
        # (icount_start_warp_timer in QEMU's softmmu/icount.c).
        *("-icount", "shift=0,sleep=off,align=off"),
        *("-rtc", "base=2026-01-01,clock=vm"),
        *("-seed", str(seed)),
        # The agent stops the machine with it (guest/agent/turn.c).
        *("-device", "pvpanic", "-action", "panic=pause"),
    )


def _ram_args(ram: RamFile | None, memory: int) -> tuple[str, ...]:
    if ram is None:
        return ()
    share = "off" if ram.private else "on"
    where = f"size={memory}M,mem-path={_escaped(ram.path)},share={share}"
    return ("-object", f"memory-backend-file,id=ram,{where}")


def _screen_args(spec: MachineSpec) -> tuple[str, ...]:
    if spec.screen:
        return ("-vga", "std")
    return ("-display", "none")


def _port_args(name: str, port: Port | None) -> tuple[str, ...]:
    match port:
        case FdPort(fd):
            return ("-chardev", f"socket,id={name},fd={fd}")
        case TerminalPort():
            return ("-chardev", f"stdio,id={name},mux=on,signal=off", "-mon", f"chardev={name}")
        case NullPort():
            # `null` would tell the guest that nobody has opened the port.
            return ("-chardev", f"file,id={name},path=/dev/null")
        case PipePort(path):
            return ("-chardev", f"pipe,id={name},path={_escaped(path)}")
        case None:
            return ()


def capture_port(number: int) -> str:
    """Return what the port of a machine's capture, counted from 0, is called in the guest."""
    return f"/dev/vport0p{_FIRST_CAPTURE + number}"


_FIRST_CAPTURE = 2  # behind the agent's port, and that of a console


def _agent_device_args(spec: MachineSpec) -> Iterator[str]:
    if spec.agent is None:
        return
    if spec._agent_has_uart:
        yield from ("-serial", "chardev:agent")
        if not spec.captures:
            return
    bus = "pci" if spec.machine is MachineType.PC else "device"
    ports = _FIRST_CAPTURE + len(spec.captures)
    yield from ("-device", f"virtio-serial-{bus},max_ports={ports}")
    if not spec._agent_has_uart:
        yield from ("-device", "virtserialport,chardev=agent,name=linklab.agent")
    for number, path in enumerate(spec.captures):
        name = f"capture{number}"
        yield from ("-chardev", f"file,id={name},path={_escaped(path)}")
        port = f"nr={_FIRST_CAPTURE + number},name=linklab.{name}"
        yield from ("-device", f"virtserialport,chardev={name},{port}")


def _share_args(spec: MachineSpec) -> Iterator[str]:
    bus = "pci" if spec.machine is MachineType.PC else "device"
    for share in spec.shares:
        # `none`: who QEMU runs as owns what the guest makes.  `remap`: the folder may hold
        # several file systems, whose inode numbers would meet in the guest.
        where = f"path={_escaped(share.folder)},security_model=none,multidevs=remap"
        where += "" if share.writable else ",readonly=on"
        yield from ("-fsdev", f"local,id={share.tag},{where}")
        yield from ("-device", f"virtio-9p-{bus},fsdev={share.tag},mount_tag={share.tag}")


def nic_name(number: int) -> str:
    """Return what QEMU calls a machine's interface, counted from 0."""
    return f"nic{number}"


def _nic_args(spec: MachineSpec) -> Iterator[str]:
    for number, nic in enumerate(spec.nics):
        name = nic_name(number)
        yield from ("-netdev", f"dgram,id={name},local.type=fd,local.str={nic.fd}")
        device = nic.model.value
        if nic.model is NicModel.VIRTIO:
            bus = "pci" if spec.machine is MachineType.PC else "device"
            # A guest that is resumed tells nobody.  Without this, a reset of one for which no
            # announcements are wanted crashes QEMU 7.2: virtio_net_reset deletes a timer that
            # virtio_net_post_load_device has freed.
            device = f"virtio-net-{bus},guest_announce=off"
        # Nobody boots from it: no code for that in the guest's memory.
        rom = ",romfile=" if spec.machine is MachineType.PC else ""
        yield from ("-device", f"{device},netdev={name},mac={nic.mac}{rom}")
        if nic.capture is not None:
            where = f"netdev={name},file={_escaped(nic.capture)}"
            yield from ("-object", f"filter-dump,id={name}-capture,{where}")


def _boot_args(boot: DirectBoot | IsoBoot) -> tuple[str, ...]:
    match boot:
        case DirectBoot(kernel, initramfs, command_line):
            return (
                *("-kernel", str(kernel)),
                *("-initrd", str(initramfs)),
                *("-append", " ".join(command_line)),
            )
        case IsoBoot(iso):
            drive = f"file={_escaped(iso)},media=cdrom,if=ide,format=raw,readonly=on"
            return ("-drive", drive, "-boot", "order=d")


def _debugger_args(socket: Path | None) -> tuple[str, ...]:
    if socket is None:
        return ()
    return ("-gdb", f"unix:{_escaped(socket)},server=on,wait=off", "-S")


def _recording_args(recording: Recording | None) -> tuple[str, ...]:
    if recording is None:
        return ()
    mode = "replay" if recording.replayed else "record"
    return (
        # Not sleep=off: nothing that comes in would reach the guest then
        # (icount_account_warp_timer in QEMU's softmmu/icount.c).
        *("-icount", f"shift=0,rr={mode},rrfile={_escaped(recording.path)}"),
        # Going backwards loads a snapshot, which resets the machine.  The reset of
        # this device waits for the CPU's thread, and that for the lock of the log,
        # which whoever resets holds (vapic_enable_tpr_reporting in hw/i386/kvmvapic.c).
        *("-global", "apic.vapic=off"),
        # Where the snapshot goes that QEMU takes when gdb comes: a temporary file.
        *(("-drive", _SNAPSHOTS) if recording.replayed else ()),
    )


_SNAPSHOTS = "driver=null-co,size=1M,if=none,id=snapshots,snapshot=on"


def _escaped(path: Path) -> str:
    """Return a path for use inside of an option: QEMU takes two commas for one."""
    return str(path).replace(",", ",,")
