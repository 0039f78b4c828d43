"""The page: everything that stored runs have to say, in one HTML file.

It needs no network and holds no script but its own, which sorts tables. All
of its words and figures come from disk; the same runs give the same page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from linklab.numbers import number_text, ratio_text, seconds_text
from linklab.paths import TEMPLATES
from linklab.report.by_kind import found_by, headline
from linklab.report.compare import Stored, entry_text, sheets_of, together
from linklab.report.curves import course_panels, panels, ratio_panel
from linklab.report.grid import Grid, plain_text
from linklab.report.plots import Panel, svg
from linklab.report.sweep import checks_grid, matrices, multiples, small_plots
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
from linklab.results.figures import Figures, seconds_are
from linklab.results.model import Run
from linklab.results.rerun_command import command_of, files_of
from linklab.results.shape import Cell
from linklab.results.store import PAGE_FILE
from linklab.results.sweep import is_sweep, metrics_of

TEMPLATE = "report.html"
_FOUND_WIDTH = 80  # columns, as wide as the page's text
_MATRIX = "what was measured"
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


def page(found: Sequence[tuple[Path, Run]]) -> str:
    """Return the page of one run, or of several beside each other.

    Raises `UsageError` when they must not be compared.
    """
    from linklab.templating import render

    runs = together(found)
    heads = [_head(stored) for stored in runs]
    shape = runs[0].run.shape
    metrics = {metric.name for metric in shape.metrics}
    is_plain = not any(head["found"] for head in heads)
    letters = [stored.letter for stored in runs]
    return render(
        TEMPLATE,
        title=_title(runs),
        summary=list(_summary(runs)),
        heads=heads,
        metric=_MATRIX if is_sweep(runs[0].run.about) else metric_title(runs[0].figures.metric),
        parts=_parts(runs),
        tables=_tables(runs),
        courses=[drawn for stored in runs for drawn in _courses(stored)],
        claims=claims_grid([stored.run for stored in runs], letters) if is_plain else None,
        again=[_again(stored) for stored in runs],
        # Which of the columns of costs need a word: CPU seconds, and what was counted.
        explains={
            "waiting": {"seconds", "user_seconds", "system_seconds"} <= metrics,
            "counted": bool(shape.counted),
        },
    )


def _tables(runs: Sequence[Stored]) -> list[Grid]:
    """Return the tables of the first metric: of one run in its shape, of several side by side."""
    if len(runs) > 1:
        return [comparison_grid(runs)]
    if is_sweep(runs[0].run.about):
        checks = checks_grid(runs[0].run)
        return [*matrices(runs[0].run), *([checks] if checks else [])]
    figures = runs[0].figures
    theirs = reference_grid(figures)
    return [*(main_grid(figures, sheet) for sheet in figures.sheets), *([theirs] if theirs else [])]


def _parts(runs: Sequence[Stored]) -> list[Mapping[str, Any]]:
    """Return the parts of the page: one for each sheet, or of a sweep for each metric shown."""
    sheets = sheets_of(runs)
    if not is_sweep(runs[0].run.about):
        return [_part(runs, sheet) for sheet in sheets]
    found = [multiples(runs, metric) for metric in metrics_of(runs[0].run)] if sheets else []
    return [
        {"figure": each if each["plots"] else None, "costs": [], "growths": []} for each in found
    ]


def _title(runs: Sequence[Stored]) -> str:
    about = runs[0].run.about
    scenario = str(about.get("kind") or about.get("scenario", "run")).capitalize()
    if is_sweep(about):
        scenario = f"{scenario} of {about.get('scenario')}"
    if len(runs) > 1:
        return f"{scenario}: {len(runs)} runs beside each other"
    title = runs[0].run.shape.kernel_title
    return f"{scenario}, {' and '.join(map(title, runs[0].figures.kernels))}"


def _summary(runs: Sequence[Stored]) -> Iterator[str]:
    """Yield how the two columns that are compared differ, a sentence for each kernel."""
    for stored in runs:
        for sheet in () if is_sweep(stored.run.about) else stored.figures.sheets:
            for kernel in stored.figures.kernels:
                if text := _gain(stored.figures, sheet, kernel):
                    yield f"{stored.letter}: {text}" if stored.letter else text


def _gain(figures: Figures, sheet: Cell, kernel: str) -> str:
    shape, metric = figures.shape, figures.metric
    cells = [figures.cell(sheet, row, "") for row in figures.rows(sheet)]
    known = [cell for cell in cells if figures.ratio(kernel, cell)]
    if not (known and figures.has_ratio(sheet) and shape.versus):
        return ""
    last = known[-1]
    more, less = (
        f"{column} {number_text(figures.figure(kernel, cell).value, metric.unit or '1')} "
        f"{metric.unit}".rstrip()
        for column in shape.versus
        for cell in [last.with_(**{shape.columns: column})]
    )
    where = shape.in_words(last.of((*shape.sheets, shape.rows)))
    factor = ratio_text(figures.ratio(kernel, last)).removesuffix("x")
    return f"{where}, {_on(figures.run, kernel)}: {less}, {more}, {factor} times as much."


def _on(run: Run, kernel: str) -> str:
    title = run.shape.kernel_title(kernel)
    return title if title != kernel else f"on {kernel}"


def _head(stored: Stored) -> Mapping[str, Any]:
    """Return a run as the page introduces it; `found` by a comparison or the like, as printed."""
    run, about = stored.run, stored.run.about
    verdict = str(about.get("verdict") or "unfinished")
    text = _VERDICT_TEXT.get(verdict, "it was killed, or goes on still")
    found = None if is_sweep(about) else found_by(run)  # its tables stand on the page
    if found is not None or is_sweep(about):
        text = headline(run).rstrip(".")  # the same words mean other things there
    messages = [about.get("message"), *(fault.get("message") for fault in run.faults)]
    faults = dict.fromkeys(str(message) for message in messages if message)
    wrong = sum(not sample.verified for sample in run.samples)
    invalid = (
        f"{wrong} of {len(run.samples)} samples are not valid: they left a wrong state. "
        "Their figures are left out; a cross marks where no other was."
    )
    return {
        "letter": stored.letter,
        "name": stored.name,
        "verdict": verdict,
        "verdict_text": text,
        "faults": [fault for fault in faults if fault.rstrip(".") != text],
        "facts": list(_facts(run)),
        "drawing": str(run.about.get("drawing", "")),
        "invalid": invalid if wrong else "",
        "found": plain_text(found, _FOUND_WIDTH).strip("\n") if found is not None else "",
    }


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what was run on what, as pairs of words."""
    about = run.about
    yield "kernels", "; ".join(f"Linux {k.release} {_on(run, k.name)}" for k in run.kernels)
    yield "seconds", seconds_are(about)
    yield "accelerator", str(about.get("accel")).upper()
    boot, times = str(about.get("boot")), sorted(record.seconds for record in run.boots)
    if times:
        middle = seconds_text(times[len(times) // 2])
        boot += f"; {middle} s from QEMU's start to the agent's hello, median of {len(times)}"
    yield "boot", boot
    cpus, memory = about.get("cpus"), about.get("memory")
    yield "guest", f"{about.get('machine')}, {cpus} CPU, {memory} MiB"
    yield "QEMU", entry_text(about, "qemu.version")
    yield "host", f"{entry_text(about, 'host.cpu')}; Linux {entry_text(about, 'host.kernel')}"
    for name, logs in (about.get("hosts") or {}).items():
        yield "measured by", f"{name}: {', '.join(map(str, logs))}"
    if given := given_text(run):
        yield "parameters", given.removeprefix("; ")
    trials, seed = entry_text(about, "plan.repeat", ""), entry_text(about, "plan.seed", "")
    if trials not in ("1", "") and seed:
        trials += f", in an order shuffled with the seed {seed}"
    if trials:
        yield "trials", trials
    yield "time", _time(run)


def _time(run: Run) -> str:
    """Return when a run began and how long it took. Other versions may write other times."""
    start, end = str(run.about.get("start", "")), str(run.about.get("end") or "")
    try:
        began = datetime.fromisoformat(start)
        text = f"{began:%Y-%m-%d %H:%M} UTC"
        text += f", {(datetime.fromisoformat(end) - began).total_seconds():.1f} s"
        again = len(run.about.get("resumed") or ())
        return text + f", gone on with {again} time{'s' * (again > 1)}" * bool(again)
    except (ValueError, TypeError):
        return start[:16].replace("T", " ") or "unknown"


def plot_files(folder: Path, run: Run) -> Iterator[tuple[str, str]]:
    """Yield the plots of a run as files of their own: a name, and an SVG that needs no page."""
    style = "".join((TEMPLATES / name).read_text() for name in ("colours.css", "plot.css"))
    style = f"</title>\n<style>{style}text {{ font-family: serif; }}</style>"
    head = '<svg xmlns="http://www.w3.org/2000/svg" style="background: var(--paper)" '
    for name, drawing in _plots(Stored(folder, run)):
        text = drawing.replace("<svg ", head, 1).replace("</title>", style, 1)
        yield f"{name}.svg", text


def _plots(stored: Stored) -> Iterator[tuple[str, str]]:
    if is_sweep(stored.run.about):
        for metric in metrics_of(stored.run):
            yield from small_plots([stored], metric)
        return
    for sheet in stored.figures.sheets:
        drawn = _drawn(panels([stored], sheet), ratio_panel([stored], sheet))
        for number, drawing in enumerate(drawn, 1):
            yield f"{sheet.text.replace('/', '-') or 'plot'}-{number}", drawing


def _drawn(side_by_side: Sequence[Panel], gain: Panel) -> list[str]:
    drawn = [*(svg(panel, side_by_side) for panel in side_by_side), svg(gain)]
    return [drawing for drawing in drawn if drawing]


def _part(runs: Sequence[Stored], sheet: Cell) -> Mapping[str, Any]:
    """Return one sheet's part of the page: its plots under one caption, and its grids."""
    plots = panels(runs, sheet), ratio_panel(runs, sheet)
    drawn = _drawn(*plots)
    having = [stored for stored in runs if sheet in stored.figures.sheets]
    grids = {
        name: [grid for s in having if (grid := of(s.figures, sheet, s.letter))]
        for name, of in (("costs", cost_grid), ("growths", growth_grid))
    }
    figure = {"plots": drawn, "caption": _caption(runs, sheet, *plots)} if drawn else None
    return {"figure": figure, **grids}


def _courses(stored: Stored) -> Iterator[Mapping[str, Any]]:
    """Yield how trials went over time, the plots of a row under one caption.

    Of a sweep there would be hundreds.
    """
    shape = stored.run.shape
    for sheet in () if is_sweep(stored.run.about) else stored.figures.sheets:
        for row in stored.figures.rows(sheet):
            panels = course_panels(stored, sheet, row)
            if drawn := [text for panel in panels if (text := svg(panel))]:
                named = shape.in_words({**sheet, shape.rows: row})
                caption = f"{stored.letter} {named}".strip() + ": the first valid trial of each"
                if any('class="band"' in text for text in drawn):
                    caption += "; of several at once the median, in a band of all of them"
                yield {"plots": drawn, "caption": f"{caption}."}


def _caption(
    runs: Sequence[Stored], sheet: Cell, side_by_side: Sequence[Panel], gain: Panel
) -> str:
    figures = runs[0].figures
    head, versus = sheet_text(figures, sheet), figures.shape.versus
    text = f"{metric_title(figures.metric)} against {[*side_by_side, gain][0].x_name}"
    text = f"{head}: {text}" if head else text
    if gain.curves and versus:
        verb = "takes" if figures.metric.is_time else "gives"
        text += f", and how many times that of {versus[1]} {versus[0]} {verb}"
    every = [curve for panel in (*side_by_side, gain) for curve in panel.curves]
    if any(point.least is not None for curve in every for point in curve.points):
        text += f". Medians; upright lines hold the median (95{NO_BREAK}% from six trials on)"
    if any(curve.is_reference for curve in every):
        source = (figures.run.about.get("reference") or {}).get("source", "")
        text += f". Hollow, dotted: {source}"
    return f"{text}."


def _again(stored: Stored) -> Mapping[str, Any]:
    """Return what it takes to do a run again: the command, and what went in."""
    run, image = stored.run, stored.run.about.get("image")
    inputs = [(f"kernel {kernel.name}", kernel.sha256) for kernel in run.kernels]
    inputs += [(str(k), str(v)) for k, v in image.items()] if isinstance(image, dict) else []
    inputs += files_of(run.about).items()
    command = command_of(run.about)
    return {"letter": stored.letter, "name": stored.name, "command": command, "inputs": inputs}


def write_pages(folder: Path, stored: Run) -> None:
    """Write a run's plots and its page beside it."""
    for name, drawing in plot_files(folder, stored):
        (folder / name).write_text(drawing, encoding="utf-8")
    write_page([(folder, stored)], folder / PAGE_FILE)


def write_page(found: Sequence[tuple[Path, Run]], target: Path) -> Path:
    """Write the page of stored runs, and return where it is.

    Raises `UsageError` when they must not be compared, or where it cannot be written.
    """
    from linklab.templating import keep

    return keep(page(found), target)
