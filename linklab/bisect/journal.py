"""A bisection on disk: what it is to find, and every step as it is done.

`bisect.json` is written in full, under another name first, after each step. So
a bisection that is killed has lost the step that it was at, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from linklab.bisect.search import Mark
from linklab.errors import LabError, UsageError, os_errors_as
from linklab.results.store import utc_now

FILE = "bisect.json"
STEPS = "steps"
SCHEMA = 1


@dataclass(frozen=True)
class Step:
    """One revision that was tested, and what came of it.

    `seconds` is the host's time for it, its build included. `folder` holds the
    run, below the bisection's own. `figure` is what was measured, where the
    search goes by one. `evidence` is what the kernel or the compiler said.
    """

    number: int
    revision: str
    short: str
    subject: str
    judgement: Mark
    verdict: str
    why: str
    seconds: float
    folder: str = ""
    kernel: str = ""
    figure: Mapping[str, Any] | None = None
    evidence: str = ""
    fingerprint: str = ""  # of the kernel's report

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return a stored step."""
        return cls(**{**data, "judgement": Mark(data["judgement"])})


class Journal:
    """The record of a bisection that goes on. `about` is what stands in it beside the steps."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = dict(about)
        self.steps = [Step.from_json(entry) for entry in self._about.pop("steps", ())]

    @classmethod
    def begin(cls, path: Path, about: Mapping[str, Any]) -> Self:
        """Begin a record in an empty folder."""
        start = {"schema": SCHEMA, "start": utc_now(), "end": None, "outcome": None}
        journal = cls(path, {**start, **about})
        journal._write()
        return journal

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return a stored record; raise `UsageError` where there is none that can be read."""
        try:
            about = json.loads((path / FILE).read_text())
            if about.get("schema") != SCHEMA:
                raise UsageError(
                    f"{path} was written by schema {about.get('schema')}, this version reads "
                    f"{SCHEMA}"
                )
            return cls(path, about)
        except FileNotFoundError:
            raise UsageError(f"{path} holds no bisection: it has no {FILE}") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{path / FILE} cannot be read: {error}") from error

    @property
    def about(self) -> Mapping[str, Any]:
        """Everything but the steps."""
        return self._about

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {**self._about, "steps": [asdict(step) for step in self.steps]}

    def add(self, step: Step) -> None:
        """Keep a step."""
        self.steps.append(step)
        self._write()

    def update(self, **entries: Any) -> None:
        """Change entries beside the steps."""
        self._about.update(entries)
        self._write()

    def step_folder(self, number: int, short: str) -> Path:
        """Return a new folder for a step's run; what a killed one left stays beside it."""
        name = f"{number:02d}-{short.replace('/', '_')}"
        path, again = self.path / STEPS / name, 1
        while path.exists():
            again += 1
            path = self.path / STEPS / f"{name}-{again}"
        with _reporting(self.path):
            path.mkdir(parents=True)
        return path

    def write_text(self, name: str, text: str) -> None:
        """Write another file beside the record."""
        with _reporting(self.path):
            (self.path / name).write_text(text, encoding="utf-8")

    def _write(self) -> None:
        with _reporting(self.path):
            draft = self.path / f".{FILE}.{os.getpid()}"
            draft.write_text(json.dumps(self.document(), indent=1) + "\n")
            draft.replace(self.path / FILE)


def _reporting(path: Path) -> AbstractContextManager[None]:
    what = f"the bisection's folder {path} cannot be written"
    return os_errors_as(LabError, what, "; the steps done so far are in it")
