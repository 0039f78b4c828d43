"""The smaller commands: what they print, what they refuse, and the status they end with."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from linklab.commands import build, develop, shell
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.errors import LabError, UsageError, Verdict
from linklab.host.accel import Accel
from linklab.host.cache import Artefact, Cached, cache_root
from linklab.host.doctor import Finding
from linklab.host.packages import SetupOutcome
from linklab.host.qemu import Qemu
from linklab.image.iso import IMAGE
from linklab.kernel.kernel import Kernel
from linklab.lab.lab import Lab, Subject
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import parse
from linklab.machine.spec import Boot, DirectBoot, IsoBoot, TerminalPort
from linklab.paths import ROOT

ODD = "[bold]x[/y]"  # a folder's name that looks like rich's markup


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


# build-kernel and build-iso


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which every kernel and the ISO are already built."""
    folder = tmp_path / ODD
    folder.mkdir(parents=True)
    (folder / "bzImage").write_bytes(b"k" * 2_500_000)
    (folder / IMAGE).write_bytes(b"i" * 5_150_000)

    def resolve(name: str, *_: object) -> Kernel:
        return Kernel(name, "6.12.0", folder / "bzImage", None, None, "0" * 64, True)

    monkeypatch.setattr(build, "resolve_kernel", resolve)
    monkeypatch.setattr(build, "iso_of", lambda *_: Artefact("iso", "key", folder, {}))
    parts = [SimpleNamespace(group="kernel", name=ODD, size=2_500_000, packed=2_400_000)]
    monkeypatch.setattr(build, "iso_contents", lambda _: parts)
    return folder


def test_build_kernel_prints_where_each_kernel_is_and_what_it_weighs(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build.kernels(build.BuildKernelOptions(KernelOptions("sysfs,nosysfs")))
    lines = capsys.readouterr().out.splitlines()
    for name in ("sysfs", "nosysfs"):
        (line,) = (line for line in lines if line.split()[:1] == [name])
        for part in ("6.12.0", "2.50 MB", str(built)):
            assert part in line


def test_build_iso_puts_it_where_it_was_asked_for_and_lists_what_is_in_it(
    built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "deep" / ODD / "live.iso"
    build.iso(build.BuildIsoOptions(KernelOptions("sysfs"), str(target)))
    assert target.read_bytes() == (built / IMAGE).read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["live.iso"]
    out = capsys.readouterr().out
    for part in (f"{ODD}/live.iso", f" {ODD} ", "2,400,000", "5.15 MB"):
        assert part in out


def test_without_an_output_the_iso_is_named_after_its_kernels(built: Path, tmp_path: Path) -> None:
    build.iso(build.BuildIsoOptions(KernelOptions("sysfs,nosysfs"), ""))
    assert (tmp_path / "out" / "linklab-sysfs-nosysfs.iso").exists()


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: object) -> Kernel:
        raise AssertionError("something was started")

    monkeypatch.setattr(build, "resolve_kernel", resolve)
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file" / "live.iso", Path("/proc/live.iso")):
        with pytest.raises(UsageError, match="--output"):
            build.iso(build.BuildIsoOptions(KernelOptions("sysfs"), str(target)))


def test_an_iso_that_does_not_fit_on_the_disk_leaves_what_was_there(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "live.iso"
    target.write_bytes(b"the one before")

    def full(_source: Path, part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(UsageError, match="No space left on device"):
        build.iso(build.BuildIsoOptions(KernelOptions("sysfs"), str(target)))
    assert target.read_bytes() == b"the one before"
    assert not list(tmp_path.glob(".live*"))


@pytest.mark.parametrize("names", ["frob", "", "sysfs,frob"])
def test_an_unknown_kernel_is_refused_by_both(names: str) -> None:
    with pytest.raises(UsageError):
        build.kernels(build.BuildKernelOptions(KernelOptions(names)))
    with pytest.raises(UsageError):
        build.iso(build.BuildIsoOptions(KernelOptions(names), "out.iso"))


# shell


LAB = Lab(
    qemu=Qemu(Path("/bin/true"), "7.2.22"),
    accel=Accel.TCG,
    boot=Boot.DIRECT,
    machine=None,
    cpus=1,
    memory=128,
    initramfs=Cached("initramfs/ab/initramfs.cpio"),
    tsc_khz=1000,
    boot_limit=60.0,
)
SUBJECT = Subject(
    "sysfs",
    "6.12.0",
    "0" * 64,
    Cached("kernel/ab/vmlinux"),
    known=True,
    iso=Cached("iso/ab/live.iso"),
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))


def test_a_shell_is_a_guest_with_its_console_on_the_terminal() -> None:
    spec = shell.shell_spec(LAB, SUBJECT)
    assert isinstance(spec.console, TerminalPort)
    assert spec.agent is None
    assert isinstance(spec.boot, DirectBoot)
    assert not [word for word in spec.boot.command_line if word.startswith("rdinit=")]
    from_iso = shell.shell_spec(replace(LAB, boot=Boot.ISO), SUBJECT)
    assert from_iso.boot == IsoBoot(cache_root() / "iso/ab/live.iso")


@pytest.mark.parametrize(("program", "fails"), [("/bin/true", False), ("/bin/false", True)])
def test_a_shell_ends_with_its_machine(
    program: str, fails: bool, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = replace(LAB, qemu=Qemu(Path(program), "7.2.22"))
    monkeypatch.setattr(shell, "set_up_lab", lambda *_: lab)
    monkeypatch.setattr(shell, "prepare_subjects", lambda *_: [SUBJECT])
    if fails:
        with pytest.raises(LabError, match="QEMU ended with status 1"):
            shell.main(shell.ShellOptions())
    else:
        shell.main(shell.ShellOptions())


@pytest.mark.parametrize(
    ("kernels", "machine", "says"),
    [
        (KernelOptions("sysfs,nosysfs"), MachineOptions(), "exactly one kernel"),
        (KernelOptions("frob"), MachineOptions(), "frob"),
        (KernelOptions("sysfs"), MachineOptions(accel="frob"), "--accel frob"),
        (KernelOptions("sysfs"), MachineOptions(memory="64"), "--memory gives 64"),
    ],
)
def test_a_shell_that_cannot_be_is_refused(
    kernels: KernelOptions, machine: MachineOptions, says: str, terminal: None
) -> None:
    with pytest.raises(UsageError, match=says):
        shell.main(shell.ShellOptions(kernels, machine))


def test_a_shell_with_more_hosts_than_memory_is_refused(terminal: None) -> None:
    many = shell.ShellOptions(
        KernelOptions("sysfs"), MachineOptions(memory="256"), topology="a -- b[400]"
    )
    with pytest.raises(UsageError, match=r"402 hosts need 328 MiB .*, --memory gives 256"):
        shell.main(many)


def test_a_person_cuts_links_by_a_command_of_each(tmp_path: Path) -> None:
    network = parse("a -- r -- b: clean | 10mbit 20ms")
    said = {}
    for link in (0, 1):
        script = tmp_path / f"link-{link + 1}"
        script.write_text(shell.link_script(network, link).replace("/bin/nsenter", "echo"))
        script.chmod(0o755)
        for word in ("up", "dark", "sideways"):
            done = subprocess.run([script, word], capture_output=True, text=True, check=False)
            said[link, word] = done.returncode, done.stdout + done.stderr
    assert said[1, "dark"] == (0, f"--net=/run/netns/link-2 {TRAFFIC} dark a b\n")
    assert said[1, "up"][1].splitlines()[-1].endswith("shape a 10000000 20000000 1000 0 0 0")
    assert said[1, "sideways"] == (2, "usage: link-2 up|down|dark\n")
    assert said[0, "up"][0] == 1
    assert "link 1, a -- r, has nothing in its middle" in said[0, "up"][1]


def test_a_shell_without_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as null:
        monkeypatch.setattr(sys, "stdin", null)
        with pytest.raises(UsageError, match="needs a terminal"):
            shell.main(shell.ShellOptions())


# setup and doctor


@pytest.mark.parametrize(
    ("installed", "says"), [((), "nothing is missing"), (("a", "b"), "installed: a, b")]
)
def test_setup_says_what_it_installed(
    installed: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(develop, "setup", lambda *_, **__: SetupOutcome(installed, 0.5))
    develop.set_up(develop.SetupOptions(), ["invoke", "setup"])
    assert capsys.readouterr().out.startswith(says)


@pytest.mark.parametrize(("found", "verdict"), [(True, Verdict.PASS), (False, Verdict.ERROR)])
def test_doctor_lists_each_need_and_ends_by_whether_the_lab_can_work(
    found: bool,
    verdict: Verdict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = [
        Finding("QEMU", found, "7.2 [bold]", "pip install '.[test]'"),
        Finding("KVM", False, "", "TCG works", required=False),
    ]
    monkeypatch.setattr(develop, "examine_host", lambda: findings)
    assert develop.examine() is verdict
    lines = capsys.readouterr().out.splitlines()
    (qemu,) = (line for line in lines if line.startswith(" QEMU"))
    assert ("QEMU" in lines[-1]) is not found
    for part in ("found" if found else "missing", "7.2 [bold]", "pip install '.[test]'"):
        assert part in qemu


# test and lint


def test_suites_run_cheapest_first_and_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str]) -> Verdict:
        ran.append(argv)
        return Verdict.PASS

    monkeypatch.setattr(develop, "_run", run)
    assert develop.run_tests(develop.SuiteOptions("")) is Verdict.PASS
    assert develop.run_tests(develop.SuiteOptions("vm,unit")) is Verdict.PASS
    suites = [[word for word in argv if word.startswith("tests/")] for argv in ran]
    assert suites == [
        [f"tests/{suite}" for suite in ("unit", "agent", "process", "page", "vm")],
        ["tests/unit", "tests/vm"],
    ]
    assert all("--cov" in argv for argv in ran)


def test_faults_are_injected_by_their_tests_which_write_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str]) -> Verdict:
        ran.append(argv)
        return Verdict.PASS

    monkeypatch.setattr(develop, "_run", run)
    table = tmp_path / "faults.md"
    assert develop.inject_faults(develop.FaultsOptions(str(table))) is Verdict.PASS
    assert f"--fault-table={table}" in ran[0]
    assert (ROOT / ran[0][-1]).is_file()


def test_a_table_of_faults_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        develop.inject_faults(develop.FaultsOptions(str(tmp_path / "no" / "where.md")))


def test_an_unknown_suite_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(
        UsageError, match="--only frob: unknown; valid are unit, agent, process, page, vm"
    ):
        develop.run_tests(develop.SuiteOptions("unit,frob"))


@pytest.mark.parametrize("failing", [None, "ruff", "mypy", "shellcheck"])
def test_lint_does_every_check_even_if_one_fails(
    failing: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(argv: list[str], env: object = None) -> Verdict:
        ran.append(" ".join(argv))
        return Verdict.FAIL if failing and failing in ran[-1] else Verdict.PASS

    monkeypatch.setattr(develop, "_run", run)
    monkeypatch.setattr(develop, "build_agent", lambda *_: None)
    monkeypatch.setattr(develop, "rendered_scripts", lambda *_: {"/init": b"#!/bin/sh\n"})
    assert develop.run_lint() is (Verdict.FAIL if failing else Verdict.PASS)
    for tool in ("ruff check", "ruff format", "mypy", "shellcheck"):
        assert [line for line in ran if tool in line]


def test_a_check_is_shown_as_it_would_be_typed_and_its_status_counts(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert develop._run(["sh", "-c", "echo out; exit 0"]) is Verdict.PASS
    assert develop._run(["sh", "-c", "exit 7"]) is Verdict.FAIL
    out = capfd.readouterr().out
    assert "$ sh -c 'echo out; exit 0'\nout\n" in out
