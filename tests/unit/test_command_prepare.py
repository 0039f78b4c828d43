"""The lab's parts for a command: found, built, and put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_lab import lab_of
from fake_tree import PATCH

from linklab.commands.kernels import KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, decide_clock, set_up_lab
from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import UsageError
from linklab.events import ignore
from linklab.host.accel import ORDINARY_SPEED, Accel, Decision
from linklab.host.cache import Artefact, Cache
from linklab.host.qemu import Qemu
from linklab.image.iso import IsoKernel
from linklab.kernel.kernel import BuildOptions, Compression, Kernel
from linklab.kernel.series import read_series
from linklab.machine.spec import Boot, Clock, MachineType
from linklab.scenarios import scenario_named
from linklab.trials.subjects import Requirements

FLAVOURS = ("sysfs", "nosysfs")
OWN = str(Path(__file__).with_name("own_scenario.py"))
WEIGHED = Requirements(Boot.DIRECT, weighs_iso=True)


def artefact(folder: Path, **files: bytes) -> Artefact:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    about = {"files": {name.replace("_", "."): {"sha256": f"of {name}"} for name in files}}
    return Artefact("kind", "key", folder, about)


@dataclass
class Host:
    """A host on which everything is there, and which notes what was asked of it."""

    folder: Path
    accel: Accel = Accel.TCG
    counted: int = 0
    asked: list[Accel] = field(default_factory=list)
    speed: float = ORDINARY_SPEED
    built: list[tuple[str, BuildOptions]] = field(default_factory=list)
    isos: list[list[IsoKernel]] = field(default_factory=list)

    def decide(self, asked: Accel, *_: object) -> Decision:
        self.asked.append(asked)
        return Decision(self.accel if asked is Accel.AUTO else asked, "because")

    def tsc_khz(self, *_: object) -> int:
        self.counted += 1
        return 2_500_000

    def resolve_kernel(self, name: str, options: BuildOptions, *_: object) -> Kernel:
        self.built.append((name, options))
        ours = name in FLAVOURS
        for file in ("vmlinux", f"{Path(name).name}.{options.compression}"):
            (self.folder / file).write_bytes(b"a kernel")
        return Kernel(
            name=name,
            release="6.12.0",
            bzimage=self.folder / f"{Path(name).name}.{options.compression}",
            vmlinux=self.folder / "vmlinux" if ours else None,
            config=None,
            sha256="0" * 64,
            built_by_lab=ours,
            inputs={"source": "ab"},
        )

    def build_iso(self, kernels: list[IsoKernel], *_: object, **__: object) -> Artefact:
        self.isos.append(kernels)
        return artefact(self.folder / "iso", linklab_iso=b"x" * 1000)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    parts: Mapping[str, object] = {
        "host.qemu.find_qemu": lambda *_: Qemu(Path("/usr/bin/qemu"), "7.2.22"),
        "host.accel.decide": host.decide,
        "image.programs.build_agent": lambda *_, **__: artefact(tmp_path / "agent", agent=b"a"),
        "image.initramfs.build_initramfs": lambda *_, **__: artefact(
            tmp_path / "initramfs", initramfs=b"i"
        ),
        "host.cpus.tsc_khz": host.tsc_khz,
        "host.accel.speed": lambda *_: host.speed,
        "kernel.kernel.resolve_kernel": host.resolve_kernel,
        "image.iso.build_iso": host.build_iso,
        "image.iso.IMAGE": "linklab.iso",
    }
    for name, part in parts.items():
        monkeypatch.setattr(f"linklab.{name}", part)
    return host


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


@pytest.fixture
def a_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.patch").write_text(PATCH)
    return tmp_path / "a.patch"


# The lab


def test_options_become_a_lab(host: Host, cache: Cache) -> None:
    options = MachineOptions("tcg", "iso", "pc", "512", "2", "9.5")
    lab = set_up_lab(options, 512, cache, ignore)
    assert (lab.accel, lab.boot, lab.machine) == (Accel.TCG, Boot.ISO, MachineType.PC)
    assert (lab.cpus, lab.memory, lab.boot_limit) == (2, 512, 9.5)
    assert lab.image == {"agent": "of agent", "initramfs": "of initramfs"}


def test_the_machine_is_left_open_until_the_kernel_is_known(host: Host, cache: Cache) -> None:
    assert set_up_lab(MachineOptions(), 256, cache, ignore).machine is None


@pytest.mark.parametrize(("accel", "limit"), [(Accel.KVM, 30.0), (Accel.TCG, 60.0)])
def test_the_limit_for_a_boot_is_the_accelerators_unless_asked_for(
    accel: Accel, limit: float, host: Host, cache: Cache
) -> None:
    host.accel = accel
    assert set_up_lab(MachineOptions(), 256, cache, ignore).boot_limit == limit
    asked = MachineOptions(boot_timeout="5")
    assert set_up_lab(asked, 256, cache, ignore).boot_limit == 5.0


def test_only_a_guest_under_tcg_is_told_how_fast_the_counter_is(host: Host, cache: Cache) -> None:
    assert set_up_lab(MachineOptions("kvm"), 256, cache, ignore).tsc_khz is None
    assert set_up_lab(MachineOptions("tcg"), 256, cache, ignore).tsc_khz == 1_000_000
    assert host.counted == 0, "in virtual time it does not matter how fast the host's is"
    real = MachineOptions("tcg", clock="real")
    assert set_up_lab(real, 256, cache, ignore).tsc_khz == 2_500_000


# The clock


@pytest.mark.parametrize(
    ("accel", "clock", "boot", "found", "expected"),
    [
        ("auto", "auto", "direct", Accel.KVM, Clock.REAL),
        ("auto", "auto", "direct", Accel.TCG, Clock.VIRTUAL),
        ("auto", "auto", "resume", Accel.TCG, Clock.VIRTUAL),
        ("tcg", "auto", "direct", Accel.KVM, Clock.VIRTUAL),
        ("kvm", "auto", "direct", Accel.KVM, Clock.REAL),
        ("auto", "auto", "iso", Accel.TCG, Clock.REAL),
        ("auto", "auto", "iso", Accel.KVM, Clock.REAL),
        ("auto", "real", "direct", Accel.TCG, Clock.REAL),
        ("tcg", "real", "iso", Accel.TCG, Clock.REAL),
        ("kvm", "real", "direct", Accel.KVM, Clock.REAL),
        ("auto", "virtual", "direct", Accel.TCG, Clock.VIRTUAL),
        ("auto", "virtual", "direct", Accel.KVM, Clock.VIRTUAL),
        ("tcg", "virtual", "resume", Accel.KVM, Clock.VIRTUAL),
    ],
)
def test_seconds_are_virtual_where_nothing_is_real(
    accel: str,
    clock: str,
    boot: str,
    found: Accel,
    expected: Clock,
    host: Host,
    cache: Cache,
) -> None:
    """`found` is what this host would take where nobody asks."""
    host.accel = found
    options = MachineOptions(accel, boot, clock=clock)
    options.check()
    assert decide_clock(options, ignore) is expected
    lab = set_up_lab(options, 256, cache, ignore)
    assert lab.clock is expected
    assert lab.accel is Accel.TCG or expected is Clock.REAL, "nobody counts KVM's instructions"


def test_nobody_asks_for_kvm_where_it_makes_no_difference(host: Host) -> None:
    for options in (
        MachineOptions(clock="real"),
        MachineOptions(clock="virtual"),
        MachineOptions(boot="iso"),
    ):
        decide_clock(options, ignore)
    assert host.asked == []
    decide_clock(MachineOptions(), ignore)
    assert host.asked == [Accel.AUTO]


def test_a_kvm_that_does_not_work_is_refused_as_without_a_clock(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Decision:
        raise UsageError("--accel kvm: KVM does not run a guest here")

    monkeypatch.setattr("linklab.host.accel.decide", refuse)
    with pytest.raises(UsageError, match="KVM does not run a guest here"):
        decide_clock(MachineOptions("kvm"), ignore)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (MachineOptions(clock="frob"), "--clock frob.*auto, real, virtual"),
        (MachineOptions("kvm", clock="virtual"), "--clock virtual: under KVM .*--accel tcg"),
        (MachineOptions(boot="iso", clock="virtual"), "--clock virtual: an ISO .*--boot direct"),
        (MachineOptions("tcg", "iso", clock="virtual"), "--clock virtual: an ISO "),
    ],
)
def test_a_clock_that_cannot_be_is_refused(options: MachineOptions, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        options.check()


def test_in_virtual_time_a_second_has_a_thousand_million_instructions(
    host: Host, cache: Cache
) -> None:
    lab = set_up_lab(MachineOptions(clock="virtual"), 256, cache, ignore)
    assert lab.tsc_khz == 1_000_000


@pytest.mark.parametrize(
    ("speed", "slowness"),
    [(ORDINARY_SPEED / 4, 4.0), (ORDINARY_SPEED, 1.0), (10 * ORDINARY_SPEED, 1.0)],
)
def test_deadlines_in_virtual_time_grow_with_what_instructions_take_here(
    speed: float, slowness: float, host: Host, cache: Cache
) -> None:
    host.speed = speed
    lab = set_up_lab(MachineOptions(clock="virtual"), 256, cache, ignore)
    assert (lab.slowness, lab.boot_limit) == (slowness, slowness * 60.0)
    asked = MachineOptions(clock="virtual", boot_timeout="5")
    assert set_up_lab(asked, 256, cache, ignore).boot_limit == 5.0
    real = set_up_lab(MachineOptions("tcg", clock="real"), 256, cache, ignore)
    assert (real.slowness, real.boot_limit) == (1.0, 60.0)


# Kernels


def test_a_flavour_is_booted_from_its_vmlinux_and_weighed_as_an_iso(
    host: Host, cache: Cache
) -> None:
    sysfs, nosysfs = prepare_subjects(KernelOptions("sysfs, nosysfs"), WEIGHED, cache, ignore)
    assert (sysfs.name, nosysfs.name) == FLAVOURS
    assert sysfs.known
    assert sysfs.kernel.path.name == "vmlinux"
    assert sysfs.image_bytes == 1000
    assert sysfs.inputs == {"source": "ab"}


def test_the_iso_has_the_smallest_form_of_the_labs_own_kernels(host: Host, cache: Cache) -> None:
    prepare_subjects(KernelOptions("sysfs"), WEIGHED, cache, ignore)
    ((offered,),) = host.isos
    assert offered.name == "sysfs"
    assert offered.bzimage.name == "sysfs.xz"
    assert [options.compression for _, options in host.built] == [
        Compression.LZ4,
        Compression.XZ,
    ]


@pytest.mark.parametrize("name", ["grouping", "routes", OWN])
def test_the_iso_is_made_only_for_a_scenario_that_weighs_it(
    name: str, host: Host, cache: Cache
) -> None:
    purpose = Requirements.of(scenario_named(name), lab_of())
    (subject,) = prepare_subjects(KernelOptions("sysfs"), purpose, cache, ignore)
    assert subject.image_bytes == (1000 if name == "grouping" else None)
    assert len(host.isos) == (name == "grouping")


def test_another_kernel_is_taken_as_it_is_and_not_weighed(host: Host, cache: Cache) -> None:
    (subject,) = prepare_subjects(KernelOptions("a/bzImage"), WEIGHED, cache, ignore)
    assert not subject.known
    assert subject.kernel.path.name == "bzImage.lz4"
    assert subject.kernel.found().read_bytes() == b"a kernel"
    assert (subject.iso, subject.image_bytes) == (None, None)
    assert host.isos == []


def test_another_kernel_gets_an_iso_where_that_is_booted(host: Host, cache: Cache) -> None:
    (subject,) = prepare_subjects(KernelOptions("a/bzImage"), Requirements(Boot.ISO), cache, ignore)
    assert subject.iso is not None
    assert subject.iso.path.name == "linklab.iso"
    assert len(host.built) == 1, "what is taken as it is has one form only"


@pytest.mark.parametrize(
    "options",
    [
        KernelOptions("sysfs", source="/src"),
        KernelOptions("sysfs", patches=("a.patch",)),
        KernelOptions("sysfs", configs=("a.config",)),
    ],
)
def test_a_flavour_that_is_not_as_it_comes_is_not_weighed_against_the_paper(
    options: KernelOptions, host: Host, cache: Cache, a_patch: Path
) -> None:
    (subject,) = prepare_subjects(options, WEIGHED, cache, ignore)
    assert subject.image_bytes is None
    ((_, built),) = host.built
    assert built == BuildOptions(
        source=Path("/src") if options.source else None,
        patches=read_series(map(Path, options.patches)).patches,
        configs=tuple(map(Path, options.configs)),
    )


def test_the_iso_has_the_image_that_the_kernels_are_wanted_with(
    host: Host, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[object] = []

    def build_initramfs(*_: object, image: Path, **__: object) -> Artefact:
        images.append(image)
        return artefact(tmp_path / "own", initramfs=b"i")

    monkeypatch.setattr("linklab.image.initramfs.build_initramfs", build_initramfs)
    purpose = Requirements(Boot.ISO, image=tmp_path / "image")
    prepare_subjects(KernelOptions("sysfs"), purpose, cache, ignore)
    assert images == [tmp_path / "image"]


def test_what_a_kernel_is_built_from_is_the_same_for_its_iso(
    host: Host, cache: Cache, a_patch: Path
) -> None:
    prepare_subjects(
        KernelOptions("sysfs", patches=("a.patch",)), Requirements(Boot.ISO), cache, ignore
    )
    expected = read_series([Path("a.patch")]).patches
    assert [options.patches for _, options in host.built] == [expected] * 2


class TestKnownNoise:
    WARNING = Report(Fault.WARNING, "WARNING in old_driver", None, (), "")

    def test_of_the_labs_own_file_can_be_read(self) -> None:
        assert not MachineOptions().known_noise().covers(self.WARNING)

    def test_of_a_users_file_is_added(self, tmp_path: Path) -> None:
        (tmp_path / "known").write_text("# why\nWARNING in old_.*\n")
        options = MachineOptions(noise=str(tmp_path / "known"))
        options.check()
        assert options.known_noise().covers(self.WARNING)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "cannot be read: No such file"),
            (b"WARNING (in\n", "line 1: 'WARNING \\(in' is no regular expression"),
            (b"\xff\xfe", "is no text"),
        ],
    )
    def test_that_is_not_readable_is_refused_before_anything_starts(
        self, content: bytes | None, says: str, tmp_path: Path
    ) -> None:
        if content is not None:
            (tmp_path / "known").write_bytes(content)
        with pytest.raises(UsageError, match=says):
            MachineOptions(noise=str(tmp_path / "known")).check()
