"""The lab of one run: which machine boots which kernel, and how much memory it gets."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.agent.replies import Hello
from linklab.console.report import read_noise
from linklab.errors import LabError, UsageError
from linklab.events import ignore
from linklab.host.accel import Accel
from linklab.host.cache import Cache, Cached, cache_root
from linklab.host.qemu import Qemu
from linklab.lab import lab as lab_module
from linklab.lab.lab import (
    MINIMUM_MEMORY,
    Lab,
    Subject,
    choose_memory,
    file_label,
    host_cpu,
    host_memory_available,
)
from linklab.machine.commandline import DISTRIBUTION
from linklab.machine.spec import Boot, Clock, DirectBoot, IsoBoot, MachineSpec, MachineType

LAB = Lab(
    qemu=Qemu(Path("/usr/bin/qemu-system-x86_64"), "7.2.22"),
    accel=Accel.TCG,
    boot=Boot.DIRECT,
    machine=None,
    cpus=2,
    memory=512,
    initramfs=Cached("initramfs/ab/initramfs.cpio"),
    tsc_khz=2_500_000,
    boot_limit=60.0,
)
OURS = Subject("sysfs", "6.12.0", "0" * 64, Cached("kernel/ab/vmlinux"), known=True)
THEIRS = replace(OURS, name="../linux/arch/x86/boot/bzImage", known=False)


def put(*files: Cached, content: bytes = b"in the cache") -> None:
    """Put files into this host's cache."""
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(content)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)


# Machines


def test_a_kernel_of_the_labs_own_boots_on_the_fastest_machine() -> None:
    assert LAB.spec_for(OURS).machine is MachineType.MICROVM


def test_a_kernel_of_which_nothing_is_known_boots_on_a_pc() -> None:
    assert LAB.spec_for(THEIRS).machine is MachineType.PC


@pytest.mark.parametrize("subject", [OURS, THEIRS])
@pytest.mark.parametrize("machine", MachineType)
def test_a_machine_that_was_asked_for_is_taken(subject: Subject, machine: MachineType) -> None:
    assert replace(LAB, machine=machine).spec_for(subject).machine is machine


def test_an_iso_boots_on_a_pc() -> None:
    lab = replace(LAB, boot=Boot.ISO)
    spec = lab.spec_for(replace(OURS, iso=Cached("iso/ab/live.iso")))
    assert (spec.machine, spec.boot) == (MachineType.PC, IsoBoot(cache_root() / "iso/ab/live.iso"))


def test_an_iso_that_is_not_there_is_the_labs_fault() -> None:
    with pytest.raises(LabError, match="no ISO of kernel sysfs"):
        replace(LAB, boot=Boot.ISO).spec_for(OURS)


@pytest.mark.parametrize(("subject", "port"), [(OURS, "vport0p1"), (THEIRS, "ttyS1")])
def test_a_direct_boot_loads_the_kernel_and_says_where_the_agents_port_is(
    subject: Subject, port: str
) -> None:
    boot = LAB.spec_for(subject).boot
    assert isinstance(boot, DirectBoot)
    assert (boot.kernel, boot.initramfs) == (subject.kernel.path, LAB.initramfs.path)
    assert f"linklab.port={port}" in boot.command_line
    assert "tsc_early_khz=2500000" in boot.command_line


def kernel_words(lab: Lab, subject: Subject) -> tuple[str, ...]:
    boot = lab.spec_for(subject).boot
    assert isinstance(boot, DirectBoot)
    return boot.command_line


@pytest.mark.parametrize("subject", [OURS, THEIRS])
def test_in_virtual_time_the_agent_takes_turns_and_has_the_faster_port(subject: Subject) -> None:
    virtual = replace(LAB, clock=Clock.VIRTUAL, tsc_khz=1_000_000)
    words = kernel_words(virtual, subject)
    assert {"linklab.turns", "linklab.port=vport0p1", "tsc_early_khz=1000000"} <= set(words)
    assert virtual.spec_for(subject).is_virtual


@pytest.mark.parametrize("subject", [OURS, THEIRS])
def test_in_real_time_no_agent_takes_turns(subject: Subject) -> None:
    assert "linklab.turns" not in kernel_words(LAB, subject)
    assert not LAB.spec_for(subject).is_virtual


def test_a_kernel_with_modules_boots_with_an_image_of_its_own() -> None:
    subject = replace(THEIRS, initramfs=Cached("initramfs/cd/with-modules.cpio"))
    boot = LAB.spec_for(subject).boot
    assert isinstance(boot, DirectBoot)
    assert boot.initramfs == cache_root() / "initramfs/cd/with-modules.cpio"


def test_a_kernel_of_another_config_is_spared_its_tests_of_itself() -> None:
    ours, theirs = LAB.spec_for(OURS).boot, LAB.spec_for(THEIRS).boot
    assert isinstance(ours, DirectBoot)
    assert isinstance(theirs, DirectBoot)
    assert set(DISTRIBUTION) <= set(theirs.command_line)
    assert not set(DISTRIBUTION) & set(ours.command_line), "they have no such tests"


def test_the_command_line_that_is_kept_is_the_machines() -> None:
    argv = LAB.argv_for(OURS)
    assert argv[0] == "/usr/bin/qemu-system-x86_64"
    words = " ".join(argv)
    for part in ("-accel tcg", "-smp 2", "-m 512M", f"-kernel {cache_root()}/kernel/ab/vmlinux"):
        assert part in words


def test_a_session_boots_that_machine_with_that_log_and_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    @contextmanager
    def open_session(*args: object, **named: object) -> Iterator[str]:
        seen.extend((*args, named))
        yield "session"

    monkeypatch.setattr(lab_module, "open_session", open_session)
    log, noise = Path("console.log"), read_noise("WARNING in old_driver", "known")
    symbols = Cached("kernel/ab/symbols")
    put(OURS.kernel, LAB.initramfs, symbols)
    lab = replace(LAB, noise=noise, meanwhile=print)
    with lab.session(replace(OURS, symbols=symbols), log) as session:
        assert str(session) == "session"
    *place, named = seen
    assert place == [LAB.qemu.path, LAB.spec_for(OURS), log, 60.0, None]
    others = {"symbols": symbols.path, "hold": None, "started": print}
    assert named == {"noise": noise, **others}


def test_a_session_draws_its_random_numbers_with_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []

    @contextmanager
    def open_session(_qemu: object, spec: MachineSpec, *_: object, **__: object) -> Iterator[None]:
        seeds.append(spec.seed)
        yield

    monkeypatch.setattr(lab_module, "open_session", open_session)
    put(OURS.kernel, LAB.initramfs)
    for draw in (0, 7):
        with LAB.session(OURS, Path("console.log"), draw):
            pass
    assert seeds == [0, 7]


# Saved guests


@dataclass
class Saver:
    """Stands in for booting and saving a guest; notes which kernels were."""

    saved: list[str] = field(default_factory=list)

    def __call__(self, qemu: Path, spec: MachineSpec, folder: Path, limit: float) -> Hello:
        assert isinstance(spec.boot, DirectBoot)
        assert limit == LAB.boot_limit
        (folder / "state").write_bytes(b"saved")
        self.saved.append(spec.boot.kernel.name)
        return Hello(1, "6.12.0", "#1", "x86_64", "tsc", 1e-9, 2, 500_000, 0.5, 77)


@pytest.fixture
def saver(monkeypatch: pytest.MonkeyPatch) -> Saver:
    saver = Saver()
    monkeypatch.setattr(lab_module, "save_session", saver)
    monkeypatch.setattr(lab_module, "host_cpu", lambda: "a CPU")
    return saver


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "qemu").touch()
    qemu = Qemu(tmp_path / "qemu", "7.2.22")
    return replace(LAB, qemu=qemu, boot=Boot.RESUME, image={"initramfs": "ab"})


def kernel(tmp_path: Path, name: str, content: bytes = b"kernel") -> Subject:
    found = Cached(f"kernel/{name}/{name}")
    put(found, LAB.initramfs, content=content)
    return replace(OURS, name=name, kernel=found)


def test_a_guest_is_saved_once_for_each_kernel(lab: Lab, saver: Saver, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    subjects = [kernel(tmp_path, "sysfs"), kernel(tmp_path, "nosysfs", b"another")]
    for _ in range(2):
        found = lab.with_snapshots(subjects, cache, ignore).snapshots
        assert saver.saved == ["sysfs", "nosysfs"]
        assert {name: snapshot.hello.nonce for name, snapshot in found.items()} == {
            "sysfs": 77,
            "nosysfs": 77,
        }
        assert found["sysfs"].state.read_bytes() == b"saved"
        assert found["sysfs"].folder != found["nosysfs"].folder


def test_a_saved_guest_is_used_only_for_what_it_was_saved_with(
    lab: Lab, saver: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    subject = kernel(tmp_path, "sysfs")
    for number, changed in enumerate(
        (
            lab,
            replace(lab, image={"initramfs": "cd"}),
            replace(lab, memory=1024),
            replace(lab, cpus=1),
            replace(lab, machine=MachineType.PC),
            replace(lab, qemu=replace(lab.qemu, version="8.0.0")),
            replace(lab, clock=Clock.VIRTUAL),
        ),
        1,
    ):
        changed.with_snapshots([subject], cache, ignore)
        assert len(saver.saved) == number
    kernel(tmp_path, "sysfs", b"patched")
    lab.with_snapshots([subject], cache, ignore)
    assert len(saver.saved) == 8
    monkeypatch.setattr(lab_module, "host_cpu", lambda: "another CPU")
    lab.with_snapshots([subject], cache, ignore)
    assert len(saver.saved) == 9


def test_in_virtual_time_a_guest_is_saved_for_each_draw_of_its_random_numbers(
    lab: Lab, saver: Saver, tmp_path: Path
) -> None:
    cache, subject = Cache(tmp_path / "cache"), kernel(tmp_path, "sysfs")
    virtual = replace(lab, clock=Clock.VIRTUAL)
    for draw, number in ((0, 1), (1, 2), (0, 2), (1, 2)):
        virtual.with_snapshots([subject], cache, ignore, draw)
        assert len(saver.saved) == number
    for draw in (0, 1):
        lab.with_snapshots([subject], cache, ignore, draw)
    assert len(saver.saved) == 3, "in real time all guests draw what they draw"


def test_several_guests_are_saved_where_they_are_wanted_and_resumed_by_turns(
    lab: Lab, saver: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    @contextmanager
    def open_session(*args: object, **_named: object) -> Iterator[None]:
        seen.append(args[-1])
        yield

    monkeypatch.setattr(lab_module, "open_session", open_session)
    cache, subject = Cache(tmp_path / "cache"), kernel(tmp_path, "sysfs")
    first = lab.with_snapshots([subject], cache, ignore).snapshots["sysfs"]
    several = replace(lab, boots=3).with_snapshots([subject], cache, ignore)
    assert len(saver.saved) == 3, "the first one is that of a lab with one"
    for draw in (0, 3, 1, 2):
        with several.session(subject, tmp_path / "console.log", draw):
            pass
    assert seen[0] == seen[1] == first
    assert len({snapshot.folder for snapshot in seen}) == 3
    assert [several.saved_number(draw) for draw in range(4)] == [1, 2, 3, 1]
    twin = replace(subject, name="sysfs#2")
    both = replace(lab, boots=3).with_snapshots([subject, twin], cache, ignore).snapshots
    assert len({snapshot.folder for snapshot in both.values()}) == 6, "none is on both sides"


def test_a_session_resumes_the_guest_saved_for_its_kernel(
    lab: Lab, saver: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    @contextmanager
    def open_session(*args: object, **named: object) -> Iterator[None]:
        seen.extend((args[-1], named["started"]))
        yield

    monkeypatch.setattr(lab_module, "open_session", open_session)
    subject = kernel(tmp_path, "sysfs")
    ready = lab.with_snapshots([subject], Cache(tmp_path / "cache"), ignore)
    with replace(ready, meanwhile=print).session(subject, tmp_path / "console.log"):
        assert seen == [ready.snapshots["sysfs"], None], "it is there before anything else is done"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 2.5 GHz\nmodel name\t: x\n",
            "Some CPU @ 2.5 GHz",
        ),
        ("processor: 0\n", platform.machine()),
    ],
)
def test_the_hosts_cpu_is_what_linux_calls_it(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert host_cpu(tmp_path / "cpuinfo") == name


# Labels


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("nosysfs", "nosysfs"),
        ("../linux-6.12/arch/x86/boot/bzImage", ".._linux-6.12_arch_x86_boot_bzImage"),
        ("/boot/vmlinuz 1", "boot_vmlinuz_1"),
        ("/", "kernel"),
        ("核心", "kernel"),
    ],
)
def test_a_kernels_name_can_stand_in_a_files_name(name: str, label: str) -> None:
    assert file_label(name) == label
    assert replace(OURS, name=name).label == label


@given(st.text(min_size=1) | st.text("a/", min_size=200))
def test_whatever_a_kernel_is_called_its_label_is_short_and_harmless(name: str) -> None:
    label = file_label(name)
    assert 0 < len(label) <= 100
    assert "/" not in label
    assert label.isascii()
    assert label.isprintable()


def test_of_a_long_path_the_end_counts() -> None:
    """Kernels beside each other differ at the end, and `console-01-X-2048.log` must be short."""
    assert file_label("/deep" * 60 + "/linux/bzImage").endswith("_linux_bzImage")


# Memory


@given(st.integers(1, 7900))
def test_memory_that_nobody_asked_for_is_what_is_needed(needed: int) -> None:
    memory = choose_memory(None, needed, "5 interfaces")
    assert memory >= max(needed, MINIMUM_MEMORY)
    assert memory - needed < 64 or memory == MINIMUM_MEMORY
    assert memory % 64 == 0


def test_memory_that_was_asked_for_is_taken_if_it_is_enough() -> None:
    assert choose_memory(200, 200, "5 interfaces") == 200
    with pytest.raises(UsageError) as caught:
        choose_memory(199, 200, "--counts 5: 5 interfaces")
    for part in ("--counts 5", "200 MiB", "--memory gives 199"):
        assert part in caught.value.message


def test_work_that_needs_more_memory_than_the_host_has_is_refused() -> None:
    assert choose_memory(None, 7936, "9 interfaces") == 7936
    with pytest.raises(UsageError) as caught:
        choose_memory(None, 8100, "9 interfaces")
    for part in ("9 interfaces", "8128 MiB", "8000 MiB"):
        assert part in caught.value.message


def test_a_guest_larger_than_the_host_is_not_blamed_on_the_work() -> None:
    with pytest.raises(UsageError) as caught:
        choose_memory(9000, 200, "5 interfaces")
    assert caught.value.message.startswith("--memory 9000: ")
    assert "8000 MiB" in caught.value.message
    assert "interfaces" not in caught.value.message


def test_a_host_that_does_not_say_what_it_has_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: None)
    assert choose_memory(1 << 20, 200, "5 interfaces") == 1 << 20


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("MemTotal: 9999 kB\nMemAvailable:    2048000 kB\n", 2000),
        ("MemTotal: 9999 kB\nMemFree: 9 kB\n", None),
        ("", None),
    ],
)
def test_available_memory_is_what_linux_says(text: str, mib: int | None, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert host_memory_available(tmp_path / "meminfo") == mib


def test_this_host_says_what_it_has() -> None:
    mib = host_memory_available()
    assert mib is None or mib > 0
