"""`invoke selftest`: the kernel's own self-tests, each in a guest of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.exports import ExportOptions
from linklab.commands.fleet import FleetOptions
from linklab.commands.kernels import KernelOptions, tell_notes
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.commands.workflow import Finished, LabRequest, ResumeOptions, RunRecord
from linklab.errors import LinklabError, UsageError, Verdict
from linklab.events import Listener, Note, StepAdvanced, ignore, step
from linklab.host.cache import Cache
from linklab.image.userland import Entry
from linklab.kernel.compile import BUILT_IN
from linklab.kernel.debkernel import is_package
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import Kernel, KernelSpec, build_ahead, resolve_kernel
from linklab.kernel.kernel import plan as plan_kernel
from linklab.lab.lab import Lab, Subject, choose_memory
from linklab.machine.spec import Boot
from linklab.options import group, number, option, seconds, split_list, word
from linklab.results.codec import to_json
from linklab.results.outcomes import Status, Suite
from linklab.results.result_kinds import SELFTEST
from linklab.results.store import read_about
from linklab.selftests.catalogue import Selftest
from linklab.selftests.record import (
    TESTS,
    Attempt,
    TestRecord,
    records_of,
    suites_of,
    verdict_of,
)
from linklab.selftests.runner import SelftestAttempts, limit_of
from linklab.selftests.workplan import (
    Ready,
    Workplan,
    built_in_entry,
    config_of,
    make_ready,
    notes_on,
    plan_tests,
    read_toolbox,
    said_of,
)
from linklab.trials.subjects import subject_of

if TYPE_CHECKING:
    from rich.console import RenderableType

STEP = "self-tests"
MEMORY = 512  # MiB: a set of tools of 30 MB, and tests that send with large buffers
MOST_RETRIES = 100
AUTO = "auto"
_RESUME_FROM = 4  # tests, from which on it pays to save a guest first


@dataclass(frozen=True)
class SelftestOptions(ResumeOptions):
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
            "(from a saved guest)"
        },
        boot=AUTO,
        cpus="2",
    )
    timeout: str = option(
        "0",
        "seconds that one test may take, the guest's in virtual time; default: its collection's "
        "own, five times that where the CPU is emulated and the clock real",
    )
    retry: str = option("0", "how often a test that failed is tried again")
    fleet: FleetOptions = group(FleetOptions)
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class SelftestRequest(LabRequest):
    """The same, checked."""

    words: list[str]
    limit: float | None
    retries: int


@dataclass(frozen=True)
class Prepared:
    """A collection's tests with what they run on.

    `tree` names the content of all self-tests; `wanted` is the file of options
    that the collection wants, `missing` are those that the kernel lacks.
    """

    ready: Ready
    subject: Subject
    lab: Lab
    tree: str
    wanted: str
    missing: tuple[str, ...]


class SelftestWork(RunRecord[SelftestOptions, SelftestRequest]):
    """`invoke selftest` at its work: the tests one after the other.

    `first` is the number of the first attempt at each test: who comes back
    for another try wants other random numbers.
    """

    kind = SELFTEST
    defined_by = ("wanted", "selftests")

    def __init__(
        self,
        options: SelftestOptions,
        command: Sequence[str] = (),
        listener: Listener = ignore,
        first: int = 1,
    ) -> None:
        super().__init__(options, command, listener)
        self._records: dict[tuple[str, str], TestRecord] = {}  # by the kernel and the test
        self.parts: Sequence[Prepared] = ()
        self._first = first

    def check(self) -> SelftestRequest:
        """Check every option that can be checked without reading the source."""
        options, machine = self.options, self.options.machine
        words = split_list("tests", options.tests)
        options.kernels.check_one("self-tests take exactly one kernel")
        options.exports.check()
        options.fleet.check()
        replace(machine, boot=boot_of(machine, 1)).check()
        limit = seconds("timeout", options.timeout)
        retries = number("retry", options.retry, 0, MOST_RETRIES)
        memory = choose_memory(machine.checked_memory(), MEMORY, "self-tests")
        return SelftestRequest(self.claimed(), memory, words, limit, retries)

    def prepare(self) -> None:
        """Make the tests, their kernels and their images ready."""
        asked, options = self.request, self.options
        fleet = self.joined(options.fleet)
        self.parts = prepare(
            options.kernels, options.machine, asked.words, asked.memory, self.cache, self.listener
        )
        self.lab = self.parts[0].lab
        if fleet is not None:
            self.lab = replace(self.lab, fleet=fleet)
        self.subjects = [each.subject for each in self.parts]

    def about(self) -> dict[str, Any]:
        """Return what run.json says of the tests when they begin."""
        parts = self.parts
        return {
            "scenario": self.kind,
            "plan": {
                "tests": [test.path for each in parts for test in each.ready.tests],
                "timeout": self.request.limit,
                "retry": self.request.retries,
            },
            "wanted": {each.subject.name: each.wanted for each in parts},
            "missing_options": {each.subject.name: each.missing for each in parts},
            "source": self.options.kernels.source,
            "selftests": parts[0].tree,
            **self.options.kernels.content(),
            "image": {each.subject.name: dict(each.lab.image) for each in parts},
            "boot": ", ".join(dict.fromkeys(each.lab.boot.value for each in parts)),
            "qemu": {
                "version": self.lab.qemu.version,
                "command_lines": {
                    each.subject.name: shlex.join(each.lab.argv_for(each.subject)) for each in parts
                },
            },
            TESTS: [],
        }

    @property
    def records(self) -> list[TestRecord]:
        """What came of the tests that are done, in the order in which they were asked for."""
        tests = ((p.subject.name, test.path) for p in self.parts for test in p.ready.tests)
        return [self._records[name] for name in tests if name in self._records]

    def measure(self) -> None:
        """Run all tests that are not done yet."""
        if self.before is not None:
            done = records_of(self.before.about)
            self._records |= {(record.kernel, record.name): record for record in done}
        with step(self.listener, STEP, total=sum(len(each.ready.tests) for each in self.parts)):
            waiting = [
                self._attempts_at(part, test)
                for part in self.parts
                for test in part.ready.tests
                if (part.subject.name, test.path) not in self._records
            ]
            left = [each for each in waiting if not self._is_unbuilt(each)]
            for each, attempts in self._done(left):
                self._keep(each, attempts)

    def _attempts_at(self, part: Prepared, test: Selftest) -> SelftestAttempts:
        lab = part.lab
        limit = limit_of(part.ready.settings, lab.accel, lab.clock, self.request.limit)
        retries, draw = self.request.retries, self._first - 1
        return SelftestAttempts(lab, part.subject, test, limit, retries, draw)

    def _ready(self, of: SelftestAttempts) -> Ready:
        return next(each.ready for each in self.parts if each.subject.name == of.subject.name)

    def _is_unbuilt(self, of: SelftestAttempts) -> bool:
        """Tell whether a test is not there, and keep why: no kernel is blamed for it."""
        error = self._ready(of).unbuilt.get(of.test.name)
        if error is not None:
            self._keep(of, [Attempt(Status.MISSING, error.message, None, of.limit, None, "", "")])
        return error is not None

    def _done(
        self, left: Sequence[SelftestAttempts]
    ) -> Iterator[tuple[SelftestAttempts, Sequence[Attempt]]]:
        """Do tests here, one after the other, or on a fleet, and yield what came of each."""
        folder, fleet = self.folder.path, self.lab.fleet
        if fleet is None:
            for each in left:
                yield each, list(each.events(folder, self.listener, STEP, len(self._records)))
            return
        for each, done in fleet.each(left, folder):
            yield each, [*done.events, *([each.given_up(done.fault)] if done.fault else [])]
            self.listener(StepAdvanced(STEP, len(self._records), each.test.path))

    def _keep(self, of: SelftestAttempts, attempts: Sequence[Attempt]) -> None:
        test, kernel = of.test, of.subject.name
        lacking = tuple(sorted(self._ready(of).lacking[test.name]))
        record = TestRecord(test.path, kernel, tuple(attempts), lacking)
        self._records[kernel, test.path] = record
        self.folder.update(**{TESTS: to_json(self.records)})

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end."""
        return self.ended(faults, Verdict.PASS if faults else verdict_of(self.records))

    def table(self) -> RenderableType:
        """Return the table of the tests."""
        from linklab.report.selftest import render

        return render(read_about(self.folder.path))

    def document(self) -> dict[str, Any]:
        """Return all of run.json."""
        return {"run": read_about(self.folder.path)}

    def exports(self) -> tuple[ExportOptions, str, Sequence[str]]:
        """Return the files to export to, and what would fail as a whole."""
        return self.options.exports, self.kind, self.options.kernels.check()

    def suites(self) -> Sequence[Suite]:
        """Return what is exported."""
        return suites_of(read_about(self.folder.path))


def main(options: SelftestOptions, command: Sequence[str]) -> Verdict:
    """Run the tests, show what came out, and return the verdict."""
    return SelftestWork(options, command).carry_out()


def boot_of(machine: MachineOptions, tests: int) -> str:
    """Return how guests come up: saved and resumed where several tests want one each.

    Raises `UsageError` for an ISO: self-tests have an image of their own.
    """
    if machine.boot == Boot.ISO:
        raise UsageError("--boot iso: self-tests have an image of their own; take direct or resume")
    if machine.boot != AUTO:
        return machine.boot
    return (Boot.RESUME if tests >= _RESUME_FROM else Boot.DIRECT).value


def prepare(
    kernels: KernelOptions,
    machine: MachineOptions,
    words: Sequence[str],
    memory: int,
    cache: Cache,
    listener: Listener,
) -> list[Prepared]:
    """Return the tests that words mean, a part for each collection, ready to run.

    Raises `UsageError` for a word that means no test, before anything is built.
    """
    name = kernels.names.strip()
    tell_notes(kernels, listener)
    plan = _plan(kernels, name, words, cache, listener)
    toolbox = read_toolbox()
    parts = []
    wishes = [config_of(plan, collection, cache, listener) for collection in plan.collections]
    # Each has a kernel of its own.
    fragments = [
        tuple(map(str, wanted.fragments)) if name in flavours() else () for wanted in wishes
    ]
    builds = [replace(kernels, optional=each).build_options(name) for each in fragments]
    build_ahead([(name, build) for build in builds], cache, listener)
    for collection, wanted, build in zip(plan.collections, wishes, builds, strict=True):
        kernel = resolve_kernel(name, build, cache, listener)
        ready = make_ready(plan, collection, toolbox, cache, listener)
        for note in notes_on(ready):
            listener(Note(note))
        missing = wanted.missing(kernel.config)
        if missing:
            listener(Note(said_of(missing, kernel.name)))
        subject = subject_of(kernel, cache, listener)
        if len(plan.collections) > 1:
            subject = replace(subject, name=f"{subject.name} for {collection.name}")
        lab = _lab(ready, machine, memory, (subject, kernel), cache, listener)
        options = tuple(entry.wish.option for entry in missing)
        parts.append(Prepared(ready, subject, lab, plan.checkout.tree, wanted.origin, options))
    return parts


def _plan(
    kernels: KernelOptions, name: str, words: Sequence[str], cache: Cache, listener: Listener
) -> Workplan:
    """Return the tests of the source that the kernel is built from, or of the lab's own."""
    if is_package(name):
        raise UsageError(
            f"--kernel {name}: self-tests want options that a distribution's kernel has as "
            f"modules; take {', '.join(flavours())}, a bzImage or a built kernel tree"
        )
    flavour = name if name in flavours() else flavours()[0]
    planned = plan_kernel(KernelSpec(flavour, kernels.build_options()), cache, listener)
    return plan_tests(planned.source, planned.tree, words, listener)


def _lab(
    ready: Ready,
    machine: MachineOptions,
    memory: int,
    kernels: tuple[Subject, Kernel],
    cache: Cache,
    listener: Listener,
) -> Lab:
    subject, kernel = kernels
    entries: tuple[Entry, ...] = (*ready.entries, built_in_entry(_list_of_built_in(kernel)))
    machine = replace(machine, boot=boot_of(machine, len(ready.tests)))
    lab = set_up_lab(machine, memory, cache, listener, ready.image, entries)
    if lab.boot is Boot.RESUME:
        lab = lab.with_snapshots([subject], cache, listener)
    return lab


def _list_of_built_in(kernel: Kernel) -> Path | None:
    """Return the kernel's own list, beside the lab's bzImage or at the top of a kernel tree."""
    places = (kernel.bzimage.parent, *kernel.bzimage.parents[3:4])
    return next((place / BUILT_IN for place in places if (place / BUILT_IN).is_file()), None)
