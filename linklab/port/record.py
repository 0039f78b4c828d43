"""port.json: what became of a series, for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from linklab.host.cache import hash_file
from linklab.port.outcome import Outcome, Status
from linklab.port.porting import Ported

FILE = "port.json"
SCHEMA = 1
"""Grows when an entry changes its meaning; a reader ignores what it does not know."""


def document(ported: Ported, command: Sequence[str], start: str, verdict: str) -> dict[str, Any]:
    """Return everything about a port as one JSON document."""
    held_up = ported.held_up()
    return {
        "schema": SCHEMA,
        "command": shlex.join(command),
        "start": start,
        "verdict": verdict,
        "series": {
            "patches": len(ported.series.patches),
            "cover": ported.series.cover,
            "base": ported.series.base,
            "notes": list(ported.series.notes),
            "files": {str(path): hash_file(path) for path in ported.series.files},
        },
        "source": {
            "origin": str(ported.source.origin),
            "release": ported.release,
            "tree": ported.source.tree,
        },
        "tree": ported.new.tree,
        "counts": {status.value: ported.count(status) for status in Status},
        "patches": [
            _patch(ported, outcome, held_up.get(outcome.number, [])) for outcome in ported.outcomes
        ],
    }


def _patch(ported: Ported, outcome: Outcome, held_up: list[int]) -> dict[str, Any]:
    patch = ported.series.patches[outcome.number - 1]
    file = ported.files.get(outcome.number)
    return {
        "number": outcome.number,
        "subject": outcome.subject,
        "author": patch.author,
        "origin": str(patch.origin),
        "commit": patch.commit,
        "status": outcome.status.value,
        "applies": outcome.status.applies,
        "needs_look": outcome.needs_look,
        "file": file.name if file else None,
        "needs": list(outcome.needs),
        "roots": list(outcome.roots),
        "holds_up": held_up,
        "remarks": list(outcome.remarks),
        "files": [asdict(file) for file in outcome.files],
    }
