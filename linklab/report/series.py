"""A series as tables: what became of each patch, and what each changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report.figures import seconds_are, seconds_text
from linklab.report.layout import TEXT_WIDTH, Fitting, plain_table, plain_text, title_line
from linklab.report.seriessentence import change_text, sentence
from linklab.results.comparison import Effect
from linklab.results.model import Run
from linklab.results.series import BASE, Change, Findings, Row
from linklab.results.work import Work

__all__ = ["as_text", "document", "render", "sentence"]

_STYLE = {Effect.SLOWER: "red", Effect.FASTER: "green"}
_SHOWN = 5  # lines of a list
_EVIDENCE = 4  # lines of what proves a trouble


def render(run: Run, findings: Findings) -> Group:
    """Return everything that a series has to say on a terminal, apart from the sentence."""
    parts: list[RenderableType] = [_heading(run, findings), Text(), _states(findings)]
    for work in findings.works:
        parts += [Text(), _changes(run, findings, work)]
    return Group(*parts, *_details(findings))


def as_text(run: Run, findings: Findings, width: int = TEXT_WIDTH) -> str:
    """Return the same, and the sentence, as plain text for a file."""
    return f"{plain_text(render(run, findings), width)}\n{sentence(findings)}\n"


def document(run: Run, findings: Findings) -> dict[str, Any]:
    """Return the same for a script."""
    return {
        "run": dict(run.about),
        "samples": [sample.to_json() for sample in run.samples],
        "rows": [_row_json(findings, row) for rows in findings.rows.values() for row in rows],
        "sentence": sentence(findings),
    }


def _row_json(findings: Findings, row: Row) -> dict[str, Any]:
    return {
        **asdict(row.state),
        "verdict": findings.verdict_of(row).value,
        "trouble": asdict(row.trouble) if row.trouble else None,
        "before": [_change_json(work, change) for work, change in row.before.items()],
        "base": [_change_json(work, change) for work, change in row.base.items()],
    }


def _change_json(work: Work, change: Change) -> dict[str, Any]:
    percent, low, high = change.percent
    found = change.comparison
    return {
        **asdict(work),
        "against": change.against,
        "percent": percent,
        "low": low,
        "high": high,
        "level": found.level,
        "p_value": found.p_value,
        "effect": found.verdict.value,
        "blocks": found.blocks,
        "seconds": found.median_b,
        "seconds_before": found.median_a,
    }


def _heading(run: Run, findings: Findings) -> Text:
    about, entry = run.about, run.about["series"]
    version = f" v{entry['version']}" if entry["version"] > 1 else ""
    cover = f": {entry['cover']}" if entry["cover"] else ""
    count = len(findings.patches)
    patches = f"{count} patch{'es' if count != 1 else ''}{version}{cover}"
    text = Text()
    text.append(f"{seconds_are(about)}\n", style="bold")
    text.append(
        f"{about['boot']} boot, {about['cpus']} CPU, {about['memory']} MiB, "
        f"QEMU {about['qemu']['version']}; {patches}"
    )
    return text


def _titles(findings: Findings) -> list[tuple[int, str]]:
    """Return what stands before each row: the base, and each patch with its place."""
    patches = [(patch.number, f"{patch.place} {patch.subject}") for patch in findings.patches]
    return [(BASE, "base"), *patches]


def _row(findings: Findings, flavour: str, number: int) -> Row | None:
    return next((row for row in findings.rows[flavour] if row.state.number == number), None)


# What became of each state


def _states(findings: Findings) -> RenderableType:
    table = plain_table("what became of each patch")
    table.add_column("", overflow="fold", ratio=1)
    for flavour in findings.rows:
        table.add_column(flavour, overflow="fold")
    for number, title in _titles(findings):
        cells = [_status(findings, _row(findings, f, number)) for f in findings.rows]
        table.add_row(Text(title), *cells)
    return table


def _status(findings: Findings, row: Row | None) -> Text:
    if row is None:
        return Text("-")
    text = Text()
    if row.trouble:
        text.append(row.trouble.text, style="red")
    elif row.state.same_as is not None:
        text.append("same kernel as " + _place(findings, row.state.same_as))
    else:
        text.append("ok" if row.seconds else "boots" if row.state.booted else "builds")
    if new := len(row.state.new_warnings):
        text.append(f", {new} new warning{'s' if new != 1 else ''}", style="yellow")
    if lines := len(row.state.new_lines):
        text.append(f", {lines} new console line{'s' if lines != 1 else ''}", style="yellow")
    return text


def _place(findings: Findings, number: int) -> str:
    return findings.patches[number - 1].place if number != BASE else "base"


# What each changes


def _changes(run: Run, findings: Findings, work: Work) -> RenderableType:
    """Return the table of one operation: each patch against the one before it and the base."""
    blocks = max((sample.block for sample in run.samples), default=0)
    title = f"{work.text}: seconds in the guest, median of {blocks} guests; change [95 %]"
    flavours = list(findings.rows)
    whole = plain_table(title)
    _fill(whole, findings, work, flavours)
    parts: list[RenderableType] = []
    for flavour in flavours:
        part = plain_table("")
        _fill(part, findings, work, [flavour], titled=False)
        parts += [title_line(f"{flavour}, {title}"), part]
    return Fitting(whole, parts)


def _fill(
    table: Table,
    findings: Findings,
    work: Work,
    flavours: Sequence[str],
    *,
    titled: bool = True,
) -> None:
    """Add the columns of some flavours, their names over them where that is asked for."""
    table.add_column("", overflow="fold")
    for flavour in flavours:
        for title, over in (
            ("seconds", flavour), ("against the one before", ""), ("against the base", ""),
        ):  # fmt: skip
            table.add_column(f"{over}\n{title}" if titled else title, justify="right")
    for number, title in _titles(findings):
        cells = [
            cell for flavour in flavours for cell in _cells(_row(findings, flavour, number), work)
        ]
        table.add_row(Text(title.partition(" ")[0]), *cells)


def _cells(row: Row | None, work: Work) -> Iterator[Text]:
    seconds = row.seconds.get(work) if row else None
    yield Text(seconds_text(seconds))
    same = row is not None and row.state.same_as is not None
    yield Text("same kernel") if same else _change(row.before.get(work) if row else None)
    base = row is not None and row.state.same_as == BASE
    yield Text("same kernel") if base else _change(row.base.get(work) if row else None)


def _change(change: Change | None) -> Text:
    if change is None:
        return Text("-")
    effect = change.comparison.verdict
    word = "unclear" if effect is Effect.INCONCLUSIVE else effect.value
    return Text(f"{word} {change_text(change)}", style=_STYLE.get(effect, ""))


# What proves it


def _details(findings: Findings) -> Iterator[RenderableType]:
    for number, title in _titles(findings):
        for flavour in findings.rows:
            row = _row(findings, flavour, number)
            if row is None:
                continue
            name = f"{title.partition(' ')[0]} on {flavour}"
            if row.trouble and row.state.same_as is None:
                lines = row.trouble.evidence.splitlines()[:_EVIDENCE]
                yield _list(f"{name} {row.trouble.text}:", [*lines, row.trouble.message])
            if row.state.new_warnings:
                yield _list(f"{name}, new warnings of the compiler:", row.state.new_warnings)
            if row.state.new_lines:
                yield _list(f"{name}, new on the console:", row.state.new_lines)


def _list(title: str, lines: Sequence[str]) -> Text:
    shown = [f"  {line}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"  and {len(lines) - _SHOWN} more")
    return Text("\n".join(("", title, *shown)))
