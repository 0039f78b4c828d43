"""`invoke bisect`: the first bad commit of a git tree, or the first bad patch of a series."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.bisect.driver import Bisection, Classifier
from linklab.bisect.gitlog import FILE as LOG_FILE
from linklab.bisect.gitlog import git_log
from linklab.bisect.history import GitHistory, History, SeriesHistory
from linklab.bisect.journal import FILE, Journal
from linklab.bisect.search import Found
from linklab.bisect.tester import Criterion
from linklab.commands.fleet import FleetOptions
from linklab.commands.judging import (
    CriterionOptions,
    check_criterion,
    check_machine,
    open_tester,
    selftest_classifier,
)
from linklab.commands.kernels import ONE_FLAVOUR, KernelOptions
from linklab.commands.machines import MachineOptions, decide_clock
from linklab.commands.run import check_files, hashes_of
from linklab.commands.workflow import TABLE, Finished, Request, Workflow
from linklab.errors import BuildSkipped, UsageError, Verdict
from linklab.events import Note
from linklab.kernel.kernel import KernelSpec, check_spec
from linklab.machine.spec import Clock
from linklab.options import ResultOptions, flat, group, made, option, options_of
from linklab.results.result_kinds import BISECTION
from linklab.results.store import claim, held

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class BisectOptions(ResultOptions):
    """The options of `invoke bisect`, as typed."""

    kernels: KernelOptions = group(KernelOptions, {"names": ONE_FLAVOUR}, names="nosysfs")
    machine: MachineOptions = group(MachineOptions)
    fleet: FleetOptions = group(FleetOptions)
    criterion: CriterionOptions = group(CriterionOptions)
    good: str = option("", "a commit of --source that is good; of a series, how many patches are")
    bad: str = option("", "a commit of --source that is bad; of a series, with how many patches")
    resume: str = option(
        "", "go on with the bisection in this folder; all other options are its own"
    )


@dataclass(frozen=True)
class Search:
    """What is looked for and where, checked: nothing has been started."""

    flavour: str
    history: History
    good: str
    bad: str
    criterion: Criterion
    memory: int


@dataclass(frozen=True)
class BisectRequest(Request):
    """A bisection that was begun, just now or earlier, with the options that it goes by."""

    journal: Journal
    options: BisectOptions
    search: Search


def checked(options: BisectOptions) -> Search:
    """Check every option that can be checked without building anything."""
    flavour = options.kernels.check_flavour("one flavour is expected")
    criterion = check_criterion(options.criterion)
    memory = check_machine(options.machine, criterion, options.kernels)
    options.fleet.check(keeps=criterion.keep)
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
    good, bad = history.resolve("good", good), history.resolve("bad", bad)
    history.forks(bad, good)  # says what is wrong with the two
    return Search(flavour, history, good, bad, criterion, memory)


class Bisecting(Workflow[BisectOptions, BisectRequest]):
    """`invoke bisect` at its work. Its record is a journal, which another one goes on with."""

    def check(self) -> BisectRequest:
        """Check the options and begin a journal, or take both from the one to go on with."""
        if not self.options.resume:
            return self._begun()
        journal = Journal.read(Path(self.options.resume))
        check_files(journal.about.get("files", {}))
        options = revived(journal.about["options"])
        # All steps by the same clock; before it was kept there was one only.
        clock = str(journal.about.get("clock", Clock.REAL.value))
        options = replace(options, machine=replace(options.machine, clock=clock))
        return BisectRequest(journal.path, journal, options, checked(options))

    def _begun(self) -> BisectRequest:
        options = self.options
        search = checked(options)
        output = Path(options.output)
        if options.output and (output / FILE).exists():
            raise UsageError(
                f"{output} holds a bisection already: --resume {output} goes on with it"
            )
        clock = decide_clock(options.machine, self.listener)
        folder = claim(options.output, BISECTION)
        kernels, machine = options.kernels.absolute(), options.machine.absolute()
        criterion = options.criterion.absolute()  # a search may go on from anywhere
        options = replace(options, kernels=kernels, machine=machine, criterion=criterion)
        about = {
            "command": shlex.join(self.command),
            "clock": clock.value,
            "options": flat(options),
            "files": hashes_of(kernels, machine, criterion),
            "kernel": search.flavour,
            "origin": search.history.origin,
            "looks_for": search.criterion.text,
            "good": search.good,
            "bad": search.bad,
        }
        return BisectRequest(folder, Journal.begin(folder, about), options, search)

    def work(self) -> Finished:
        """Search. However it ends, what was found out by then is on disk, for a person too."""
        search, journal = self.request.search, self.request.journal
        with held(journal.path, "bisection"):
            try:
                bisection = Bisection(search.history, self._classifier(), journal, self.listener)
                found = isinstance(bisection.run(), Found)
            except (UsageError, BuildSkipped):
                raise  # what was claimed does not hold: going on would not help
            except BaseException:
                done = len(journal.steps)
                again = f"`invoke bisect --resume {shlex.quote(str(journal.path))}` goes on"
                self.listener(Note(f"{done} step{'s' * (done != 1)} done: {again}"))
                raise
            finally:
                journal.write_text(TABLE, self.text())
                if isinstance(search.history, GitHistory):
                    log = git_log(search.history, journal.steps, journal.about.get("outcome"))
                    journal.write_text(LOG_FILE, log)
        return Finished(journal.path, Verdict.PASS if found else Verdict.SKIP)

    def _classifier(self) -> Classifier:
        search, options, journal = self.request.search, self.request.options, self.request.journal
        if search.criterion.tests:
            return selftest_classifier(
                search.criterion,
                lambda revision: replace(options.kernels, revision=revision.name),
                options.machine,
                journal,
                self.listener,
                options.fleet,
            )
        tester = open_tester(
            options.kernels,
            options.machine,
            search.memory,
            search.criterion,
            self.listener,
            self.cache,
            self.held.enter_context(options.fleet.joined(self.cache, self.listener)),
        )
        return tester.classifier(
            lambda revision: search.history.build_options(revision.name),
            search.history.about(search.good),
            journal,
        )

    def table(self) -> RenderableType:
        """Return the table of the steps, and what they say."""
        from linklab.report.bisection import render

        return render(self.request.journal.document(), self.request.search.history)

    def document(self) -> dict[str, Any]:
        """Return the journal, with what is known of the revisions found."""
        journal, history = self.request.journal, self.request.search.history
        outcome = journal.about.get("outcome") or {}
        named = [outcome["first_bad"]] if "first_bad" in outcome else outcome.get("candidates", [])
        revisions = [asdict(history.about(name)) for name in named]
        return {**journal.document(), "revisions": revisions}

    def closing(self, finished: Finished) -> str:
        """Return where the results are."""
        return f"results: {finished.folder}"


def main(options: BisectOptions, command: Sequence[str]) -> Verdict:
    """Search, show what was found, and return what that says."""
    return Bisecting(options, command).carry_out()


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
