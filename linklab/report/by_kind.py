"""What a stored run printed when it ended, and in a few words, by its kind.

Modules are imported where they are needed: most bring numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from linklab.errors import UsageError
from linklab.results import result_kinds
from linklab.results.figures import timed_by
from linklab.results.history import UNFINISHED, Entry
from linklab.results.model import Run
from linklab.results.result_kinds import has_calibration, has_comparison, is_selftest, is_series
from linklab.results.store import read_run
from linklab.results.sweep import is_sweep
from linklab.results.sweep import summary as summary_of_sweep

_NAME_WIDTH = len("20260102T030405Z-calibrate")
_BEGUN_WIDTH = len("2026-01-02 03:04 UTC")
_VERDICT_STYLE = {"pass": "green", UNFINISHED: "yellow", "interrupted": "yellow", "skip": "yellow"}


def shown(run: Run) -> RenderableType:
    """Return what a terminal shows of a stored run of any kind."""
    found = found_by(run)
    if found is not None:
        return found
    from linklab.report.tables import render

    return render(run)


def found_by(run: Run) -> RenderableType | None:
    """Return what a comparison, a calibration, a series, a sweep or self-tests found.

    None of a plain run. Also of a comparison and a calibration that did not come to their end.
    """
    if has_comparison(run.about):
        from linklab.report import comparison

        return comparison.render(comparison.stored_comparison(run))
    if has_calibration(run.about):
        from linklab.report import calibration

        return calibration.render(calibration.calibration_of(run.about))
    if is_series(run.about):
        from linklab.report import series
        from linklab.results.series import find

        return series.render(run, find(run))
    if is_sweep(run.about):
        from linklab.report import sweep

        return sweep.render(run)
    if is_selftest(run.about):
        from linklab.report import selftest

        return selftest.render(run.about)
    return None


def headline(run: Run) -> str:
    """Return a run in a few words: what a list of runs says of each.

    Of a series, what its last line says; of a comparison, what it found; of a
    plain run its key figure. Empty where nothing valid was measured.
    """
    if is_series(run.about):
        from linklab.report.series import sentence
        from linklab.results.series import find

        return sentence(find(run))
    if has_comparison(run.about):
        from linklab.report.comparison import stored_comparison

        return stored_comparison(run).summary()
    if has_calibration(run.about):
        from linklab.report.calibration import calibration_of

        return calibration_of(run.about).summary()
    if is_sweep(run.about):
        return summary_of_sweep(run)
    if is_selftest(run.about):
        from linklab.report.selftest import summary
        from linklab.selftests.record import records_of

        return summary(records_of(run.about))
    from linklab.report.tables import key_figure

    return key_figure(run)


def in_a_line(entry: Entry) -> str:
    """Return a run's key figure, or what is wrong with it. One bad run stops no list."""
    if entry.about is None:
        return entry.problem
    try:
        if entry.other:
            return result_kinds.figure(entry.other, entry.about)
        return headline(read_run(entry.folder, entry.about))
    except UsageError as error:
        return error.message
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        return f"its samples make no sense: {error}"


def list_of(shown: Sequence[Entry]) -> Table:
    """Return the list, two lines a run: a name must fit, to be copied, into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    widest = max((len(entry.name) for entry in shown), default=0)
    table.add_column("run", overflow="fold", width=max(_BEGUN_WIDTH, min(widest, _NAME_WIDTH)))
    table.add_column("on", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("key figure", overflow="fold")
    for entry in shown:
        about = (
            entry.kind,
            entry.word("scenario"),
            timed_by(entry.about or {}),
            entry.word("boot"),
        )
        how = ", ".join(dict.fromkeys(filter(None, about)))
        begun = f"\n{entry.start.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        table.add_row(
            Text(entry.name).append(begun, style="dim"),
            Text("\n".join(filter(None, (", ".join(entry.kernels), how)))),
            Text(entry.verdict, style=_VERDICT_STYLE.get(entry.verdict, "red")),
            Text(in_a_line(entry) if entry.about is not None else "see below"),
        )
    return table
