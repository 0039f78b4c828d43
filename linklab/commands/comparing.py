"""`invoke compare` as a person sees it: two kernels or two stored runs, a table, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.compare import (
    KIND,
    CompareOptions,
    run,
    threshold_of,
    with_defaults,
)
from linklab.commands.exports import failure_written, write_exports
from linklab.commands.outcome import Finished, concluded, print_document, print_shown
from linklab.commands.sides import GRAMMAR, is_kernel
from linklab.errors import UsageError, Verdict
from linklab.machine.spec import Clock
from linklab.results.comparesuites import suite_of_runs
from linklab.results.comparison import Effect, Rule
from linklab.results.runsuites import suites_of
from linklab.results.store import RUN_FILE, read_run

if TYPE_CHECKING:
    from linklab.report.versus import Versus


def main(options: CompareOptions, command: Sequence[str]) -> Verdict:
    """Compare, show what came out, and return the verdict."""
    from linklab.report.progress import progress

    if not (_may_be_kernel(options.a) or _may_be_kernel(options.b)):
        return compare_runs(options)
    with progress() as listener, failure_written(options.exports, KIND, [options.b]):
        finished = run(options, command, listener)
    try:
        present(finished, options.as_json)
    finally:  # who reads only the table's beginning gets the files all the same
        write_exports(options.exports, suites_of(read_run(finished.folder)))
    return concluded(finished)


def _may_be_kernel(word: str) -> bool:
    """Whether a word is to be taken for a kernel: all that is no stored run by its look."""
    path = Path(word).expanduser()
    return is_kernel(word) or (path.exists() and not (path / RUN_FILE).is_file())


def present(finished: Finished, as_json: bool) -> None:
    """Show a comparison and leave its table in its folder."""
    from linklab.report.layout import plain_text
    from linklab.report.versus import render, versus_of

    stored = read_run(finished.folder)
    versus = versus_of(stored.about)
    shown = render(versus)
    (finished.folder / "table.txt").write_text(plain_text(shown), encoding="utf-8")
    if as_json:
        _print_json(
            {
                "folder": str(finished.folder),
                "run": stored.about,
                "samples": [sample.to_json() for sample in stored.samples],
                "sentence": versus.sentence(),
            }
        )
        return
    _print(shown)
    print(f"\nverdict: {finished.verdict.value}   results: {finished.folder}")


def compare_runs(options: CompareOptions) -> Verdict:
    """Compare two stored runs, where they may be, and print what came out."""
    from linklab.report.versus import render
    from linklab.report.versusruns import versus_of_runs

    given = options.kernels
    changed = given.patches or given.range or given.source or given.configs or given.modules
    if changed or options.until:
        raise UsageError("two stored runs are compared as they are: nothing is built or measured")
    options.exports.check()
    folders = [_stored_run(word, Path(options.results)) for word in (options.a, options.b)]
    one, other = ((folder, read_run(folder)) for folder in folders)
    clock = Clock.VIRTUAL if one[1].about.get("clock") == Clock.VIRTUAL else Clock.REAL
    rule = Rule(threshold_of(with_defaults(options, clock).threshold))
    versus = versus_of_runs(one, other, rule)
    if not versus.rows:
        raise UsageError(
            f"{folders[0]} and {folders[1]} have nothing in common: no operation that both did by "
            "the same arm, on as many interfaces, with kernels of the same name, twice or more"
        )
    verdict = Verdict.PASS
    if any(row.comparison.verdict is Effect.SLOWER for row in versus.rows):
        verdict = Verdict.FAIL
    results = _runs_json(versus)["results"]
    write_exports(options.exports, [suite_of_runs(results, versus.a, versus.b)])
    if options.as_json:
        _print_json({**_runs_json(versus), "runs": [str(folder) for folder in folders]})
    else:
        _print(render(versus))
        print(f"\nverdict: {verdict.value}")
    return verdict


def _stored_run(word: str, results: Path) -> Path:
    from linklab.results.history import find

    try:
        return find(word, results)
    except UsageError as error:
        raise UsageError(
            f"{word!r} is no kernel, which would be {GRAMMAR}, and no stored run: {error.message}"
        ) from None


def _runs_json(versus: Versus) -> dict[str, Any]:
    rows = [{**asdict(r.work), "kernel": r.kernel, **asdict(r.comparison)} for r in versus.rows]
    return {"results": rows, "threshold": versus.threshold, "sentence": versus.sentence()}


def _print(shown: Any) -> None:

    print_shown(shown)


def _print_json(document: dict[str, Any]) -> None:
    print_document(document)
