"""`invoke doctor`'s facts: what is there, in which version, and what to do."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from linklab.errors import LabError
from linklab.events import Listener
from linklab.host import doctor
from linklab.host.accel import Accel, Decision
from linklab.host.doctor import Finding, examine, healthy
from linklab.host.packages import Need

NEEDS = (
    Need("tool", "it does the work", ("tool-package",), ("tool",), version=("tool", "--version")),
    Need("headers", "for the build", ("new-headers", "headers"), files=("usr/include/h.h",)),
)


class Machine:
    """A machine with a PATH of its own, 8 GB of memory and the files of `root`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.memory(8_000_000)

    def memory(self, kibibytes: int) -> None:
        (self.root / "proc").mkdir(parents=True, exist_ok=True)
        text = f"MemTotal: 9999 kB\nMemAvailable:   {kibibytes} kB\n"
        (self.root / "proc/meminfo").write_text(text)

    def script(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def file(self, name: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).touch()

    def find(self, need: str) -> Finding:
        (finding,) = (finding for finding in self.examine() if finding.need == need)
        return finding

    def examine(self) -> list[Finding]:
        return examine(NEEDS, self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "DISK_NEEDED", 1)
    return machine


def let_kvm(monkeypatch: pytest.MonkeyPatch, accel: Accel, reason: str) -> None:
    def decide(requested: Accel, qemu: Path, listener: Listener, *, fresh: bool) -> Decision:
        assert requested is Accel.AUTO
        assert fresh  # a person who asks the doctor wants to know how it is now
        return Decision(accel, reason)

    monkeypatch.setattr(doctor, "decide", decide)


def test_a_missing_need_says_what_is_missing_and_what_to_do(machine: Machine) -> None:
    assert machine.find("tool") == Finding(
        "tool", False, "no tool", "`invoke setup` installs tool-package: it does the work"
    )
    assert machine.find("headers").version == "no /usr/include/h.h"


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo 'tool (Debian 12.2.0-14+deb12u1) 12.2.0'", "12.2.0-14+deb12u1"),
        ("echo 'The tool'; echo 'version: 0.9.0'", "0.9.0"),
        ("echo 'Version 1.2.3' >&2; exit 1", "1.2.3"),
        ("echo 'ip utility, iproute2-6.15.0, libbpf 1.5.0'", "6.15.0"),
        ("echo 'no number'", "version unknown"),
    ],
)
def test_a_version_is_read_from_what_the_program_prints(
    machine: Machine, script: str, version: str
) -> None:
    machine.script("tool", script)
    assert machine.find("tool") == Finding("tool", True, version, "")


def test_a_program_whose_interpreter_is_gone_has_no_version(machine: Machine) -> None:
    (machine.bin / "tool").write_text("#!/nowhere/sh\n")
    (machine.bin / "tool").chmod(0o755)
    assert machine.find("tool").version == "version unknown"


def test_files_have_the_version_of_their_package(machine: Machine) -> None:
    machine.file("usr/include/h.h")
    machine.script(
        "dpkg-query",
        "printf 'new-headers not-installed \\nheaders installed 6.1-2\\n'; exit 1",
    )
    assert machine.find("headers") == Finding("headers", True, "6.1-2", "")


def test_files_without_a_package_are_found_all_the_same(machine: Machine) -> None:
    machine.file("usr/include/h.h")
    assert machine.find("headers") == Finding("headers", True, "version unknown", "")


def test_kvm_is_not_required_and_says_why_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_kvm(monkeypatch, Accel.TCG, "the guest hangs")
    finding = machine.find("KVM")
    assert not finding.found
    assert not finding.required
    assert finding.advice.startswith("the guest hangs. TCG is used instead")


def test_kvm_that_runs_a_guest_needs_no_advice(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_kvm(monkeypatch, Accel.KVM, "")
    assert machine.find("KVM") == Finding("KVM", True, "runs a guest", "", required=False)


def test_without_qemu_kvm_is_not_tried(machine: Machine) -> None:
    assert machine.find("KVM").version == "not tried"


def test_the_packages_that_linklab_asks_for_are_looked_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["pytest>=8", "no-such-thing; python_version >= '3'", 'ruff ; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda _name: wanted)
    python = {f.need: f for f in machine.examine() if f.need.startswith("Python: ")}
    assert set(python) == {"Python: pytest", "Python: no-such-thing"}
    assert python["Python: pytest"].version == pytest.__version__
    assert not python["Python: no-such-thing"].found
    assert "pip install" in python["Python: no-such-thing"].advice


def test_a_linklab_that_was_not_installed_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    monkeypatch.setattr(metadata, "version", unknown)
    assert not machine.find("Python: linklab").found


def test_another_processor_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    finding = machine.find("processor")
    assert not finding.found
    assert finding.version == f"aarch64, {len(os.sched_getaffinity(0))} CPUs"


def test_too_little_memory_is_told(machine: Machine) -> None:
    assert machine.find("memory").found
    machine.memory(1_000_000)
    finding = machine.find("memory")
    assert not finding.found
    assert finding.version == "1.0 GB available"
    assert "1.1 GB" in finding.advice


def test_a_cache_folder_that_is_not_there_yet_is_judged_by_its_parent(machine: Machine) -> None:
    free = shutil.disk_usage(machine.root).free
    finding = machine.find("disk")
    assert finding.found
    assert abs(float(finding.version.split()[0]) * 1e9 - free) < 1e9


def test_too_little_disk_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_NEEDED", 1 << 80)
    finding = machine.find("disk")
    assert not finding.found
    assert "LINKLAB_CACHE" in finding.advice


def test_a_cache_folder_that_may_not_be_written_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert "may not be written" in machine.find("disk").version


def test_health_is_everything_that_is_required() -> None:
    good, bad = Finding("a", True, "", ""), Finding("b", False, "", "")
    assert healthy([good, Finding("c", False, "", "", required=False)])
    assert not healthy([good, bad])


def test_an_error_of_the_probe_does_not_end_the_examination(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: object, **_options: object) -> Decision:
        raise LabError("no")

    monkeypatch.setattr(doctor, "decide", failing)
    assert not machine.find("KVM").found
