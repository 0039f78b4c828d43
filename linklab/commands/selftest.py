"""`invoke selftest`: the kernel's own self-tests, each in a guest of its own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from linklab.commands.exports import ExportOptions, failure_written, write_exports
from linklab.commands.outcome import (
    Finished,
    concluded,
    finish,
    print_document,
    print_shown,
    stopped_by,
    tested_on,
)
from linklab.commands.prepare import KernelOptions, MachineOptions
from linklab.commands.selftest_prepare import Prepared, boot_of, prepare
from linklab.errors import LinklabError, UsageError, Verdict
from linklab.events import Listener, step
from linklab.host.cache import Cache
from linklab.lab.lab import choose_memory
from linklab.options import JSON, group, number, option, seconds, split_list, word
from linklab.results.codec import to_json
from linklab.results.outcomes import Status
from linklab.results.result_kinds import SELFTEST as KIND
from linklab.results.store import RunFolder, claim, read_about, removed_if_empty
from linklab.selftests.catalogue import Selftest
from linklab.selftests.record import (
    TESTS,
    Attempt,
    TestRecord,
    suites_of,
    verdict_of,
)
from linklab.selftests.runner import SelftestRunner, limit_of

STEP = "self-tests"
MEMORY = 512  # MiB: a set of tools of 30 MB, and tests that send with large buffers
MOST_RETRIES = 100
TABLE_FILE = "table.txt"


@dataclass(frozen=True)
class SelftestOptions:
    """The options of `invoke selftest`, as typed."""

    tests: str = word(
        "tests or collections below tools/testing/selftests, comma-separated: "
        "net/rtnetlink.sh, net, net/tls"
    )
    kernels: KernelOptions = group(
        KernelOptions,
        {
            "names": "one kernel: a flavour, built with the options that the tests want, a bzImage "
            "or a built kernel tree"
        },
        without=("modules",),
        names="sysfs",
    )
    machine: MachineOptions = group(
        MachineOptions,
        {
            "boot": "auto (resume from four tests on), direct (kernel and initramfs), or resume "
            "(from a saved guest)",
            "memory": "the guest's memory in MiB; default 512",
        },
        boot="auto",
        cpus="2",
    )
    timeout: str = option(
        "0",
        "seconds that one test may take, the guest's in virtual time; default: its collection's "
        "own, five times that where the CPU is emulated and the clock real",
    )
    retry: str = option("0", "how often a test that failed is tried again")
    output: str = option("", "a folder for the results; default results/<UTC time>-selftest")
    as_json: bool = option(False, JSON, "json")
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started."""

    words: list[str]
    kernel: str
    limit: float | None
    retries: int
    memory: int
    folder: Path


def check(options: SelftestOptions) -> Request:
    """Check every option that can be checked without reading the source."""
    words = split_list("tests", options.tests)
    names = options.kernels.check()
    if len(names) != 1:
        raise UsageError(f"--kernel {options.kernels.names}: self-tests take exactly one kernel")
    options.exports.check()
    machine = options.machine
    replace(machine, boot=boot_of(machine, 1)).check()
    return Request(
        words=words,
        kernel=names[0],
        limit=seconds("timeout", options.timeout),
        retries=number("retry", options.retry, 0, MOST_RETRIES),
        memory=choose_memory(machine.checked_memory(), MEMORY, "self-tests"),
        folder=claim(options.output, KIND),
    )


def run(
    options: SelftestOptions, command: Sequence[str], listener: Listener, first: int = 1
) -> Finished:
    """Do the whole of it. Raises `LinklabError` where there is no run to speak of.

    `first` is the number of the first attempt at each test: who comes back
    for another try wants other random numbers.
    """
    request = check(options)
    with removed_if_empty(request.folder):
        prepared = prepare(
            options.kernels, options.machine, request.words, request.memory, Cache(), listener
        )
        folder = RunFolder(request.folder, _about(options, request, prepared, command))
    return _Course(request, folder, listener, first).run(prepared)


@dataclass
class _Course:
    """The tests of a run, one after the other."""

    request: Request
    folder: RunFolder
    listener: Listener
    first: int = 1
    records: list[TestRecord] = field(default_factory=list)

    def run(self, prepared: Sequence[Prepared]) -> Finished:
        def run_all() -> None:
            with step(self.listener, STEP, total=sum(len(each.ready.tests) for each in prepared)):
                for each in prepared:
                    self._run_collection(each)

        faults = stopped_by(run_all)
        verdict = Verdict.PASS if faults else verdict_of(self.records)
        return finish(self.folder, faults, verdict)

    def _run_collection(self, prepared: Prepared) -> None:
        runner = SelftestRunner(
            prepared.lab, prepared.subject, self.folder.path, self.listener, self.first - 1
        )
        lab = prepared.lab
        limit = limit_of(prepared.ready.settings, lab.accel, lab.clock, self.request.limit)
        for test in prepared.ready.tests:
            attempts: list[Attempt] = []
            lacking = tuple(sorted(prepared.ready.lacking[test.name]))
            if test.name in prepared.ready.unbuilt:
                attempts.append(_not_run(prepared.ready.unbuilt[test.name], limit))
            while not attempts or self._again(attempts):
                attempts.append(self._attempt(runner, test, limit, len(attempts) + 1))
            record = TestRecord(test.path, prepared.subject.name, tuple(attempts), lacking)
            self.records.append(record)
            self.folder.update(**{TESTS: to_json(self.records)})

    def _again(self, attempts: Sequence[Attempt]) -> bool:
        return attempts[-1].status.blames_kernel and len(attempts) <= self.request.retries

    def _attempt(
        self, runner: SelftestRunner, test: Selftest, limit: float, number: int
    ) -> Attempt:
        return runner.run(test, limit, number, STEP, len(self.records))


def _not_run(error: LinklabError, limit: float) -> Attempt:
    """Return what is to be said of a test that has no program: no kernel is blamed for it."""
    return Attempt(Status.MISSING, error.message, None, limit, None, "", "")


def _about(
    options: SelftestOptions,
    request: Request,
    prepared: Sequence[Prepared],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return what run.json says of a run when it begins."""
    lab = prepared[0].lab
    return {
        "kind": KIND,
        "command": shlex.join(command),
        "scenario": KIND,
        "plan": {
            "tests": [test.path for each in prepared for test in each.ready.tests],
            "timeout": request.limit,
            "retry": request.retries,
        },
        **tested_on(lab, [each.subject for each in prepared]),
        "wanted": {each.subject.name: each.wanted for each in prepared},
        "missing_options": {each.subject.name: each.missing for each in prepared},
        "source": options.kernels.source,
        "selftests": prepared[0].tree,
        **options.kernels.content(),
        "image": {each.subject.name: dict(each.lab.image) for each in prepared},
        "boot": ", ".join(dict.fromkeys(each.lab.boot.value for each in prepared)),
        "qemu": {
            "version": lab.qemu.version,
            "command_lines": {
                each.subject.name: shlex.join(each.lab.argv_for(each.subject)) for each in prepared
            },
        },
        TESTS: [],
    }


def main(options: SelftestOptions, command: Sequence[str]) -> Verdict:
    """Run the tests, show what came out, and return the verdict."""
    from linklab.report.progress import progress

    kernels = options.kernels.check()
    with progress() as listener, failure_written(options.exports, KIND, kernels):
        finished = run(options, command, listener)
    try:
        present(finished.folder, options.as_json)
    finally:  # who reads only the table's beginning gets the files all the same
        write_exports(options.exports, suites_of(read_about(finished.folder)))
    return concluded(finished)


def present(folder: Path, as_json: bool) -> None:
    """Show a stored run: the table to a person, one document to a script."""

    from linklab.report.selftest import as_text, render

    about = read_about(folder)
    (folder / TABLE_FILE).write_text(as_text(about), encoding="utf-8")
    if as_json:
        print_document(document(folder))
        return
    print_shown(render(about))
    print(f"\nverdict: {about.get('verdict') or 'unfinished'}   results: {folder}")


def document(folder: Path) -> dict[str, Any]:
    """Return everything about a stored run as one JSON document."""
    about = read_about(folder)
    return {"folder": str(folder), "run": {**about, "verdict": about.get("verdict")}}
