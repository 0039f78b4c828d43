"""What `invoke selftest` needs before the first test: kernels, programs, images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    prepare_lab,
    subject_of,
    tell_notes,
)
from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.host.cache import Cache
from linklab.image.userland import Entry
from linklab.kernel.compile import BUILT_IN
from linklab.kernel.debkernel import is_package
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import Kernel, KernelSpec, resolve_kernel
from linklab.kernel.kernel import plan as plan_kernel
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.selftests.workplan import (
    Ready,
    Wanted,
    Workplan,
    built_in_entry,
    config_of,
    make_ready,
    plan_tests,
    read_toolbox,
    said_of,
)

AUTO = "auto"
_RESUME_FROM = 4  # tests, from which on it pays to save a guest first


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
    for collection in plan.collections:
        wanted = config_of(plan, collection, cache, listener)
        kernel = _kernel(kernels, name, wanted, cache, listener)
        ready = make_ready(plan, collection, toolbox, cache, listener)
        for note in _notes_on(ready):
            listener(Note(note))
        missing = wanted.missing(kernel.config)
        if missing:
            listener(Note(said_of(missing, kernel.name)))
        subject = subject_of(kernel, cache, listener)
        if len(plan.collections) > 1:  # each has a kernel of its own
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


def _kernel(
    kernels: KernelOptions, name: str, wanted: Wanted, cache: Cache, listener: Listener
) -> Kernel:
    if name in flavours():
        kernels = replace(kernels, optional=tuple(map(str, wanted.fragments)))
    return resolve_kernel(name, kernels.build_options(), cache, listener)


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
    lab = prepare_lab(machine, memory, cache, listener, ready.image, entries)
    if lab.boot is Boot.RESUME:
        lab = lab.with_snapshots([subject], cache, listener)
    return lab


def _list_of_built_in(kernel: Kernel) -> Path | None:
    """Return the kernel's own list, beside the lab's bzImage or at the top of a kernel tree."""
    places = (kernel.bzimage.parent, *kernel.bzimage.parents[3:4])
    return next((place / BUILT_IN for place in places if (place / BUILT_IN).is_file()), None)


def _notes_on(ready: Ready) -> Iterator[str]:
    """Yield what a person should know of tests before they run."""
    names = {test.name for test in ready.tests}
    for name, error in ready.unbuilt.items():
        tail = "" if name in names else "; tests that run it will say so"
        yield f"{error.message}{tail}"
    tools: dict[str, list[str]] = {}
    packages: dict[str, str] = {}
    for test, lacking in ready.lacking.items():
        for tool, package in lacking.items():
            tools.setdefault(tool, []).append(test)
            packages[tool] = package
    for tool, tests in sorted(tools.items()):
        some = ", ".join(tests[:3]) + (f" and {len(tests) - 3} more" if len(tests) > 3 else "")
        package = packages[tool]
        where = f"Debian's package {package} is not installed" if package else "no image has it"
        yield f"{some} may ask for {tool}: {where}"
    if wanted := sorted({packages[tool] for tool in tools if packages[tool]}):
        yield f"as root: apt-get install --no-install-recommends -y {' '.join(wanted)}"
