"""Judging a revision by its verdict: does it have the fault that is looked for?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.bisect.criterion import FaultRule, Symptom, symptoms
from linklab.bisect.driver import Classified
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal, Step
from linklab.bisect.search import Mark
from linklab.errors import BuildSkipped, KernelFault, LinklabError, Verdict
from linklab.lab.lab import Subject

# Compilers name files of the lab's own work tree: what comes behind that is the file's name.
_ERROR = re.compile(r"^(?:\S*/tree/)?(?P<error>\S+:\d+(?::\d+)?: error: .*)$", re.MULTILINE)

Build = Callable[[Revision], Subject]
"""Returns the kernel of a revision; raises `BuildSkipped` where there is none."""


Run = Callable[[Subject, Path, int], Sequence[LinklabError]]
"""Does what is to be done on a kernel, into a folder, as the try with this number, and
returns the kernel's faults."""


@dataclass(frozen=True)
class Tries:
    """Some tries of one revision. Bad is one with a fault that the rule wants, in any of them.

    A fault that comes only now and then needs more than one try before a
    revision without it may be called good.
    """

    rule: FaultRule
    count: int
    journal: Journal

    def classified(
        self,
        revision: Revision,
        number: int,
        run: Callable[[Path, int], Sequence[LinklabError]],
        well: str,
        kernel: str = "",
    ) -> Classified:
        """Return what the tries say; `well` says that nothing was wrong.

        `run` does one, by its number from 1: in virtual time each must draw other
        random numbers, or it would be the first one once more.
        `kernel` is the name that faults have for the kernel in front of them.
        """
        folder = self.journal.step_folder(number, revision.short)
        name = str(folder.relative_to(self.journal.path))
        other: Classified | None = None
        for attempt in range(1, self.count + 1):
            where = folder if self.count == 1 else folder / f"try-{attempt}"
            where.mkdir(exist_ok=True)
            classified = replace(
                self._classified(run(where, attempt), f"kernel {kernel}: "), folder=name
            )
            if classified.judgement is Mark.BAD:
                return classified
            if classified.judgement is Mark.SKIP:
                other = classified
        if other is not None:
            return other
        tried = f" in {self.count} tries" if self.count > 1 else ""
        return Classified(Mark.GOOD, Verdict.PASS.value, f"{well}{tried}", name)

    def _classified(self, faults: Sequence[LinklabError], prefix: str) -> Classified:
        """Return what the faults of one try say: the wanted one, if it is among them."""
        first = self._first_fingerprint()
        found = [(fault, symptom) for fault in faults for symptom in symptoms([fault])]
        for fault, symptom in found:
            if self.rule.wants(symptom, first):
                return _of_fault(Mark.BAD, fault, symptom, fault.message.removeprefix(prefix))
        if found:
            fault, symptom = found[0]
            why = f"another fault than the one looked for: {fault.message.removeprefix(prefix)}"
            return _of_fault(Mark.SKIP, fault, symptom, why)
        return Classified(Mark.GOOD, Verdict.PASS.value, "")

    def _first_fingerprint(self) -> str:
        """Return the fingerprint of the fault of the revision that was claimed bad."""
        bad = self.journal.about.get("bad")
        return next((step.fingerprint for step in self.journal.steps if step.revision == bad), "")


@dataclass(frozen=True)
class VerdictClassifier:
    """Classifies by what a scenario finds."""

    build: Build
    run: Run
    tries: Tries

    def classify(self, revision: Revision, number: int) -> Classified:
        """See `Classifier`."""
        try:
            subject = self.build(revision)
        except BuildSkipped as error:
            return not_built(error)
        if known := same_kernel(self.tries.journal.steps, subject.sha256):
            return reused(known)
        classified = self.tries.classified(
            revision,
            number,
            lambda folder, attempt: self.run(subject, folder, attempt),
            "every operation done and verified",
            subject.name,
        )
        return replace(classified, kernel=subject.sha256)


@dataclass(frozen=True)
class SelftestClassifier:
    """Classifies by the kernel's own self-tests, as the revision itself has them.

    `run` builds what they need and does them; it raises `BuildSkipped` where
    there is no kernel or no such test.
    """

    run: Callable[[Revision, Path, int], Sequence[LinklabError]]
    tries: Tries

    def classify(self, revision: Revision, number: int) -> Classified:
        """See `Classifier`."""
        try:
            return self.tries.classified(
                revision,
                number,
                lambda folder, attempt: self.run(revision, folder, attempt),
                "every test passed",
            )
        except BuildSkipped as error:
            return not_built(error)


def _of_fault(judgement: Mark, fault: LinklabError, symptom: Symptom, why: str) -> Classified:
    return Classified(
        judgement,
        fault.verdict.value,
        why,
        evidence=symptom.evidence or fault.evidence,
        fingerprint=symptom.fingerprint,
    )


def not_built(error: BuildSkipped) -> Classified:
    """Return what is said of a revision that has no kernel: the compiler's first error."""
    first = _ERROR.search(error.evidence)
    why = f"it does not compile: {first['error']}" if first else error.message
    return Classified(Mark.SKIP, error.verdict.value, why, evidence=error.evidence)


def same_kernel(steps: Sequence[Step], sha256: str) -> Step | None:
    """Return the step that tested this very kernel.

    Builds are reproducible, so a commit that touches nothing of what is
    compiled gives the same kernel, and need not be tested again.
    """
    return next((step for step in steps if step.kernel == sha256), None)


def reused(step: Step) -> Classified:
    """Return what an earlier step said of the same kernel."""
    return Classified(
        step.judgement,
        step.verdict,
        f"{step.why} (the same kernel as step {step.number})",
        step.folder,
        step.kernel,
        dict(step.figure) if step.figure else None,
        step.evidence,
        step.fingerprint,
    )


def of_kernel(faults: Sequence[LinklabError]) -> list[LinklabError]:
    """Return the faults of a kernel; raise what is the lab's own, or the user's."""
    for fault in faults:
        if not isinstance(fault, KernelFault):
            raise fault
    return list(faults)
