"""The table of faults, as a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faults import GRACE, Fault, Outcome

from linklab.templating import render

OPTION = "--fault-table"
_FOLDER = re.compile(r"/\S*/")
_PROCESS = re.compile(r"\b(pid|process) \d+")
_WORDS = 90  # characters of the lab's words


@dataclass(frozen=True)
class Row:
    """A fault, the kernel and the clock of its guest, and what came of it."""

    fault: Fault
    kernel: str
    clock: str
    outcome: Outcome

    @property
    def words(self) -> str:
        """What the lab said, short, the same each time, and without what would end a cell."""
        text = " ".join(self.outcome.message.split()).replace("|", "\\|")
        text = _PROCESS.sub(r"\1 N", _FOLDER.sub("FOLDER/", text))
        return text if len(text) <= _WORDS else f"{text[: _WORDS - 3]}..."


def write_table(rows: Sequence[Row], where: Path) -> None:
    """Write the page."""
    where.write_text(render("faults.md", rows=rows, grace=GRACE), encoding="utf-8")
