"""The lab itself: `invoke setup`, `doctor`, `test`, `lint` and `faults`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from linklab.commands.corpora import check_corpus, compare
from linklab.commands.exit_status import print_shown
from linklab.errors import UsageError, Verdict
from linklab.events import ignore
from linklab.host.accel import Accel, decide
from linklab.host.cache import Cache
from linklab.host.doctor import Finding, healthy, in_a_line
from linklab.host.doctor import examine as examine_host
from linklab.host.packages import NEEDS, TESTING, setup
from linklab.host.qemu import find_qemu
from linklab.host.run import environment, shown
from linklab.image.initramfs import rendered_scripts
from linklab.image.programs import (
    GROUP,
    TRAFFIC,
    WIRE,
    build_agent,
    build_static,
    stand_ins,
)
from linklab.options import option, split_list
from linklab.paths import GUEST, ROOT
from linklab.report.progress import progress

SUITES = ("unit", "agent", "process", "page", "vm")
KVM = "kvm"
"""The suite of guests under KVM; it runs only where it is asked for, like `CORPORA`."""
CORPORA = "corpora"
"""The suite that compares collections of patches."""
_KVM_TESTS = ROOT / "tests" / KVM
_KVM_MEMORY = 6144  # MiB; half of it is for what the tests write
_SCRIPTS = ("profile/record", "traffic/network")
_MOST_WORKERS = 8  # more wait for the longest file


@dataclass(frozen=True)
class SetupOptions:
    """The options of `invoke setup`, as typed."""

    no_optional: bool = option(
        False,
        "leave out what only tests use (perf, gdb, tshark, a browser, programs of self-tests): "
        "`invoke setup test` installs that, too",
    )


@dataclass(frozen=True)
class SuiteOptions:
    """The options of `invoke test`, as typed."""

    only: str = option(
        "",
        "unit, agent, process, page, vm, kvm (where KVM runs no guest, in a guest of the lab's own "
        "whose emulated CPU does) or corpora; comma-separated; default: all but kvm and corpora",
        values=(*SUITES, KVM, CORPORA),
    )
    corpus: str = option(
        "",
        "for corpora: a folder of patches, folders and mboxes, or an mbox, that is compared with "
        "what git, patch and b4 make of it; default: the cases of the unit tests",
    )


@dataclass(frozen=True)
class FaultsOptions:
    """The options of `invoke faults`, as typed."""

    table: str = option("docs/faults.md", "where the table of what came of it is written")


def set_up(options: SetupOptions, argv: list[str]) -> None:
    """Install what is missing and say what that was.

    `argv` is the whole command line: where tests follow, none of them is to be skipped.
    """
    more = TESTING if "test" in argv and not options.no_optional else ()
    with progress() as listener:
        outcome = setup(listener, needs=(*NEEDS, *more))
    installed = ", ".join(outcome.installed)
    print(f"installed: {installed}" if installed else "nothing is missing")


def _mark(finding: Finding) -> str:
    if finding.found:
        return "[green]found[/]"
    return "[red]missing[/]" if finding.required else "[yellow]no[/]"


def examine() -> Verdict:
    """Print each need: found or not, its version, and what to do."""
    findings = examine_host()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("need", no_wrap=True)
    for title in ("", "version", "what to do"):
        table.add_column(title)
    for finding in findings:
        cells = (finding.need, finding.version, finding.advice)
        need, version, advice = (escape(cell) for cell in cells)
        table.add_row(need, _mark(finding), version, advice)
    print_shown(table)
    print(in_a_line(findings))
    return Verdict.PASS if healthy(findings) else Verdict.ERROR


def run_tests(options: SuiteOptions) -> Verdict:
    """Run the suites, cheapest first, and report the branch coverage of the host side."""
    only = options.only
    valid = (*SUITES, KVM, CORPORA)
    suites = split_list("only", only) if only else list(SUITES)
    if unknown := [name for name in suites if name not in valid]:
        raise UsageError(f"--only {unknown[0]}: unknown; valid are {', '.join(valid)}")
    if options.corpus and CORPORA not in suites:
        raise UsageError(f"--corpus {options.corpus} is for --only {CORPORA}")
    corpus = check_corpus(options.corpus)
    verdicts = [compare(corpus)] if CORPORA in suites else []
    if set(suites) - {KVM, CORPORA}:
        verdicts.append(_run_suites(suites))
    if KVM in suites:
        verdicts.append(_run_under_kvm())
    return Verdict.FAIL if Verdict.FAIL in verdicts else Verdict.PASS


def _run_suites(suites: Sequence[str]) -> Verdict:
    folders = [f"tests/{name}" for name in SUITES if name in suites]
    # A file at a time, since what a file's tests share is made once for each worker.
    workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    parallel = ["-n", str(workers), "--dist", "loadfile"]
    measured = ["--cov", "--cov-report=term:skip-covered"]
    return _run([sys.executable, "-m", "pytest", *parallel, *measured, *folders])


def _run_under_kvm() -> Verdict:
    """Run the tests of guests under KVM, here or in a guest that has it.

    QEMU's TCG emulates AMD's virtualization, so that a guest under TCG, with
    this machine's root and caches, can run guests of its own under KVM.
    """
    python = [sys.executable, "-m"]
    tests = [*python, "pytest", "-v", "-p", "no:cacheprovider", str(_KVM_TESTS.relative_to(ROOT))]
    if decide(Accel.AUTO, find_qemu().path, ignore).accel is Accel.KVM:
        return _run(tests)
    with tempfile.TemporaryDirectory(prefix="linklab-kvm-") as folder:
        iso = Path(folder) / "linklab.iso"  # in there it would be built for hours
        kernels = ["--kernel", "sysfs,nosysfs", "--output", str(iso)]
        built = _run([*python, "invoke", "build-iso", *kernels])
    if built is not Verdict.PASS:
        return built
    config = str((_KVM_TESTS / "kernel.config").relative_to(ROOT))
    guest = ["--accel", "tcg", "--kernel", "sysfs", "--config", config, "--root", "host"]
    memory = ["--memory", str(_KVM_MEMORY)]
    return _run([*python, "invoke", "exec", *guest, *memory, shlex.join(tests)])


def inject_faults(options: FaultsOptions) -> Verdict:
    """Let every fault of the catalogue happen in real guests; write what came of it."""
    where = Path(options.table)
    if not where.absolute().parent.is_dir():
        raise UsageError(f"--table {where}: there is no folder {where.absolute().parent}")
    catalogue = "tests/vm/test_fault_table.py"
    option = f"--fault-table={where.absolute()}"
    return _run([sys.executable, "-m", "pytest", "-q", option, catalogue])


def run_lint() -> Verdict:
    """Run every check, all of them even if one fails."""
    python = [sys.executable, "-m"]
    build_agent(Cache(), ignore)  # warnings are errors
    for program in (GROUP, TRAFFIC, WIRE):
        build_static(program, Cache(), ignore)
    stand_ins(Cache(), ignore)
    print("agent, group, traffic, wire, stand-ins: they compile without warnings")
    verdicts = [
        _run([*python, "ruff", "check", "."]),
        _run([*python, "ruff", "format", "--check", "."]),
        _run([*python, "mypy", "linklab", "tasks.py"]),
        *(_check_types(ROOT / "tests" / suite) for suite in (*SUITES, KVM)),
        _check_scripts(),
    ]
    return Verdict.FAIL if Verdict.FAIL in verdicts else Verdict.PASS


def _check_types(suite: Path) -> Verdict:
    """Check a suite by itself: the modules of each are found from its own folder."""
    where = {"MYPYPATH": f"{suite}:{suite.parent}"}
    return _run([sys.executable, "-m", "mypy", str(suite.relative_to(ROOT))], where)


def _check_scripts() -> Verdict:
    """Check the shell scripts of the image as they are after rendering, and our own."""
    with tempfile.TemporaryDirectory(prefix="linklab-lint-") as folder:
        folders = (GUEST / "selftest", ROOT / "tests" / "vm" / "in_guest")
        own = [path for where in folders for path in sorted(where.iterdir()) if path.is_file()]
        scripts = [ROOT / ".ci" / "run", *(GUEST / name for name in _SCRIPTS), *own]
        for path, content in rendered_scripts(Cache(), ignore).items():
            scripts.append(Path(folder) / path.strip("/").replace("/", "-"))
            scripts[-1].write_bytes(content)
        return _run(["shellcheck", "--shell=dash", *map(str, scripts)])


def _run(argv: list[str], env: Mapping[str, str] | None = None) -> Verdict:
    """Run a check on this terminal; its status is the verdict on this project's own code."""
    print(f"$ {shown(argv)}", flush=True)
    done = subprocess.run(argv, cwd=Path(ROOT), env=environment(env), check=False)
    return Verdict.PASS if done.returncode == 0 else Verdict.FAIL
