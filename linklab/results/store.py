"""The store: a folder for each run, readable whenever the run was killed.

`run.json` is written at the start and again at each turn, in full and under
another name first; `samples.jsonl` grows by one flushed line a sample. So a
run that is killed leaves what it had measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linklab.errors import LabError, UsageError
from linklab.results.model import SCHEMA, BootRecord, Run, Sample, SchemaError

RUN_FILE = "run.json"
SAMPLES_FILE = "samples.jsonl"


def utc_now() -> str:
    """Return the time as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def default_folder(scenario: str) -> Path:
    """Return the folder that a run gets when none is named."""
    return Path("results") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{scenario}"


class RunFolder:
    """The folder of a run that goes on."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about: dict[str, Any] = {
            "schema": SCHEMA,
            "start": utc_now(),
            "end": None,
            "verdict": None,
            "boots": [],
            **about,
        }
        self._write_about()

    def console_log(self, kernel: str, interfaces: int) -> Path:
        """Return where a guest's console goes; a name of its own for each guest."""
        number = len(list(self.path.glob("console-*.log"))) + 1
        return self.path / f"console-{number:02d}-{kernel.replace('/', '_')}-{interfaces}.log"

    def add_sample(self, sample: Sample) -> None:
        """Append a sample; it is on its way to the disk when this returns."""
        with _reporting(self.path), (self.path / SAMPLES_FILE).open("a") as file:
            file.write(json.dumps(sample.to_json()) + "\n")

    def add_boot(self, boot: BootRecord) -> None:
        """Note that a guest booted."""
        self._about["boots"].append(asdict(boot))
        self._write_about()

    def update(self, **entries: Any) -> None:
        """Change entries of run.json."""
        self._about.update(entries)
        self._write_about()

    def write_text(self, name: str, text: str) -> Path:
        """Write another file of the run, a table or a page."""
        with _reporting(self.path):
            (self.path / name).write_text(text)
        return self.path / name

    def _write_about(self) -> None:
        with _reporting(self.path):
            draft = self.path / f".{RUN_FILE}.{os.getpid()}"
            draft.write_text(json.dumps(self._about, indent=1) + "\n")
            draft.replace(self.path / RUN_FILE)


def claim_folder(path: Path) -> Path:
    """Make the folder for a run and check that it can be used.

    Raises `UsageError` when it holds a run already or cannot be written.
    """
    if (path / RUN_FILE).exists() or (path / SAMPLES_FILE).exists():
        raise UsageError(f"{path} already holds a run: name another folder with --output")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"the output folder {path} cannot be written: {error.strerror or error}"
        ) from error
    return path


def read_run(path: Path) -> Run:
    """Return a stored run. A last line that was cut short by a kill is left out.

    Raises `UsageError` when there is no run, or one of another schema.
    """
    try:
        about = json.loads((path / RUN_FILE).read_text())
    except FileNotFoundError:
        raise UsageError(f"{path} holds no run: it has no {RUN_FILE}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path / RUN_FILE} cannot be read: {error}") from error
    schema = about.get("schema") if isinstance(about, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path} was written by schema {schema}, this version reads {SCHEMA}")
    return Run(about, list(_read_samples(path / SAMPLES_FILE)))


def _read_samples(path: Path) -> Iterator[Sample]:
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield Sample.from_json(json.loads(line))
        except (ValueError, SchemaError) as error:
            if number == len(lines):  # without its newline: killed while writing
                return
            raise UsageError(f"{path}, line {number}: {error}") from error


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(
            f"the run's folder {path} cannot be written: {error.strerror or error}; "
            f"what was measured so far is in it"
        ) from error
