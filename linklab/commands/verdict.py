"""`invoke verdict`: is this kernel tree good? For `git bisect run` and scripts like it."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linklab.bisect.driver import Classified
from linklab.bisect.history import GitHistory, Revision
from linklab.bisect.journal import Journal
from linklab.bisect.search import Mark
from linklab.bisect.tester import Criterion
from linklab.commands.exit_status import print_document, step_status
from linklab.commands.judging import (
    CriterionOptions,
    check_criterion,
    check_machine,
    open_tester,
    selftest_classifier,
)
from linklab.commands.kernels import ONE_FLAVOUR, KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.errors import UsageError, Verdict
from linklab.events import Listener, ignore
from linklab.kernel.kernel import BuildOptions, KernelSpec, check_spec
from linklab.options import JSON, group, option

_HERE = Revision("", "here", "")
_VERDICT = {
    Mark.GOOD: Verdict.PASS,
    Mark.BAD: Verdict.FAIL,
    Mark.SKIP: Verdict.SKIP,
}


@dataclass(frozen=True)
class VerdictOptions:
    """The options of `invoke verdict`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions, {"names": ONE_FLAVOUR}, names="nosysfs", source="."
    )
    machine: MachineOptions = group(MachineOptions)
    criterion: CriterionOptions = group(CriterionOptions, without=("same",))
    against: str = option("", "the good commit of --source that a figure is measured against")
    output: str = option(
        "", "keep each run in a folder of its own below this one; default: none is kept"
    )
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Request:
    """The same, checked. `good` is the commit that a figure is measured against."""

    flavour: str
    build: BuildOptions
    criterion: Criterion
    memory: int
    here: Revision
    good: Revision | None


def check(options: VerdictOptions) -> Request:
    """Check every option that can be checked without building anything."""
    flavour = options.kernels.check_flavour("one flavour is expected")
    criterion = check_criterion(options.criterion)
    memory = check_machine(options.machine, criterion, options.kernels)
    build = options.kernels.build_options()
    check_spec(KernelSpec(flavour, build))
    if criterion.threshold and criterion.threshold.is_middle:
        raise UsageError(
            "--above auto takes the middle of a good and a bad commit, and here is one alone: name "
            "a share, a ratio or a value"
        )
    if criterion.is_relative != bool(options.against):
        raise UsageError(
            f"--above {options.criterion.above} is measured against a good commit: "
            "name it with --against"
            if criterion.is_relative
            else f"--against {options.against} needs --above with a share or a ratio"
        )
    return Request(flavour, build, criterion, memory, _here(options), _good(options, build))


def _here(options: VerdictOptions) -> Revision:
    """Return what is checked out, for a person; whatever it is, its files count."""
    try:
        history = GitHistory(Path(options.kernels.source), BuildOptions())
        head = history.about(history.resolve("source", "HEAD"))
    except UsageError:
        return _HERE
    return Revision("", head.short, head.subject, head.author, head.date)


def _good(options: VerdictOptions, build: BuildOptions) -> Revision | None:
    if not options.against:
        return None
    history = GitHistory(Path(options.kernels.source), build)
    found = history.about(history.resolve("against", options.against))
    return Revision(found.name, f"good-{found.short}", found.subject, found.author, found.date)


def main(options: VerdictOptions, command: Sequence[str]) -> Verdict:
    """Judge the tree and say so in one line, with the evidence on standard error."""
    request = check(options)
    with _listener() as listener, _folder(options.output, request.here) as folder:
        about = {"command": shlex.join(command), "looks_for": request.criterion.text}
        journal = Journal.begin(folder, about)
        classified = _classifier(options, request, journal, listener)
        journal.update(outcome=asdict(classified))
    verdict = _VERDICT[classified.judgement]
    if options.as_json:
        print_document(_document(classified, verdict, options))
    else:
        print(f"{classified.judgement.value}: {classified.why}")
    if classified.evidence and classified.judgement is not Mark.GOOD:
        print(classified.evidence, file=sys.stderr)
    return verdict


def _classifier(
    options: VerdictOptions, request: Request, journal: Journal, listener: Listener
) -> Classified:
    if request.criterion.tests:
        classifier = selftest_classifier(
            request.criterion, lambda _: options.kernels, options.machine, journal, listener
        )
        return classifier.classify(request.here, 1)
    tester = open_tester(
        options.kernels, options.machine, request.memory, request.criterion, listener
    )
    history = GitHistory(Path(options.kernels.source), request.build) if request.good else None

    def build(revision: Revision) -> BuildOptions:
        if history is not None and revision.name:
            return history.build_options(revision.name)
        return request.build

    return tester.classifier(build, request.good, journal).classify(request.here, 1)


def _document(classified: Classified, verdict: Verdict, options: VerdictOptions) -> dict[str, Any]:
    return {
        **asdict(classified),
        "folder": classified.folder if options.output else "",
        "status": step_status(verdict),
    }


@contextmanager
def _listener() -> Iterator[Listener]:
    """Yield a bar for a person, and nothing for a script: its own output is what counts."""
    if not sys.stderr.isatty():
        yield ignore
        return
    from linklab.report.progress import progress

    with progress() as shown:
        yield shown


@contextmanager
def _folder(output: str, here: Revision) -> Iterator[Path]:
    """Yield a folder for the run: below `output`, or one that does not stay.

    Never one in the tree itself: what lies there is part of the source.
    """
    if not output:
        with tempfile.TemporaryDirectory(prefix="linklab-verdict-") as scratch:
            yield Path(scratch)
        return
    number = 1
    while True:
        path = Path(output) / (here.short if number == 1 else f"{here.short}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UsageError(
                f"--output {output} cannot be written: {error.strerror or error}"
            ) from error
        else:
            yield path
            return
