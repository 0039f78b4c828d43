"""The course of a bisection: what was claimed is tested first, then it is halved.

All that it knows stands in its journal, so going on after an interruption is
the same as going on after a step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean
from typing import Any, Protocol

from linklab.bisect.history import History, Revision
from linklab.bisect.journal import Journal, Step
from linklab.bisect.search import Found, Mark, Next, Test, Unclear, decide
from linklab.errors import BuildSkipped, UsageError
from linklab.events import Listener, Note
from linklab.results.store import utc_now


@dataclass(frozen=True)
class Classified:
    """What came of testing one revision. See `Step` for the fields."""

    judgement: Mark
    verdict: str
    why: str
    folder: str = ""
    kernel: str = ""
    figure: dict[str, Any] | None = None
    evidence: str = ""
    fingerprint: str = ""


class Classifier(Protocol):
    """Says of a revision whether it is good or bad."""

    def classify(self, revision: Revision, number: int) -> Classified:
        """Build and test a revision; what cannot be built, or told, is a skip.

        Raises the lab's own faults: they say nothing of the revision.
        """


class Bisection:
    """From a good and a bad revision to the first bad one."""

    def __init__(
        self, history: History, classifier: Classifier, journal: Journal, listener: Listener
    ) -> None:
        self._history = history
        self._classifier = classifier
        self._journal = journal
        self._listener = listener
        self._bad: str = journal.about["bad"]
        self._good: str = journal.about["good"]

    def run(self) -> Found | Unclear:
        """Go on until it is known, or cannot be.

        Raises `UsageError` when what was claimed to be good is bad, or the
        other way round; `BuildSkipped` when that cannot be tested.
        """
        self._check_claims()
        while True:
            step = self._next()
            if isinstance(step, Test):
                self._announce(step)
                self._test(step.revision)
                continue
            self._journal.update(end=utc_now(), outcome=_outcome(step))
            return step

    def _next(self) -> Next:
        bad, goods, skipped = self._bad, [self._good], set()
        for step in self._journal.steps:
            match step.judgement:
                case Mark.BAD:
                    bad = step.revision
                case Mark.GOOD:
                    goods.append(step.revision)
                case Mark.SKIP:
                    skipped.add(step.revision)
        return decide(self._history.suspects(bad, list(dict.fromkeys(goods))), bad, skipped)

    def _check_claims(self) -> None:
        forks = self._history.forks(self._bad, self._good)
        self._claim("bad", self._bad, Mark.BAD)
        self._claim("good", self._good, Mark.GOOD)
        for fork in forks:
            step = self._tested(fork)
            if step.judgement is Mark.BAD:
                raise UsageError(
                    f"{self._history.about(fork).title}, where good and bad part, is bad: "
                    f"good was repaired after it. {step.why}"
                )
            if step.judgement is Mark.SKIP:
                title = self._history.about(fork).title
                self._listener(
                    Note(f"{title}, where good and bad part, cannot be tested: {step.why}")
                )

    def _claim(self, option: str, revision: str, expected: Mark) -> None:
        step = self._tested(revision)
        title = self._history.about(revision).title
        if step.judgement is Mark.SKIP:
            raise BuildSkipped(f"--{option} {title} cannot be tested: {step.why}", step.evidence)
        if step.judgement is not expected:
            raise UsageError(
                f"--{option} {title} is {step.judgement.value}: {step.why}", step.evidence
            )

    def _tested(self, revision: str) -> Step:
        for step in self._journal.steps:
            if step.revision == revision:
                return step
        return self._test(revision)

    def _test(self, name: str) -> Step:
        revision = self._history.about(name)
        number = len(self._journal.steps) + 1
        began = time.monotonic()
        classified = self._classifier.classify(revision, number)
        step = Step(
            number=number,
            revision=name,
            short=revision.short,
            subject=revision.subject,
            judgement=classified.judgement,
            verdict=classified.verdict,
            why=classified.why,
            seconds=round(time.monotonic() - began, 3),
            folder=classified.folder,
            kernel=classified.kernel,
            figure=classified.figure,
            evidence=classified.evidence,
            fingerprint=classified.fingerprint,
        )
        self._journal.add(step)
        self._listener(Note(f"step {number}: {revision.title}: {step.judgement}: {step.why}"))
        return step

    def _announce(self, test: Test) -> None:
        steps = f"about {test.steps} more step{'s' * (test.steps != 1)}"
        text = f"{test.suspects} suspects, {steps}"
        if times := [step.seconds for step in self._journal.steps if step.seconds]:
            text += f", {duration(test.steps * mean(times))}"
        self._listener(Note(text))


def duration(seconds: float) -> str:
    """Return about how long that is: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _outcome(end: Found | Unclear) -> dict[str, Any]:
    if isinstance(end, Found):
        return {"first_bad": end.revision}
    return {"candidates": list(end.revisions)}
