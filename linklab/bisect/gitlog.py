"""A bisection as `git bisect log` prints one, for `git bisect replay`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from linklab.bisect.history import History
from linklab.bisect.journal import Step

FILE = "bisect.log"


def git_log(history: History, steps: Sequence[Step], outcome: dict[str, object] | None) -> str:
    """Return the steps of a bisection of a git tree, and its outcome, as git's log has them."""
    return "\n".join(_lines(history, steps, outcome or {})) + "\n"


def _lines(history: History, steps: Sequence[Step], outcome: dict[str, object]) -> Iterator[str]:
    yield "git bisect start"
    for step in steps:
        yield f"# {step.judgement.value}: [{step.revision}] {step.subject}"
        yield f"git bisect {step.judgement.value} {step.revision}"
    if isinstance(first := outcome.get("first_bad"), str):
        yield f"# first bad commit: [{first}] {history.about(first).subject}"
    if isinstance(candidates := outcome.get("candidates"), list):
        yield "# only skipped commits left to test"
        for each in candidates:
            yield f"# possible first bad commit: [{each}] {history.about(each).subject}"
