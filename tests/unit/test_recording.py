"""`--record` and `--replay`: what is kept, what is refused, and a port that is never full."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_lab import subject

from linklab.commands import gdb
from linklab.commands.gdb import GdbOptions, check_record, check_symbols, recordable
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.errors import KernelCrashed, UsageError
from linklab.host.accel import Accel
from linklab.host.qemu import Qemu
from linklab.lab.debugger import Debugging, gdb_script
from linklab.lab.recording import find_recording, read_recording, recorded
from linklab.machine.pipes import Pipes
from linklab.machine.spec import DirectBoot, MachineSpec, MachineType

QEMU = Qemu(Path("/usr/bin/qemu"), "7.2.22")
KERNELS = KernelOptions("nosysfs", configs=(str(gdb._FRAGMENT),))


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    boot = DirectBoot(tmp_path / "vmlinux", tmp_path / "initramfs", ("quiet", "nokaslr"))
    for path in (boot.kernel, boot.initramfs):
        path.write_text(path.name)
    return MachineSpec(boot, Accel.TCG, MachineType.PC, memory=320)


def record(spec: MachineSpec, folder: Path, fault: BaseException | None) -> None:
    log = folder / "console-001-nosysfs-16.log"
    with recorded(QEMU, spec, log, folder / "symbols") as used:
        assert used.recording is not None
        used.recording.path.write_bytes(b"log")
        if fault is not None:
            raise fault


# what is kept


def test_a_guest_that_failed_leaves_what_replays_it(spec: MachineSpec, tmp_path: Path) -> None:
    with pytest.raises(KernelCrashed):
        record(spec, tmp_path, KernelCrashed("oops"))
    about = find_recording(tmp_path)
    found = read_recording(about, QEMU)
    assert found.symbols == tmp_path / "symbols"
    assert found.spec.recording is not None
    assert found.spec.recording.replayed
    assert found.spec.recording.path.read_bytes() == b"log"
    assert replace(found.spec, recording=None) == spec


@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), GeneratorExit()])
def test_a_guest_that_is_well_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, end: BaseException | None
) -> None:
    before = set(tmp_path.iterdir())
    if end is None:
        record(spec, tmp_path, None)
    else:
        with pytest.raises(type(end)):
            record(spec, tmp_path, end)
    assert set(tmp_path.iterdir()) == before


# what is not replayed


def test_a_run_without_a_recording_says_how_there_would_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="invoke run --record"):
        find_recording(tmp_path)


@pytest.fixture
def about(spec: MachineSpec, tmp_path: Path) -> Path:
    with pytest.raises(KernelCrashed):
        record(spec, tmp_path, KernelCrashed("oops"))
    return find_recording(tmp_path)


def test_another_qemu_does_not_replay(about: Path) -> None:
    with pytest.raises(UsageError, match=r"QEMU 7\.2\.22, this one is 10\.0\.2"):
        read_recording(about, replace(QEMU, version="10.0.2"))


def test_another_kernel_does_not_replay(about: Path, tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_text("built anew")
    with pytest.raises(UsageError, match="vmlinux is not what"):
        read_recording(about, QEMU)


def test_a_recording_of_another_version_is_refused(about: Path) -> None:
    about.write_text(json.dumps({**json.loads(about.read_text()), "schema": 99}))
    with pytest.raises(UsageError, match="schema 99"):
        read_recording(about, QEMU)


@pytest.mark.parametrize(
    ("refused", "given"),
    [
        ("type", {"typed": ("ls",)}),
        ("memory", {"machine": MachineOptions(memory="4000")}),
        ("kernel", {"kernels": KernelOptions("sysfs")}),
    ],
)
def test_a_replay_takes_nothing_that_its_recording_holds(
    monkeypatch: pytest.MonkeyPatch, refused: str, given: dict[str, Any]
) -> None:
    monkeypatch.setattr(gdb, "require", lambda *_: None)
    options = replace(GdbOptions(commands=("continue",), replay="last"), **given)
    with pytest.raises(UsageError, match=f"--{refused} does not go with --replay"):
        gdb.check(options)


def test_a_persons_gdb_stops_before_a_replay_is_over() -> None:
    what = Debugging(Path("/vmlinux"), replayed=True)
    lines = ["target remote /run/gdb", "break panic"]
    assert gdb_script(what, Path("/run/gdb")).splitlines() == lines
    scripted = replace(what, commands=("continue",))
    assert "break panic" not in gdb_script(scripted, Path("/run/gdb"))


# what is not recorded


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (MachineOptions(accel="kvm"), "--accel kvm: only TCG"),
        (MachineOptions(boot="resume"), "--boot resume: only a direct boot"),
        (MachineOptions(boot="iso"), "--boot iso: only a direct boot"),
        (MachineOptions(machine="microvm"), "--machine microvm"),
        (MachineOptions(cpus="2"), "--cpus 2: QEMU records one CPU"),
    ],
)
def test_machines_that_qemu_cannot_record_are_refused(machine: MachineOptions, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_record(KERNELS, machine, 1, keeps=False)


def test_one_guest_is_recorded_at_a_time_and_none_is_kept() -> None:
    check_record(KERNELS, MachineOptions(), 1, keeps=False)
    with pytest.raises(UsageError, match="--jobs 2"):
        check_record(KERNELS, MachineOptions(), 2, keeps=False)
    with pytest.raises(UsageError, match="--keep"):
        check_record(KERNELS, MachineOptions(), 1, keeps=True)


def test_a_kernel_that_gdb_could_not_read_is_not_recorded() -> None:
    with pytest.raises(UsageError, match="no debug information"):
        check_record(KernelOptions("nosysfs"), MachineOptions(), 1, keeps=False)
    with pytest.raises(UsageError, match="kernel mine has no debug information"):
        check_symbols([subject("mine")])


def test_tcg_records_even_where_kvm_works() -> None:
    assert recordable(MachineOptions()).accel == "tcg"


# its ports


def test_a_recorded_port_carries_both_ways_and_is_not_full_with_many_bytes() -> None:
    ours, far = socket.socketpair()
    pipes = Pipes()
    path = pipes.port("agent", far).path
    guest = [path.with_suffix(".out").open("wb", buffering=0)]
    guest.append(path.with_suffix(".in").open("rb", buffering=0))
    pipes.let_go()
    far.close()
    ours.settimeout(20)
    os.set_blocking(guest[0].fileno(), False)
    for _ in range(3000):
        assert guest[0].write(b"x") == 1
    with ours.makefile("rb") as said:
        assert len(said.read(3000)) == 3000
    ours.sendall(b"twelve bytes")
    assert guest[1].read(100) == b"twelve b"
    assert guest[1].read(100) == b"ytes"
    for end in guest:
        end.close()
    assert ours.recv(1) == b""
    ours.close()
    pipes.close()
    assert not path.parent.exists()
