"""QEMU's command line as text: one machine, one line, always the same.

The CPU model stands here as CPU, and has tests of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linklab.host.accel import Accel
from linklab.host.run import shown
from linklab.machine.spec import (
    Clock,
    DirectBoot,
    FdPort,
    IsoBoot,
    MachineSpec,
    MachineType,
    Nic,
    NicModel,
    NullPort,
    PipePort,
    RamFile,
    Recording,
    Share,
    TerminalPort,
    capture_port,
    qemu_argv,
)

DIRECT = DirectBoot(
    Path("/cache/bzImage"), Path("/cache/initramfs.cpio"), ("console=ttyS0", "panic=-1")
)
ISO = IsoBoot(Path("/out/linklab.iso"))


def spec(*words: Any, **more: Any) -> MachineSpec:
    """A machine whose two serial ports are ours."""
    return replace(MachineSpec(*words, **more), console=FdPort(7), agent=FdPort(9))


GOLDEN = {
    "folders of the host on microvm": (
        spec(
            DIRECT, Accel.TCG, shares=(Share("root", Path("/")), Share("rw0", Path("/a,b"), True))
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -fsdev local,id=root,path=/,security_model=none,multidevs=remap,readonly=on
        -device virtio-9p-device,fsdev=root,mount_tag=root
        -fsdev local,id=rw0,path=/a,,b,security_model=none,multidevs=remap
        -device virtio-9p-device,fsdev=rw0,mount_tag=rw0
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a machine that waits for gdb": (
        spec(DIRECT, Accel.TCG, debugger=Path("/run/a,b/gdb")),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        -gdb unix:/run/a,,b/gdb,server=on,wait=off -S
        """,
    ),
    "a direct boot on microvm": (
        spec(DIRECT, Accel.TCG),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a direct boot on pc": (
        spec(DIRECT, Accel.TCG, MachineType.PC),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9 -serial chardev:agent
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a machine with interfaces": (
        spec(
            DIRECT,
            Accel.TCG,
            MachineType.PC,
            nics=(
                Nic(NicModel.VIRTIO, "02:00:00:01:00:01", 11),
                Nic(NicModel.E1000, "02:00:00:02:00:01", 13, Path("/out/a,b.pcap")),
            ),
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9 -serial chardev:agent
        -netdev dgram,id=nic0,local.type=fd,local.str=11
        -device virtio-net-pci,guest_announce=off,netdev=nic0,mac=02:00:00:01:00:01,romfile=
        -netdev dgram,id=nic1,local.type=fd,local.str=13
        -device e1000,netdev=nic1,mac=02:00:00:02:00:01,romfile=
        -object filter-dump,id=nic1-capture,netdev=nic1,file=/out/a,,b.pcap
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "an interface on microvm": (
        spec(DIRECT, Accel.TCG, nics=(Nic(NicModel.VIRTIO, "02:00:00:01:00:01", 11),)),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -netdev dgram,id=nic0,local.type=fd,local.str=11
        -device virtio-net-device,guest_announce=off,netdev=nic0,mac=02:00:00:01:00:01
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "an ISO under KVM with two CPUs": (
        spec(ISO, Accel.KVM, MachineType.PC, cpus=2, memory=1024),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel kvm -cpu CPU -smp 2 -m 1024M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9 -serial chardev:agent
        -drive file=/out/linklab.iso,media=cdrom,if=ide,format=raw,readonly=on -boot order=d
        """,
    ),
    "a guest that is saved": (
        spec(
            DIRECT,
            Accel.TCG,
            control=FdPort(11),
            ram=RamFile(Path("/cache/a,b/ram"), private=False),
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off,memory-backend=ram -accel tcg -cpu CPU -smp 1 -m 256M
        -object memory-backend-file,id=ram,size=256M,mem-path=/cache/a,,b/ram,share=on
        -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -chardev socket,id=control,fd=11 -mon chardev=control,mode=control
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a guest that is resumed": (
        spec(
            DIRECT,
            Accel.TCG,
            MachineType.PC,
            memory=512,
            control=FdPort(11),
            ram=RamFile(Path("/cache/ram"), private=True),
            incoming=True,
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc,memory-backend=ram -accel tcg -cpu CPU -smp 1 -m 512M
        -object memory-backend-file,id=ram,size=512M,mem-path=/cache/ram,share=off
        -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9 -serial chardev:agent
        -chardev socket,id=control,fd=11 -mon chardev=control,mode=control
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        -incoming defer
        """,
    ),
    "a guest in virtual time on microvm": (
        spec(DIRECT, Accel.TCG, control=FdPort(11), clock=Clock.VIRTUAL, seed=5),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off -accel tcg -cpu CPU -smp 1 -m 256M
        -icount shift=0,sleep=off,align=off -rtc base=2026-01-01,clock=vm -seed 5
        -device pvpanic -action panic=pause
        -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -chardev socket,id=control,fd=11 -mon chardev=control,mode=control
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a guest in virtual time on pc": (
        spec(DIRECT, Accel.TCG, MachineType.PC, cpus=2, clock=Clock.VIRTUAL),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg,thread=single -cpu CPU -smp 2 -m 256M
        -icount shift=0,sleep=off,align=off -rtc base=2026-01-01,clock=vm -seed 0
        -device pvpanic -action panic=pause
        -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-pci,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a guest in virtual time that is resumed": (
        spec(
            DIRECT,
            Accel.TCG,
            control=FdPort(11),
            ram=RamFile(Path("/cache/ram"), private=True),
            incoming=True,
            clock=Clock.VIRTUAL,
            seed=7,
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine microvm,pit=off,pic=off,memory-backend=ram -accel tcg -cpu CPU -smp 1 -m 256M
        -object memory-backend-file,id=ram,size=256M,mem-path=/cache/ram,share=off
        -icount shift=0,sleep=off,align=off -rtc base=2026-01-01,clock=vm -seed 7
        -device pvpanic -action panic=pause
        -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev socket,id=agent,fd=9
        -device virtio-serial-device,max_ports=2
        -device virtserialport,chardev=agent,name=linklab.agent
        -chardev socket,id=control,fd=11 -mon chardev=control,mode=control
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        -incoming defer
        """,
    ),
    "a person's shell": (
        MachineSpec(DIRECT, Accel.TCG, MachineType.PC, console=TerminalPort()),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev stdio,id=console,mux=on,signal=off -mon chardev=console
        -serial chardev:console
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        """,
    ),
    "a guest that is recorded": (
        replace(
            spec(DIRECT, Accel.TCG, MachineType.PC, recording=Recording(Path("/out/a,b.rr"))),
            console=PipePort(Path("/tmp/p/console")),
            agent=PipePort(Path("/tmp/p/agent")),
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev pipe,id=console,path=/tmp/p/console -serial chardev:console
        -chardev pipe,id=agent,path=/tmp/p/agent -serial chardev:agent
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        -icount shift=0,rr=record,rrfile=/out/a,,b.rr -global apic.vapic=off
        """,
    ),
    "a guest that is replayed": (
        replace(
            spec(DIRECT, Accel.TCG, MachineType.PC, recording=Recording(Path("/out/b.rr"), True)),
            agent=NullPort(),
        ),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg -cpu CPU -smp 1 -m 256M -display none
        -chardev socket,id=console,fd=7 -serial chardev:console
        -chardev file,id=agent,path=/dev/null -serial chardev:agent
        -kernel /cache/bzImage -initrd /cache/initramfs.cpio -append 'console=ttyS0 panic=-1'
        -icount shift=0,rr=replay,rrfile=/out/b.rr -global apic.vapic=off
        -drive driver=null-co,size=1M,if=none,id=snapshots,snapshot=on
        """,
    ),
    "an ISO on a screen": (
        MachineSpec(ISO, Accel.TCG, MachineType.PC, screen=True),
        """
        qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -name linklab
        -machine pc -accel tcg -cpu CPU -smp 1 -m 256M -vga std
        -serial none
        -drive file=/out/linklab.iso,media=cdrom,if=ide,format=raw,readonly=on -boot order=d
        """,
    ),
}


def words_of(spec: MachineSpec) -> list[str]:
    return list(qemu_argv("qemu-system-x86_64", spec))


def after(words: list[str], option: str) -> str:
    assert words.count(option) == 1, f"{option} stands {words.count(option)} times"
    return words[words.index(option) + 1]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_command_line_of(name: str) -> None:
    spec, expected = GOLDEN[name]
    words = words_of(spec)
    words[words.index("-cpu") + 1] = "CPU"
    assert shown(words) == " ".join(expected.split())


@pytest.mark.parametrize("machine", MachineType)
def test_kvm_runs_on_the_hosts_cpu(machine: MachineType) -> None:
    assert after(words_of(MachineSpec(DIRECT, Accel.KVM, machine)), "-cpu") == "host"


@pytest.mark.parametrize("machine", MachineType)
def test_tcg_runs_on_a_model_that_is_the_same_everywhere(machine: MachineType) -> None:
    model = after(words_of(MachineSpec(DIRECT, Accel.TCG, machine)), "-cpu")
    assert model.split(",")[0] not in {"host", "max"}
    # Without it a guest on microvm has no timer of high resolution.
    assert "+arat" in model.split(",")[1:]


def test_nothing_is_decided_by_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = GOLDEN["a direct boot on microvm"]
    before = words_of(spec)
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.chdir("/")
    assert words_of(replace(spec)) == before


def test_what_a_guest_captures_leaves_it_by_a_port_for_each_file() -> None:
    files = (Path("/out/link-1.pcap"), Path("/out/a,b.pcap"))
    for machine, bus in ((MachineType.MICROVM, "device"), (MachineType.PC, "pci")):
        spec = MachineSpec(DIRECT, Accel.TCG, machine, agent=FdPort(5), captures=files)
        words = qemu_argv("qemu", spec)
        assert f"virtio-serial-{bus},max_ports=4" in words
        assert "file,id=capture1,path=/out/a,,b.pcap" in words
        assert "virtserialport,chardev=capture1,nr=3,name=linklab.capture1" in words
        assert "chardev:agent" in words or machine is MachineType.MICROVM
        plain = qemu_argv("qemu", replace(spec, captures=()))
        assert ("virtio-serial-pci,max_ports=2" in plain) is False
    assert capture_port(1) == "/dev/vport0p3"


def test_a_comma_in_a_path_is_no_option() -> None:
    spec = MachineSpec(IsoBoot(Path("/out/a,b,readonly=off.iso")), Accel.TCG, MachineType.PC)
    drive = after(words_of(spec), "-drive")
    assert drive.startswith("file=/out/a,,b,,readonly=off.iso,media=cdrom,")


def test_a_blank_in_a_path_stays_in_one_word() -> None:
    boot = DirectBoot(Path("/my kernels/bzImage"), Path("/my kernels/initramfs"), ("quiet",))
    words = words_of(MachineSpec(boot, Accel.TCG))
    assert after(words, "-kernel") == "/my kernels/bzImage"
    assert after(words, "-initrd") == "/my kernels/initramfs"


@pytest.mark.parametrize(
    ("machine", "clock", "device"),
    [
        (MachineType.PC, Clock.REAL, "ttyS1"),
        (MachineType.PC, Clock.VIRTUAL, "vport0p1"),
        (MachineType.MICROVM, Clock.REAL, "vport0p1"),
        (MachineType.MICROVM, Clock.VIRTUAL, "vport0p1"),
    ],
)
def test_the_agents_port_has_a_name_in_the_guest(
    machine: MachineType, clock: Clock, device: str
) -> None:
    assert MachineSpec(DIRECT, Accel.TCG, machine, clock=clock).agent_device == device


@pytest.mark.parametrize("machine", MachineType)
@pytest.mark.parametrize("accel", [Accel.KVM, Accel.TCG])
def test_in_real_time_nothing_of_virtual_time_is_there(accel: Accel, machine: MachineType) -> None:
    real = spec(DIRECT, accel, machine, seed=5)
    assert not {"-icount", "-rtc", "-seed", "pvpanic", "-action"} & set(words_of(real))
    assert words_of(real) == words_of(replace(real, seed=0))


def test_in_virtual_time_another_seed_is_another_machine_and_nothing_else_is() -> None:
    one, _ = GOLDEN["a guest in virtual time on microvm"]
    words, others = words_of(one), words_of(replace(one, seed=6))
    assert [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]] == [("5", "6")]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_guest_that_resets_ends_qemu_and_has_no_network_but_the_labs(name: str) -> None:
    words = words_of(GOLDEN[name][0])
    assert "-no-reboot" in words
    assert "-nodefaults" in words
    assert not {"-nic", "-net", "-daemonize", "-pidfile"} & set(words)
    assert words.count("-netdev") == len(GOLDEN[name][0].nics)
