"""`invoke bisect`: the first bad commit of a git tree, or the first bad patch of a series."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from linklab.bisect.driver import Bisection, Judge
from linklab.bisect.gitlog import FILE as LOG_FILE
from linklab.bisect.gitlog import git_log
from linklab.bisect.history import GitHistory, History, SeriesHistory
from linklab.bisect.journal import FILE, Journal, held
from linklab.bisect.search import Found
from linklab.commands.judging import (
    Criterion,
    CriterionOptions,
    Workbench,
    check_criterion,
    check_flavour,
    check_machine,
)
from linklab.commands.kept import check_files, fixed_range
from linklab.commands.outcome import print_document, print_shown
from linklab.commands.prepare import NO_ISO, KernelOptions, MachineOptions, decide_clock
from linklab.commands.selfjudge import selftest_judge
from linklab.errors import BuildSkipped, UsageError, Verdict
from linklab.events import Listener, Note
from linklab.host.cache import hash_file
from linklab.kernel.kernel import KernelSpec, check_spec
from linklab.machine.spec import Clock
from linklab.options import JSON, flat, group, made, option, options_of
from linklab.results.store import claim
from linklab.scenarios import own_file

TABLE = "table.txt"


@dataclass(frozen=True)
class BisectOptions:
    """The options of `invoke bisect`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions,
        {"names": "the flavour to build of each commit"},
        without=("modules",),
        names="nosysfs",
    )
    machine: MachineOptions = group(MachineOptions, NO_ISO)
    criterion: CriterionOptions = group(CriterionOptions)
    good: str = option("", "a commit of --source that is good; of a series, how many patches are")
    bad: str = option("", "a commit of --source that is bad; of a series, with how many patches")
    output: str = option("", "a folder for the results; default results/<UTC time>-bisect")
    resume: str = option(
        "", "go on with the bisection in this folder; all other options are its own"
    )
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it."""

    flavour: str
    history: History
    good: str
    bad: str
    criterion: Criterion
    memory: int


def check(options: BisectOptions) -> Request:
    """Check every option that can be checked without building anything."""
    flavour = check_flavour(options.kernels.names)
    criterion = check_criterion(options.criterion)
    memory = check_machine(options.machine, criterion, options.kernels)
    build = options.kernels.build_options()
    check_spec(KernelSpec(flavour, build))
    history: History
    if build.patches and criterion.tests:
        raise UsageError("--selftest goes along commits of a git tree, not along a series")
    if build.patches:
        history = SeriesHistory(build)
        good, bad = options.good or "0", options.bad or str(len(build.patches))
    else:
        if not options.kernels.source:
            raise UsageError("name a git tree with --source, or a series with --patch or --range")
        if not options.good or not options.bad:
            raise UsageError("--good and --bad name the two commits to search between")
        history = GitHistory(Path(options.kernels.source), build)
        good, bad = options.good, options.bad
    request = Request(
        flavour,
        history,
        history.resolve("good", good),
        history.resolve("bad", bad),
        criterion,
        memory,
    )
    history.forks(request.bad, request.good)  # says what is wrong with the two
    return request


def main(options: BisectOptions, command: Sequence[str]) -> Verdict:
    """Search, show what was found, and return what that says."""
    from linklab.report.progress import progress

    with progress() as listener:
        journal, asked = _begun(options, command, listener)
        with held(journal.path):
            request = check(asked)
            found = search(asked, request, journal, listener)
    show(request.history, journal, as_json=options.as_json)
    return Verdict.PASS if found else Verdict.SKIP


def _begun(
    options: BisectOptions, command: Sequence[str], listener: Listener
) -> tuple[Journal, BisectOptions]:
    """Return the record to go on with, and the options that it was begun with."""
    if options.resume:
        journal = Journal.read(Path(options.resume))
        check_files(journal.about.get("files", {}))
        options = revived(journal.about["options"])
        # All steps by the same clock; before it was kept there was one only.
        clock = str(journal.about.get("clock", Clock.REAL.value))
        return journal, replace(options, machine=replace(options.machine, clock=clock))
    request = check(options)
    output = Path(options.output)
    if options.output and (output / FILE).exists():
        raise UsageError(f"{output} holds a bisection already: --resume {output} goes on with it")
    clock = decide_clock(options.machine, listener)
    folder = claim(options.output, "bisect")
    absolute = _absolute(options)
    about = {
        "command": shlex.join(command),
        "clock": clock.value,
        "options": flat(absolute),
        "files": {str(path): hash_file(path) for path in _files(absolute)},
        "kernel": request.flavour,
        "origin": request.history.origin,
        "looks_for": request.criterion.text,
        "good": request.good,
        "bad": request.bad,
    }
    return Journal.begin(folder, about), absolute


def search(options: BisectOptions, request: Request, journal: Journal, listener: Listener) -> bool:
    """Search, and tell whether the first bad revision is known.

    However it ends, what was found out by then is on disk, for a person too.
    """
    history = request.history
    try:
        judge = _judge(options, request, journal, listener)
        return isinstance(Bisection(history, judge, journal, listener).run(), Found)
    except (UsageError, BuildSkipped):
        raise  # what was claimed does not hold: going on would not help
    except BaseException:
        done = len(journal.steps)
        again = f"`invoke bisect --resume {shlex.quote(str(journal.path))}` goes on"
        listener(Note(f"{done} step{'s' * (done != 1)} done: {again}"))
        raise
    finally:
        _write(history, journal)


def _judge(options: BisectOptions, request: Request, journal: Journal, listener: Listener) -> Judge:
    history = request.history
    if request.criterion.tests:
        kernels = options.kernels
        return selftest_judge(
            request.criterion,
            lambda revision: replace(kernels, revision=revision.name),
            options.machine,
            journal,
            listener,
        )
    bench = Workbench.open(
        request.flavour, options.machine, request.memory, request.criterion, listener
    )
    return bench.judge(
        lambda revision: history.build_options(revision.name),
        history.about(request.good),
        journal,
    )


def _write(history: History, journal: Journal) -> None:
    from linklab.report.bisection import as_text

    journal.write_text(TABLE, as_text(journal.document(), history))
    if isinstance(history, GitHistory):
        log = git_log(history, journal.steps, journal.about.get("outcome"))
        journal.write_text(LOG_FILE, log)


def show(history: History, journal: Journal, *, as_json: bool) -> None:
    """Show a bisection that is over: to a person, or as one document to a script."""
    if as_json:
        print_document(document(history, journal))
        return

    from linklab.report.bisection import render

    print_shown(render(journal.document(), history))
    print(f"\nresults: {journal.path}")


def document(history: History, journal: Journal) -> dict[str, Any]:
    """Return everything about a bisection, with what is known of the revisions found."""
    outcome = journal.about.get("outcome") or {}
    named = [outcome["first_bad"]] if "first_bad" in outcome else outcome.get("candidates", [])
    return {
        "folder": str(journal.path),
        **journal.document(),
        "revisions": [asdict(history.about(name)) for name in named],
    }


def _files(options: BisectOptions) -> list[Path]:
    """Return the files that options, made absolute, name."""
    configs = (Path(config) for config in options.kernels.configs)
    noise = [Path(options.machine.noise)] if options.machine.noise else []
    own = own_file(options.criterion.scenario)
    files = (*options.kernels.series.files, *configs, *noise, *([own] if own else []))
    return [path.absolute() for path in files]


def _absolute(options: BisectOptions) -> BisectOptions:
    """Return the options with every path absolute: a search may go on from anywhere."""
    kernels = options.kernels

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().absolute()) if path else ""

    scenario = own_file(options.criterion.scenario)
    return replace(
        options,
        machine=replace(options.machine, noise=absolute(options.machine.noise)),
        criterion=replace(options.criterion, scenario=str(scenario or options.criterion.scenario)),
        kernels=replace(
            kernels,
            source=absolute(kernels.source),
            patches=tuple(map(absolute, kernels.patches)),
            configs=tuple(map(absolute, kernels.configs)),
            range=fixed_range(kernels),
        ),
    )


def revived(stored: Mapping[str, Any]) -> BisectOptions:
    """Return options as they were kept; raise `UsageError` for what this version lacks.

    Earlier versions kept them by the fields of the dataclasses, which are nested.
    """
    known = {(each.group, each.field): each.name for each in options_of(BisectOptions)}
    given = dict(stored)
    if "kernels" in stored:
        parts: dict[str, Mapping[str, Any]] = {
            name: part for name, part in stored.items() if isinstance(part, Mapping)
        }
        parts[""] = {name: value for name, value in stored.items() if name not in parts}
        places = {(name, own): v for name, part in parts.items() for own, v in part.items()}
        given = {known.get(at, at[1]): v for at, v in places.items() if v or at in known}
    if unknown := given.keys() - known.values():
        raise UsageError(f"the bisection was begun by another version, with {sorted(unknown)}")
    return made(BisectOptions, given)
