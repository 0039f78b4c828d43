"""`--junit`, `--ktap`, `--kcidb`: results for other tools, and `invoke export`.

The one place for every command that has results: it takes `ExportOptions`,
has them checked before anything starts, and gives suites at its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linklab.errors import BuildSkipped, LabError, LinklabError, UsageError
from linklab.options import RESULTS, RUN, group, option, past_runs, word

if TYPE_CHECKING:  # every command begins by importing this module
    from linklab.results.outcomes import Suite

ORIGIN = "linklab"


@dataclass(frozen=True)
class ExportOptions:
    """The files that results go to as well, as typed; an empty name is none."""

    junit: str = option("", "write the results to this file as JUnit XML")
    ktap: str = option("", "write the results to this file as KTAP")
    kcidb: str = option("", "write the results to this file as a KCIDB report (schema 5, JSON)")
    origin: str = option(ORIGIN, "the name of your CI system in the KCIDB report", "kcidb-origin")

    def files(self) -> dict[str, Path]:
        """Return the files asked for, by their option."""
        named = {"junit": self.junit, "ktap": self.ktap, "kcidb": self.kcidb}
        return {option: Path(name) for option, name in named.items() if name}

    def check(self) -> None:
        """Make the files' folders; raise `UsageError` for one that cannot be written."""
        if self.origin != ORIGIN:
            from linklab.exports.kcidb import check_origin

            check_origin(self.origin)
        found: dict[Path, str] = {}
        for name, path in self.files().items():
            other = found.setdefault(path.absolute(), name)
            if other != name:
                raise UsageError(f"--{other} and --{name} name the same file, {path}")
            _check_file(name, path)


def _check_file(option: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"--{option} {path} is a folder: the name of a file is expected")
    if path.parent.exists() and not path.parent.is_dir():
        raise UsageError(f"--{option} {path} cannot be written: {path.parent} is not a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.parent / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--{option} {path} cannot be written: {reason}") from error


def write_exports(options: ExportOptions, suites: Sequence[Suite]) -> list[Path]:
    """Write the files asked for and return them.

    Raises `LabError` when one cannot be written.
    """
    files = options.files()
    for name, path in files.items():
        try:
            path.write_text(_text(name, suites, options.origin), encoding="utf-8")
        except OSError as error:
            raise LabError(
                f"--{name} {path} cannot be written: {error.strerror or error}; "
                "`invoke export` writes it from the stored results"
            ) from error
    return list(files.values())


def _text(option: str, suites: Sequence[Suite], origin: str) -> str:
    match option:
        case "junit":
            from linklab.exports.junit import junit

            return junit(suites)
        case "ktap":
            from linklab.exports.ktap import ktap

            return ktap(suites)
        case _:
            import json

            from linklab.exports.kcidb import kcidb, validate

            report = kcidb(suites, origin)
            validate(report)
            return json.dumps(report, indent=1) + "\n"


@contextmanager
def failure_written(options: ExportOptions, name: str, kernels: Sequence[str]) -> Iterator[None]:
    """Write what is to be said of a command that comes to no results at all.

    A build that fails, a lab that cannot start: a CI that reads only the
    files must see it too. A wrong option starts nothing and writes nothing.
    """
    try:
        yield
    except UsageError:
        raise
    except LinklabError as error:
        if options.files():
            write_exports(options, _failed(name, kernels, error))
        raise


def _failed(name: str, kernels: Sequence[str], error: LinklabError) -> list[Suite]:
    from linklab.results.outcomes import BUILD, KernelFacts, Outcome, Status, Suite, status_of
    from linklab.results.store import utc_now

    if isinstance(error, BuildSkipped):
        step, status = BUILD, Status.FAIL
    else:
        step, status = "start", status_of(error.verdict)
    outcome = Outcome(step, status, None, error.message, error.evidence)
    now = utc_now()
    return [Suite(name, (outcome,), KernelFacts(each), start=now, end=now) for each in kernels]


@dataclass(frozen=True)
class StoredExportOptions:
    """The options of `invoke export`, as typed."""

    run: str = word(RUN, past_runs)
    results: str = option("results", RESULTS)
    exports: ExportOptions = group(ExportOptions)


def export(options: StoredExportOptions) -> None:
    """Write the files asked for from a stored run, and print where they are."""
    from linklab.results.history import find
    from linklab.results.result_kinds import is_selftest
    from linklab.results.store import read_run
    from linklab.results.suites import suites_of

    exports = options.exports
    if not exports.files():
        raise UsageError("nothing to write: name a file with --junit, --ktap or --kcidb")
    folder = find(options.run, Path(options.results))
    exports.check()
    stored = read_run(folder)
    if is_selftest(stored.about):
        from linklab.selftests.record import suites_of as suites_of_selftests

        suites = suites_of_selftests(stored.about)
    else:
        suites = suites_of(stored)
    for path in write_exports(exports, suites):
        print(path)
