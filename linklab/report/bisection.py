"""A bisection as people read it: the table of its steps, and what it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.bisect.driver import duration
from linklab.bisect.history import History
from linklab.bisect.journal import FILE
from linklab.report.grid import plain_table, plain_text
from linklab.results.figures import VIRTUAL, seconds_are

_STYLE = {"good": "green", "bad": "red", "skip": "yellow"}
_EVIDENCE_LINES = 30


def render(document: Mapping[str, Any], history: History) -> Group:
    """Return all that a bisection has to say on a terminal."""
    return Group(*_paragraphs(document, history))


def as_text(document: Mapping[str, Any], history: History) -> str:
    """Return the same as plain text, for a file."""
    return plain_text(render(document, history))


def _paragraphs(document: Mapping[str, Any], history: History) -> Iterator[RenderableType]:
    if document.get("clock") == VIRTUAL:
        yield Text(seconds_are(document), style="bold")
    yield plain_table(
        f"{document['origin']}, kernel {document['kernel']}: {document['looks_for']}",
        (">step", "<revision", "<", "why", ">time"),
        map(_row, document["steps"]),
    )
    outcome = document.get("outcome") or {}
    if "first_bad" in outcome:
        revision = history.about(outcome["first_bad"])
        yield Text(f"first bad: {revision.name}", style="bold")
        by = f"\n    {revision.author}  {revision.date}".rstrip() if revision.author else ""
        yield Text(f"    {revision.subject}{by}")
        yield from _evidence(document, revision.name)
    elif "candidates" in outcome:
        yield Text("It cannot be told: what is left could not be tested.", style="bold")
        yield Text("The first bad one is one of these:")
        for name in outcome["candidates"]:
            yield Text(f"  {history.about(name).title}")
    else:
        yield Text("The search is not over.", style="bold")


def _row(step: Mapping[str, Any]) -> list[RenderableType]:
    judgement = Text(step["judgement"], style=_STYLE[step["judgement"]])
    what = Text(f"{step['why']}\n").append(step["subject"], style="dim")
    return [str(step["number"]), step["short"], judgement, what, duration(step["seconds"])]


def _evidence(document: Mapping[str, Any], name: str) -> Iterator[RenderableType]:
    step = next((s for s in document["steps"] if s["revision"] == name), None)
    if step is None:
        return
    yield Text(f"    step {step['number']}: {step['why']}")
    if step["evidence"]:
        yield Text()
        yield Text(_shortened(step["evidence"].splitlines(), bool(step["fingerprint"])))


def _shortened(lines: Sequence[str], is_report: bool) -> str:
    """Return the beginning of a report, or the end of what a console or a compiler said."""
    if len(lines) <= _EVIDENCE_LINES:
        return "\n".join(lines)
    left = f"[... {len(lines) - _EVIDENCE_LINES} more lines in {FILE}]"
    kept = [*lines[:_EVIDENCE_LINES], left] if is_report else [left, *lines[-_EVIDENCE_LINES:]]
    return "\n".join(kept)
