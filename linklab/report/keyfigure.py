"""A run in a few words: what a list of runs says of each."""

from __future__ import annotations

from collections.abc import Iterator

from linklab.report.figures import Figures, ratio_text, seconds_text
from linklab.results.kinds import has_calibration, has_comparison, is_selftest, is_series
from linklab.results.model import Run


def key_figure(run: Run) -> str:
    """Return what the first operation took at the most interfaces that have a figure.

    That is how many times faster the group is than a process for each
    interface, on each kernel; where one of them was not measured, the seconds
    of the first arm that was. Empty where nothing valid was measured. Of a
    series, what its last line says; of a comparison, what it found.
    """
    if is_series(run.about):
        from linklab.report.seriessentence import sentence  # brings numpy
        from linklab.results.series import find

        return sentence(find(run))
    if has_comparison(run.about):
        from linklab.report.versus import versus_of

        return versus_of(run.about).summary()
    if has_calibration(run.about):
        from linklab.report.calibration import calibration_of

        return calibration_of(run.about).summary()
    if is_selftest(run.about):
        from linklab.report.selftest import summary
        from linklab.selftests.record import records_of

        return summary(records_of(run.about))
    figures = Figures(run)
    for operation in figures.operations:
        for count in reversed(figures.counts(operation)):
            if parts := list(_parts(figures, operation, count)):
                return f"{operation} at {count}: {', '.join(parts)}"
    return ""


def _parts(figures: Figures, operation: str, count: int) -> Iterator[str]:
    several = len(figures.kernels) > 1
    for kernel in figures.kernels:
        if text := _text(figures, operation, kernel, count):
            yield f"{kernel} {text}" if several else text


def _text(figures: Figures, operation: str, kernel: str, count: int) -> str:
    if ratio := figures.ratio(operation, kernel, count):
        return ratio_text(ratio)
    for arm in figures.arms(operation):
        seconds = figures.cell(operation, kernel, arm, count).seconds
        if seconds is not None:
            return f"{arm} {seconds_text(seconds)} s"
    return ""
