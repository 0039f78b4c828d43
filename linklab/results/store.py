"""The store: a folder for each run, readable whenever the run was killed.

`run.json` is written at the start and at the end, under another name first;
samples, boots, tallies, faults and a series' states are lines of files of their
own, each flushed as it comes. So a run that is killed leaves what it had measured.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from linklab.errors import KernelFault, LabError, LinklabError, UsageError, os_errors_as
from linklab.results.codec import SchemaError, read_document
from linklab.results.model import (
    BOOTS,
    COURSES,
    FAULTS,
    IGNORED,
    LINES,
    SCHEMA,
    STATES,
    TALLIES,
    BootRecord,
    CourseRecord,
    Run,
    Sample,
    TallyRecord,
)

T = TypeVar("T")

RUN_FILE = "run.json"
SAMPLES_FILE = "samples.jsonl"
PAGE_FILE = "report.html"
_RESULTS = Path("results")


def utc_now() -> str:
    """Return the time as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RunFolder:
    """The folder of a run that goes on.

    Raises `UsageError` where another run has begun in it, however late that
    was, and `LabError` whenever it cannot be written.
    """

    before: Run | None = None
    """What was in it of a run that is gone on with."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._logs = 0
        self._samples: list[Sample] = []
        self._lines: dict[str, list[dict[str, Any]]] = {
            name: [] for name in (*LINES, COURSES, STATES)
        }
        begun = {"schema": SCHEMA, "start": utc_now(), "end": None, "verdict": None}
        self._about: dict[str, Any] = {**begun, **about}
        with _reporting(path):
            try:
                (path / RUN_FILE).touch(exist_ok=False)  # one of two runs gets it
            except FileExistsError:
                raise _held(path) from None
        self.update()

    @classmethod
    def continued(cls, path: Path, **entries: Any) -> Self:
        """Go on with a run that was interrupted, its entries changed; nothing in it is lost.

        A last line that was cut short by a kill is. Raises as `read_run`.
        """
        with _reporting(path):
            for file in path.glob("*.jsonl"):
                _end_with_a_whole_line(file)
        run = read_run(path)
        folder = cls.__new__(cls)
        folder.path = path
        folder._logs = max(map(_log_number, path.glob("console-*.log")), default=0)
        folder._samples = list(run.samples)
        folder._lines = {name: list(map(dict, lines)) for name, lines in run.lines.items()}
        folder._about = dict(run.about)
        folder.before = run
        folder.update(**entries)
        return folder

    @property
    def failed_before(self) -> frozenset[str]:
        """The kernels that had failed in a run that is gone on with: they are given up."""
        faults = self.before.faults if self.before else ()
        return frozenset(str(fault["kernel"]) for fault in faults)

    @property
    def run(self) -> Run:
        """Everything that is in it now, as it is read when it is stored."""
        return Run(dict(self._about), list(self._samples), self._lines)

    def console_log(self, *words: str) -> str:
        """Return what a guest's console is called here; a name of its own for each guest."""
        self._logs += 1
        name = "-".join((f"{self._logs:03d}", *words)).replace("/", "_")
        return f"console-{name}.log"

    def drop_logs(self) -> None:
        """Remove the consoles' logs so far: of guests that ended well."""
        for log in self.path.glob("console-*.log"):
            log.unlink()

    def add_sample(self, sample: Sample) -> None:
        """Append a sample; it is on its way to the disk when this returns."""
        self._samples.append(sample)
        self._append(SAMPLES_FILE, sample.to_json())

    def add_boot(self, boot: BootRecord) -> None:
        """Append that a guest booted."""
        self._add(BOOTS, boot.to_json())

    def add_tally(self, tally: TallyRecord) -> None:
        """Append what a cell's work asks of the kernel."""
        self._add(TALLIES, tally.to_json())

    def add_course(self, course: CourseRecord) -> None:
        """Append how something went within a trial."""
        self._add(COURSES, course.to_json())

    def add_fault(self, kernel: str, fault: LinklabError, **at: Any) -> None:
        """Append what a kernel did wrong, whatever happens to the run afterwards.

        `at` says what its guest was at: `guest`, `during` (boot, trial, count,
        end), and the values of its cell. Where the kernel reported it, its
        class, title, function, fingerprint and the file that holds the report
        are in the line, too.
        """
        filed = fault.filed if isinstance(fault, KernelFault) else ()
        said = [report.to_json() for report in filed]
        entry = {
            "kernel": kernel,
            "verdict": fault.verdict.value,
            "message": fault.message,
            "evidence": fault.evidence,
            **(said[0] if said else {}),
            **({"reports": said} if len(said) > 1 else {}),
            **at,
        }
        self._add(FAULTS, entry)

    def add_ignored(self, kernel: str, report: Mapping[str, Any], **at: Any) -> None:
        """Append a report of the kernel's that is known noise; `at` as for a fault."""
        self._add(IGNORED, {"kernel": kernel, **report, **at})

    def add_state(self, state: dict[str, Any]) -> None:
        """Append what is known by now of a series' state; its last line counts."""
        self._add(STATES, state)

    def update(self, **entries: Any) -> None:
        """Change entries of run.json, and write it."""
        self._about.update(entries)
        with _reporting(self.path):
            draft = self.path / f".{RUN_FILE}.{os.getpid()}"
            draft.write_text(json.dumps(self._about, indent=1) + "\n")
            draft.replace(self.path / RUN_FILE)

    def write_text(self, name: str, text: str) -> Path:
        """Write another file of the run, a table or a page."""
        with _reporting(self.path):
            (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def _add(self, name: str, entry: dict[str, Any]) -> None:
        self._lines[name].append(entry)
        self._append(f"{name}.jsonl", entry)

    def _append(self, name: str, entry: Mapping[str, Any]) -> None:
        with _reporting(self.path), (self.path / name).open("a") as file:
            file.write(json.dumps(entry) + "\n")


def _log_number(log: Path) -> int:
    number = log.name.split("-")[1]
    return int(number) if number.isdecimal() else 0


def _end_with_a_whole_line(path: Path) -> None:
    """Let a file of lines end with one: the next line is appended to it."""
    text = path.read_bytes()
    whole, newline, rest = text.rpartition(b"\n")
    if not rest:
        return
    try:
        json.loads(rest)
        whole, newline = text, b"\n"  # the newline alone is missing
    except ValueError:
        pass
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(whole + newline)
    draft.replace(path)


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a folder while `what` in it goes on; raise `UsageError` when another process does.

    The kernel drops the lock with its holder, however that ends.
    """
    with _reporting(path):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is at the {what} in {path}") from None
        yield
    finally:
        os.close(folder)


def _held(path: Path) -> UsageError:
    return UsageError(f"{path} already holds a run: name another folder with --output")


def claim(output: str, kind: str) -> Path:
    """Make the folder for results: the one that was asked for, or one that no other run has.

    Raises `UsageError` when it holds a run already or cannot be written.
    """
    return claim_folder(Path(output)) if output else claim_default_folder(kind)


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder for results where its filling fails before anything is in it."""
    try:
        yield
    except BaseException:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def claim_default_folder(scenario: str) -> Path:
    """Make the folder that a run gets when none is named; errors as of `claim`."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{scenario}"
    path, number = _RESULTS / name, 1
    with _refusing(path):
        _RESULTS.mkdir(exist_ok=True)
        while True:
            try:
                path.mkdir()
                return claim_folder(path)
            except FileExistsError:
                number += 1
                path = _RESULTS / f"{name}-{number}"


def claim_folder(path: Path) -> Path:
    """Make the folder for a run and check that it can be used; errors as of `claim`."""
    with _refusing(path):
        if any(os.path.lexists(path / name) for name in (RUN_FILE, SAMPLES_FILE)):
            raise _held(path)
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        try:
            probe.write_bytes(b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    return path


def _refusing(path: Path) -> AbstractContextManager[None]:
    return os_errors_as(UsageError, f"the output folder {path} cannot be written")


def read_about(path: Path) -> dict[str, Any]:
    """Return what `run.json` says of a stored run, without its samples.

    Raises `UsageError` when there is no run, or one of another schema.
    """
    file = path / RUN_FILE
    about = read_document(file, path, SCHEMA, f"{path} holds no run: it has no {RUN_FILE}")
    _check(Run(about, ()), file)
    return about


def read_run(path: Path, about: Mapping[str, Any] | None = None) -> Run:
    """Return a stored run. A last line that was cut short by a kill is left out.

    `about` is what `read_about` returned of it, where that was asked before.
    Raises `UsageError` when there is no run, or one of another schema.
    """
    about = read_about(path) if about is None else about
    lines = {
        name: list(_read_lines(path / f"{name}.jsonl", dict)) for name in (*LINES, COURSES, STATES)
    }
    samples: list[Sample] = []
    run = Run(about, samples, lines)
    shape = run.shape
    samples += _read_lines(path / SAMPLES_FILE, lambda line: Sample.from_json(line, shape))
    _check(run, path)
    return run


def _check(run: Run, path: Path) -> None:
    try:
        run.check()
    except SchemaError as error:
        raise UsageError(f"{path}: {error}") from error


def _read_lines(path: Path, read: Callable[[Any], T]) -> Iterator[T]:
    with os_errors_as(UsageError, f"{path} cannot be read"):
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield read(json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):  # without its newline: killed while writing
                return
            raise UsageError(f"{path}, line {number}: {error}") from error


def _reporting(path: Path) -> AbstractContextManager[None]:
    what = f"the run's folder {path} cannot be written"
    return os_errors_as(LabError, what, "; what was measured so far is in it")
