"""The page: everything that stored runs have to say, in one HTML file.

It needs no network and holds no script but its own, which sorts tables. All
of its words and figures come from disk; the same runs give the same page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from linklab.errors import UsageError
from linklab.numbers import number_text, ratio_text, seconds_text
from linklab.paths import TEMPLATES
from linklab.report.compare import Stored, sheets_of, together
from linklab.report.curves import panels, ratio_panel
from linklab.report.grid import Grid
from linklab.report.layout import plain_text
from linklab.report.plots import Panel, svg
from linklab.report.printed import found_by, headline
from linklab.report.tables import (
    claims_grid,
    comparison_grid,
    cost_grid,
    given_text,
    growth_grid,
    main_grid,
    metric_title,
    reference_grid,
    sheet_text,
)
from linklab.results.again import command_of, files_of
from linklab.results.figures import Figures, seconds_are
from linklab.results.model import Run
from linklab.results.shape import Cell, Shape

TEMPLATE = "report.html"
FILE = "report.html"
_FOUND_WIDTH = 80  # columns, as wide as the page's text
NO_BREAK = "\N{NO-BREAK SPACE}"
_VERDICT_TEXT = {
    "pass": "every operation was done and verified",
    "fail": "the kernel did something wrong",
    "crash": "the kernel crashed",
    "hang": "the guest gave no answer",
    "error": "the lab or its host failed: this says nothing of the kernel",
    "skip": "there was no kernel to test",
    "interrupted": "stopped before its end",
}


@dataclass(frozen=True)
class Figure:
    """Plots side by side under one caption."""

    plots: Sequence[str]
    caption: str


@dataclass(frozen=True)
class Part:
    """One sheet's part of the page."""

    figure: Figure | None
    costs: Sequence[Grid]
    growths: Sequence[Grid]


@dataclass(frozen=True)
class Head:
    """A run as the page introduces it."""

    letter: str
    name: str
    verdict: str
    verdict_text: str
    faults: Sequence[str]
    facts: Sequence[tuple[str, str]]
    invalid: str
    found: str  # by a comparison, a series, self-tests: as printed


@dataclass(frozen=True)
class Again:
    """What it takes to do a run again: the command, and what went in."""

    letter: str
    name: str
    command: str
    inputs: Sequence[tuple[str, str]]


def page(found: Sequence[tuple[Path, Run]]) -> str:
    """Return the page of one run, or of several beside each other.

    Raises `UsageError` when they must not be compared.
    """
    from linklab.templating import render

    runs = together(found)
    heads = [_head(stored) for stored in runs]
    return render(
        TEMPLATE,
        title=_title(runs),
        summary=list(_summary(runs)),
        heads=heads,
        metric=metric_title(runs[0].figures.metric),
        parts=[_part(runs, sheet) for sheet in sheets_of(runs)],
        tables=_tables(runs),
        claims=None if any(head.found for head in heads) else _claims(runs),
        again=[_again(stored) for stored in runs],
        explains=_explains(runs[0].run.shape),
    )


def _explains(shape: Shape) -> dict[str, bool]:
    """Return which of the columns of costs need a word: CPU seconds, and what was counted."""
    names = {metric.name for metric in shape.metrics}
    waiting = {"seconds", "user_seconds", "system_seconds"} <= names
    return {"waiting": waiting, "counted": bool(shape.counted)}


def _tables(runs: Sequence[Stored]) -> list[Grid]:
    """Return the tables of the first metric: of one run in its shape, of several side by side."""
    if len(runs) > 1:
        return [comparison_grid(runs)]
    figures = runs[0].figures
    theirs = reference_grid(figures)
    return [*(main_grid(figures, sheet) for sheet in figures.sheets), *([theirs] if theirs else [])]


def _claims(runs: Sequence[Stored]) -> Grid | None:
    return claims_grid([stored.run for stored in runs], [stored.letter for stored in runs])


def _title(runs: Sequence[Stored]) -> str:
    about = runs[0].run.about
    scenario = str(about.get("kind") or about.get("scenario", "run")).capitalize()
    if len(runs) > 1:
        return f"{scenario}: {len(runs)} runs beside each other"
    title = runs[0].run.shape.kernel_title
    return f"{scenario}, {' and '.join(map(title, runs[0].figures.kernels))}"


def _summary(runs: Sequence[Stored]) -> Iterator[str]:
    """Yield how the two columns that are compared differ, a sentence for each kernel."""
    for stored in runs:
        for sheet in stored.figures.sheets:
            for kernel in stored.figures.kernels:
                if text := _gain(stored.figures, sheet, kernel):
                    yield f"{stored.letter}: {text}" if stored.letter else text


def _gain(figures: Figures, sheet: Cell, kernel: str) -> str:
    versus = figures.shape.versus
    if not figures.has_ratio(sheet) or versus is None:
        return ""
    cells = [figures.cell(sheet, row, "") for row in figures.rows(sheet)]
    known = [cell for cell in cells if figures.ratio(kernel, cell)]
    if not known:
        return ""
    shape, metric = figures.shape, figures.metric
    more, less = (
        f"{column} {number_text(figures.figure(kernel, cell).value, metric.unit or '1')} "
        f"{metric.unit}".rstrip()
        for column in versus
        for cell in [known[-1].with_(**{shape.columns: column})]
    )
    where = shape.in_words(known[-1].of((*shape.sheets, shape.rows)))
    factor = ratio_text(figures.ratio(kernel, known[-1])).removesuffix("x")
    return f"{where}, {_on(figures.run, kernel)}: {less}, {more}, {factor} times as much."


def _on(run: Run, kernel: str) -> str:
    title = run.shape.kernel_title(kernel)
    return title if title != kernel else f"on {kernel}"


def _head(stored: Stored) -> Head:
    about = stored.run.about
    verdict = str(about.get("verdict") or "unfinished")
    text = _VERDICT_TEXT.get(verdict, "it was killed, or goes on still")
    found = found_by(stored.run)
    if found is not None:
        text = headline(stored.run).rstrip(".")  # the same words mean other things there
    return Head(
        stored.letter,
        stored.name,
        verdict,
        text,
        [fault for fault in _faults(stored.run) if fault.rstrip(".") != text],
        list(_facts(stored.run)),
        _invalid(stored.run),
        plain_text(found, _FOUND_WIDTH).strip("\n") if found is not None else "",
    )


def _faults(run: Run) -> list[str]:
    messages = [str(run.about.get("message") or "")]
    messages += [str(fault.get("message", "")) for fault in run.faults]
    return [message for message in dict.fromkeys(messages) if message]


def _invalid(run: Run) -> str:
    wrong = sum(not sample.verified for sample in run.samples)
    if not wrong:
        return ""
    return (
        f"{wrong} of {len(run.samples)} samples are not valid: they left a wrong state. "
        "Their figures are left out; a cross marks where no other was."
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what was run on what, as pairs of words."""
    about = run.about
    kernels = [f"Linux {k.release} {_on(run, k.name)}" for k in run.kernels]
    yield "kernels", "; ".join(kernels)
    yield "seconds", seconds_are(about)
    yield "accelerator", str(about.get("accel")).upper()
    yield "boot", _boot(run)
    cpus, memory = about.get("cpus"), about.get("memory")
    yield "guest", f"{about.get('machine')}, {cpus} CPU, {memory} MiB"
    yield "QEMU", _inside(run, "qemu", "version")
    yield "host", f"{_inside(run, 'host', 'cpu')}; Linux {_inside(run, 'host', 'kernel')}"
    if given := given_text(run):
        yield "parameters", given.removeprefix("; ")
    if (trials := _trials(run)) != "unknown":
        yield "trials", trials
    yield "time", _time(run)


def _boot(run: Run) -> str:
    boot = str(run.about.get("boot"))
    times = sorted(record.seconds for record in run.boots)
    if not times:
        return boot
    middle = seconds_text(times[len(times) // 2])
    return f"{boot}; {middle} s from QEMU's start to the agent's hello, median of {len(times)}"


def _inside(run: Run, outer: str, inner: str) -> str:
    found = run.about.get(outer)
    return str(found.get(inner, "unknown")) if isinstance(found, dict) else "unknown"


def _trials(run: Run) -> str:
    text = _inside(run, "plan", "repeat")
    seed = _inside(run, "plan", "seed")
    if text not in {"1", "unknown"} and seed != "unknown":
        text += f", in an order shuffled with the seed {seed}"
    return text


def _time(run: Run) -> str:
    """Return when a run began and how long it took. Other versions may write other times."""
    start, end = str(run.about.get("start", "")), str(run.about.get("end") or "")
    try:
        began = datetime.fromisoformat(start)
        text = f"{began:%Y-%m-%d %H:%M} UTC"
        return f"{text}, {(datetime.fromisoformat(end) - began).total_seconds():.1f} s"
    except (ValueError, TypeError):
        return start[:16].replace("T", " ") or "unknown"


def plot_files(folder: Path, run: Run) -> Iterator[tuple[str, str]]:
    """Yield the plots of a run as files of their own: a name, and an SVG that needs no page."""
    stored = Stored(folder, run)
    style = "".join((TEMPLATES / name).read_text() for name in ("colours.css", "plot.css"))
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background: var(--paper)" '
    for sheet in stored.figures.sheets:
        for number, drawing in enumerate(_drawn(_panels([stored], sheet)), 1):
            opened = drawing.replace("<svg ", head, 1)
            yield (
                f"{sheet.text.replace('/', '-') or 'plot'}-{number}.svg",
                opened.replace(
                    "</title>", f"</title>\n<style>{style}text {{ font-family: serif; }}</style>", 1
                ),
            )


def _panels(runs: Sequence[Stored], sheet: Cell) -> tuple[list[Panel], Panel]:
    return panels(runs, sheet), ratio_panel(runs, sheet)


def _drawn(plots: tuple[list[Panel], Panel]) -> list[str]:
    side_by_side, gain = plots
    drawn = [*(svg(panel, side_by_side) for panel in side_by_side), svg(gain)]
    return [drawing for drawing in drawn if drawing]


def _part(runs: Sequence[Stored], sheet: Cell) -> Part:
    plots = _panels(runs, sheet)
    drawn = _drawn(plots)
    figure = Figure(drawn, _caption(runs, sheet, plots)) if drawn else None
    having = [stored for stored in runs if sheet in stored.figures.sheets]
    each = [(stored.figures, sheet, stored.letter) for stored in having]
    costs = [grid for args in each if (grid := cost_grid(*args))]
    growths = [grid for args in each if (grid := growth_grid(*args))]
    return Part(figure, costs, growths)


def _caption(runs: Sequence[Stored], sheet: Cell, plots: tuple[list[Panel], Panel]) -> str:
    side_by_side, gain = plots
    first = (side_by_side or [gain])[0]
    head = sheet_text(runs[0].figures, sheet)
    what = f"{metric_title(runs[0].figures.metric)} against {first.x_name}"
    text = f"{head}: {what}" if head else what
    versus = runs[0].run.shape.versus
    if gain.curves and versus:
        verb = "takes" if runs[0].figures.metric.is_time else "gives"
        text += f", and how many times that of {versus[1]} {versus[0]} {verb}"
    every = [curve for panel in (*side_by_side, gain) for curve in panel.curves]
    if any(point.least is not None for curve in every for point in curve.points):
        text += f". Medians; upright lines hold the median (95{NO_BREAK}% from six trials on)"
    if any(curve.is_reference for curve in every):
        source = (runs[0].run.about.get("reference") or {}).get("source", "")
        text += f". Hollow, dotted: {source}"
    return f"{text}."


def _again(stored: Stored) -> Again:
    run = stored.run
    image = run.about.get("image")
    inputs = [(f"kernel {kernel.name}", kernel.sha256) for kernel in run.kernels]
    inputs += [(str(k), str(v)) for k, v in image.items()] if isinstance(image, dict) else []
    inputs += list(files_of(run.about).items())
    return Again(stored.letter, stored.name, command_of(run.about), inputs)


def write_pages(folder: Path, stored: Run) -> None:
    """Write a run's plots and its page beside it."""
    for name, drawing in plot_files(folder, stored):
        (folder / name).write_text(drawing, encoding="utf-8")
    write_page([(folder, stored)], folder / FILE)


def write_page(found: Sequence[tuple[Path, Run]], target: Path) -> Path:
    """Write the page of stored runs, and return where it is.

    Raises `UsageError` when they must not be compared, or where it cannot be written.
    """
    text = page(found)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the page {target} cannot be written: {error.strerror or error}; "
            "--output names another place"
        ) from error
    return target
