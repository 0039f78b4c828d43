"""What a stored run printed when it ended, and in a few words, by its kind.

Modules are imported where they are needed: most bring numpy.
"""

from __future__ import annotations

from rich.console import RenderableType

from linklab.results.model import Run
from linklab.results.result_kinds import has_calibration, has_comparison, is_selftest, is_series


def shown(run: Run) -> RenderableType:
    """Return what a terminal shows of a stored run of any kind."""
    found = found_by(run)
    if found is not None:
        return found
    from linklab.report.tables import render

    return render(run)


def found_by(run: Run) -> RenderableType | None:
    """Return what a comparison, a calibration, a series or self-tests found; None of a plain run.

    Also of a comparison and a calibration that did not come to their end.
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
    if is_selftest(run.about):
        from linklab.report.selftest import summary
        from linklab.selftests.record import records_of

        return summary(records_of(run.about))
    from linklab.report.tables import key_figure

    return key_figure(run)
