"""What a stored run printed when it ended, and in a few words, by its kind."""

from __future__ import annotations

from rich.console import RenderableType

from linklab.results.kinds import has_calibration, has_comparison, is_selftest, is_series
from linklab.results.model import Run


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
    about = run.about
    if has_comparison(about):
        from linklab.report.versus import render as render_comparison
        from linklab.report.versus import versus_of

        return render_comparison(versus_of(run))
    if has_calibration(about):
        from linklab.report.calibration import calibration_of
        from linklab.report.calibration import render as render_calibration

        return render_calibration(calibration_of(about))
    if is_series(about):
        from linklab.report.series import render as render_series
        from linklab.results.series import find  # brings numpy

        return render_series(run, find(run))
    if is_selftest(about):
        from linklab.report.selftest import render as render_selftests

        return render_selftests(about)
    return None


def headline(run: Run) -> str:
    """Return a run in a few words: what a list of runs says of each.

    Of a series, what its last line says; of a comparison, what it found; of a
    plain run its key figure. Empty where nothing valid was measured.
    """
    if is_series(run.about):
        from linklab.report.series import sentence  # brings numpy
        from linklab.results.series import find

        return sentence(find(run))
    if has_comparison(run.about):
        from linklab.report.versus import versus_of

        return versus_of(run).summary()
    if has_calibration(run.about):
        from linklab.report.calibration import calibration_of

        return calibration_of(run.about).summary()
    if is_selftest(run.about):
        from linklab.report.selftest import summary
        from linklab.selftests.record import records_of

        return summary(records_of(run.about))
    from linklab.report.tables import key_figure

    return key_figure(run)
