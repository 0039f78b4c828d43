"""The page: everything that stored runs have to say, in one HTML file.

It needs no network and holds no script but its own, which sorts tables. All
of its words and figures come from disk; the same runs give the same page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from linklab.paths import TEMPLATES
from linklab.report.compare import Stored, operations_of, together
from linklab.report.curves import ratio_panel, seconds_panels
from linklab.report.figures import kernel_title, ratio_text, seconds_are, seconds_text
from linklab.report.keyfigure import key_figure
from linklab.report.layout import plain_text
from linklab.report.pagetable import PageTable
from linklab.report.plots import Panel, svg
from linklab.report.printed import found_by
from linklab.report.sections import claims_table, cost_table, fit_table, tables_of
from linklab.results.again import command_of, files_of
from linklab.results.model import Run

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
    """One operation's part of the page."""

    operation: str
    figure: Figure | None
    cost: PageTable | None
    fit: PageTable | None


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
        parts=[_part(runs, operation) for operation in operations_of(runs)],
        tables=tables_of(runs),
        claims=None if any(head.found for head in heads) else claims_table(runs),
        again=[_again(stored) for stored in runs],
    )


def _title(runs: Sequence[Stored]) -> str:
    about = runs[0].run.about
    scenario = str(about.get("kind") or about.get("scenario", "run")).capitalize()
    if len(runs) > 1:
        return f"{scenario}: {len(runs)} runs beside each other"
    kernels = " and ".join(kernel_title(name) for name in runs[0].figures.kernels)
    return f"{scenario}, {kernels}"


def _summary(runs: Sequence[Stored]) -> Iterator[str]:
    """Yield what the group gains at the most interfaces, a sentence for each kernel."""
    for stored in runs:
        for operation in stored.figures.operations:
            for kernel in stored.figures.kernels:
                if text := _gain(stored, operation, kernel):
                    yield f"{stored.letter}: {text}" if stored.letter else text


def _gain(stored: Stored, operation: str, kernel: str) -> str:
    figures = stored.figures
    known = [c for c in figures.counts(operation) if figures.ratio(operation, kernel, c)]
    if not known:
        return ""
    group, process = (
        seconds_text(figures.cell(operation, kernel, arm, known[-1]).seconds)
        for arm in ("group", "process")
    )
    factor = ratio_text(figures.ratio(operation, kernel, known[-1])).removesuffix("x")
    return (
        f"{operation} of {known[-1]} interfaces, {_on(kernel)}: one group request took {group} s, "
        f"a process for each {process} s, {factor} times as long."
    )


def _on(kernel: str) -> str:
    title = kernel_title(kernel)
    return title if title != kernel else f"on {kernel}"


def _head(stored: Stored) -> Head:
    about = stored.run.about
    verdict = str(about.get("verdict") or "unfinished")
    text = _VERDICT_TEXT.get(verdict, "it was killed, or goes on still")
    found = found_by(stored.run)
    if found is not None:
        text = key_figure(stored.run).rstrip(".")  # the same words mean other things there
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
    faults = run.about.get("faults")
    messages += [str(fault.get("message", "")) for fault in faults or () if isinstance(fault, dict)]
    return [message for message in dict.fromkeys(messages) if message]


def _invalid(run: Run) -> str:
    wrong = sum(not sample.verified for sample in run.samples)
    if not wrong:
        return ""
    return (
        f"{wrong} of {len(run.samples)} samples are not valid: the interfaces were in a wrong "
        "state afterwards. Their times are left out; a cross marks where no other was."
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what was run on what, as pairs of words."""
    about = run.about
    kernels = [f"Linux {k.release} {_on(k.name)}" for k in run.kernels]
    yield "kernels", "; ".join(kernels)
    yield "seconds", seconds_are(about)
    yield "accelerator", str(about.get("accel")).upper()
    yield "boot", _boot(run)
    cpus, memory = about.get("cpus"), about.get("memory")
    yield "guest", f"{about.get('machine')}, {cpus} CPU, {memory} MiB"
    yield "QEMU", _inside(run, "qemu", "version")
    yield "host", f"{_inside(run, 'host', 'cpu')}; Linux {_inside(run, 'host', 'kernel')}"
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
    for operation in stored.figures.operations:
        for number, drawing in enumerate(_drawings([stored], operation), 1):
            opened = drawing.replace("<svg ", head, 1)
            yield (
                f"{operation}-{number}.svg",
                opened.replace(
                    "</title>", f"</title>\n<style>{style}text {{ font-family: serif; }}</style>", 1
                ),
            )


def _drawings(runs: Sequence[Stored], operation: str) -> list[str]:
    panels = seconds_panels(runs, operation)
    drawn = [*(svg(panel, panels) for panel in panels), svg(ratio_panel(runs, operation))]
    return [drawing for drawing in drawn if drawing]


def _part(runs: Sequence[Stored], operation: str) -> Part:
    panels = seconds_panels(runs, operation)
    gain = ratio_panel(runs, operation)
    plots = _drawings(runs, operation)
    figure = Figure(plots, _caption(operation, [*panels, gain])) if plots else None
    return Part(operation, figure, cost_table(runs, operation), fit_table(runs, operation))


def _caption(operation: str, panels: Sequence[Panel]) -> str:
    text = f"{operation}: seconds in the guest against interfaces"
    if panels[-1].curves:
        text += ", and how many times those of one group request a process for each takes"
    points = [point for panel in panels for curve in panel.curves for point in curve.points]
    if any(point.least is not None for point in points):
        text += f". Medians; upright lines hold the median (95{NO_BREAK}% from six trials on)"
    if any(curve.is_reference for panel in panels for curve in panel.curves):
        text += ". Hollow, dotted: the paper, 2011, under KVM"
    return f"{text}."


def _again(stored: Stored) -> Again:
    run = stored.run
    image = run.about.get("image")
    inputs = [(f"kernel {kernel.name}", kernel.sha256) for kernel in run.kernels]
    inputs += [(str(k), str(v)) for k, v in image.items()] if isinstance(image, dict) else []
    inputs += list(files_of(run.about).items())
    return Again(stored.letter, stored.name, command_of(run.about), inputs)
