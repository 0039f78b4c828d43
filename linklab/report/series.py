"""A series as tables and as a sentence: what became of each patch, and what each changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.numbers import amount_text, number_text
from linklab.report.layout import TEXT_WIDTH, Fitting, plain_table, plain_text, title_line
from linklab.report.tables import metric_title
from linklab.report.versus import span_text
from linklab.results.comparison import Comparison, Effect
from linklab.results.figures import seconds_are
from linklab.results.kinds import SERIES
from linklab.results.model import STATES, Run
from linklab.results.series import BASE, Change, Findings, Row
from linklab.results.shape import Cell, Metric

_STYLE = {Effect.WORSE: "red", Effect.BETTER: "green"}
_MOST_BLOCKS = 1000  # nobody waits for more
_SHOWN = 5  # lines of a list
_EVIDENCE = 4  # lines of what proves a trouble


def render(run: Run, findings: Findings) -> Group:
    """Return everything that a series has to say on a terminal, apart from the sentence."""
    parts: list[RenderableType] = [_heading(run, findings), Text(), _states(findings)]
    for cell in findings.cells:
        parts += [Text(), _changes(run, findings, cell)]
    return Group(*parts, *_details(findings))


def as_text(run: Run, findings: Findings, width: int = TEXT_WIDTH) -> str:
    """Return the same, and the sentence, as plain text for a file."""
    return f"{plain_text(render(run, findings), width)}\n{sentence(findings)}\n"


def document(run: Run, findings: Findings) -> dict[str, Any]:
    """Return the same for a script."""
    stored = run.document()
    every = [asdict(row.state) for rows in findings.rows.values() for row in rows]
    states = sorted(every, key=lambda state: state["number"])
    return {
        "run": {**stored, SERIES: {**stored[SERIES], STATES: states}},
        "samples": [sample.to_json() for sample in run.samples],
        "rows": [_row_json(findings, row) for rows in findings.rows.values() for row in rows],
        "sentence": sentence(findings),
    }


def _row_json(findings: Findings, row: Row) -> dict[str, Any]:
    return {
        **asdict(row.state),
        "verdict": findings.verdict_of(row).value,
        "trouble": asdict(row.trouble) if row.trouble else None,
        "before": [_change_json(findings, *each) for each in row.before.items()],
        "base": [_change_json(findings, *each) for each in row.base.items()],
    }


def _change_json(findings: Findings, cell: Cell, change: Change) -> dict[str, Any]:
    found, name = change.comparison, findings.metric.name
    middle, low, high = found.percent if found.by_ratio else (found.change, found.low, found.high)
    return {
        **cell,
        "against": change.against,
        "percent" if found.by_ratio else "difference": middle,
        "low": low,
        "high": high,
        "level": found.level,
        "p_value": found.p_value,
        "effect": found.verdict.word(findings.metric),
        "blocks": found.blocks,
        name: found.median_b,
        f"{name}_before": found.median_a,
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
        text.append("ok" if row.values else "boots" if row.state.booted else "builds")
    if new := len(row.state.new_warnings):
        text.append(f", {new} new warning{'s' if new != 1 else ''}", style="yellow")
    if lines := len(row.state.new_lines):
        text.append(f", {lines} new console line{'s' if lines != 1 else ''}", style="yellow")
    return text


def _place(findings: Findings, number: int) -> str:
    return findings.patches[number - 1].place if number != BASE else "base"


# What each changes


def _changes(run: Run, findings: Findings, cell: Cell) -> RenderableType:
    """Return the table of one cell: each patch against the one before it and the base."""
    blocks = max((sample.block for sample in run.samples), default=0)
    what = f"{metric_title(findings.metric)}, median of {blocks} guests; change [95 %]"
    title = f"{findings.shape.in_words(cell)}: {what}"
    flavours = list(findings.rows)
    whole = plain_table(title)
    _fill(whole, findings, cell, flavours)
    parts: list[RenderableType] = []
    for flavour in flavours:
        part = plain_table("")
        _fill(part, findings, cell, [flavour], titled=False)
        parts += [title_line(f"{flavour}, {title}"), part]
    return Fitting(whole, parts)


def _fill(
    table: Table,
    findings: Findings,
    cell: Cell,
    flavours: Sequence[str],
    *,
    titled: bool = True,
) -> None:
    """Add the columns of some flavours, their names over them where that is asked for."""
    table.add_column("", overflow="fold")
    for flavour in flavours:
        for title, over in (
            (findings.metric.name, flavour),
            ("against the one before", ""),
            ("against the base", ""),
        ):
            table.add_column(f"{over}\n{title}" if titled else title, justify="right")
    for number, title in _titles(findings):
        rows = (_row(findings, flavour, number) for flavour in flavours)
        cells = [text for row in rows for text in _cells(findings, row, cell)]
        table.add_row(Text(title.partition(" ")[0]), *cells)


def _cells(findings: Findings, row: Row | None, cell: Cell) -> Iterator[Text]:
    metric = findings.metric
    yield Text(number_text(row.values.get(cell) if row else None, metric.unit or "1"))
    same = row is not None and row.state.same_as is not None
    before = row.before.get(cell) if row else None
    yield Text("same kernel") if same else _change(before, metric)
    base = row is not None and row.state.same_as == BASE
    yield Text("same kernel") if base else _change(row.base.get(cell) if row else None, metric)


def _change(change: Change | None, metric: Metric) -> Text:
    if change is None:
        return Text("-")
    effect = change.comparison.verdict
    word = "unclear" if effect is Effect.INCONCLUSIVE else effect.word(metric)
    return Text(f"{word} {change_text(change.comparison, metric)}", style=_STYLE.get(effect, ""))


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


# The sentence


def sentence(findings: Findings) -> str:
    """Return what each patch does that it should not or that counts, in their order.

    Where there is nothing of that kind, what that rests on.
    """
    clauses = list(_base(findings))
    for patch in findings.patches:
        if deeds := [*_begun(findings, patch.number), *_deeds(findings, patch.number)]:
            clauses.append(f"patch {patch.place} {listed(deeds)}")
    clauses += _together(findings)
    clauses += _untested(findings)
    return "; ".join([*clauses, *_unclear(findings)] if clauses else [_all_well(findings)])


def listed(words: Sequence[str]) -> str:
    """Return words as prose lists them: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1] if words else "")))


def change_text(one: Comparison, metric: Metric) -> str:
    """Return a change with its interval, what is more with a plus: `+4.1 % [3.2, 5.0]`."""
    if not one.by_ratio:
        return span_text(one, metric)
    middle, low, high = one.percent
    sign = "+" if middle >= 0.05 else ""
    return f"{sign}{_number(middle)} % [{_number(low)}, {_number(high)}]"


def _by(change: Change, metric: Metric) -> str:
    """Return by how much, behind a verb that says in which direction: `4.1 % [3.2, 5.0]`."""
    if not change.comparison.by_ratio:
        return span_text(change.comparison, metric)
    middle, low, high = change.comparison.percent
    if middle < 0:
        middle, low, high = -middle, -high, -low
    return f"{_number(middle)} % [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Return per cent; that a small one is not quite 0 is no information."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def _base(findings: Findings) -> Iterator[str]:
    for text, flavours in _grouped(
        (row.trouble.text, flavour)
        for flavour, rows in findings.rows.items()
        for row in rows
        if row.state.number == BASE and row.trouble
    ).items():
        yield f"the base {text} on {listed(flavours)}"


def _begun(findings: Findings, number: int) -> Iterator[str]:
    """Yield what begins to go wrong with a patch, and whether a later one mends it."""
    found: list[tuple[str, str]] = []
    for flavour, rows in findings.rows.items():
        row = _row_of(rows, number)
        before = _row_of(rows, number - 1)
        if row is None or row.trouble is None:
            continue
        if before is None or before.trouble is None or before.trouble.text != row.trouble.text:
            found.append((f"{row.trouble.text} on {{}}{_until(findings, rows, row)}", flavour))
    for text, flavours in _grouped(found).items():
        yield text.format(listed(flavours))


def _until(findings: Findings, rows: Sequence[Row], first: Row) -> str:
    """Return how long a trouble lasts, where that is longer than one patch."""
    assert first.trouble is not None
    later = [row for row in rows if row.state.number > first.state.number]
    other = [row for row in later if not row.trouble or row.trouble.text != first.trouble.text]
    if not other:
        return ", from there on" if later else ""
    tested = bool(other[0].values or other[0].state.booted or first.state.failure)
    if other[0].trouble or not tested:
        return ""
    return f" ({findings.patches[other[0].state.number - 1].place} mends it)"


def _deeds(findings: Findings, number: int) -> Iterator[str]:
    """Yield the warnings that a patch adds, and what it makes slower or faster."""
    rows = [
        (flavour, row) for flavour, all_ in findings.rows.items() if (row := _row_of(all_, number))
    ]
    warnings = _grouped(
        (str(len(row.state.new_warnings)), flavour)
        for flavour, row in rows
        if row.state.new_warnings
    )
    for count, flavours in warnings.items():
        plural = "s" if count != "1" else ""
        yield f"adds {count} compiler warning{plural} on {listed(flavours)}"
    changes = _grouped(
        (
            f"{deed[0]} {findings.shape.in_words(cell)}",
            f"on {flavour} by {_by(change, findings.metric)}",
        )
        for flavour, row in rows
        for cell, change in row.before.items()
        if (deed := _deed(findings, change))
    )
    for what, by in changes.items():
        yield f"{what} {listed(by)}"


def _deed(findings: Findings, change: Change) -> tuple[str, str] | None:
    """Return what a change is called, of one patch and of several; None where none is shown."""
    worse, better = ("worsens", "worsen"), ("improves", "improve")
    if findings.metric.is_time:
        worse, better = ("slows", "slow"), ("speeds up", "speed up")
    effect = change.comparison.verdict
    if findings.is_regression(change) or effect is Effect.WORSE:
        return worse
    if effect is Effect.DIFFERENT:
        return "changes", "change"
    return better if effect is Effect.BETTER else None


def _together(findings: Findings) -> Iterator[str]:
    """Yield what all patches do together and none of them does alone."""
    for flavour, rows in findings.rows.items():
        alone = {
            cell
            for row in rows
            for cell, change in row.before.items()
            if _deed(findings, change) is not None
        }
        for cell, change in rows[-1].base.items() if rows else ():
            deed = _deed(findings, change)
            if deed and cell not in alone and rows[-1].state.number > 1:
                yield (
                    f"together the patches {deed[1]} {findings.shape.in_words(cell)} "
                    f"on {flavour} by {_by(change, findings.metric)}"
                )


def _untested(findings: Findings) -> Iterator[str]:
    """Yield what an early end left out."""
    left = [
        patch.place
        for patch in findings.patches
        if any(not _is_tested(_row_of(rows, patch.number)) for rows in findings.rows.values())
        or not findings.rows
    ]
    if left:
        span = left[0] if len(left) == 1 else f"{left[0]} to {left[-1]}"
        yield f"not tested to the end: {span}"


def _unclear(findings: Findings) -> Iterator[str]:
    """Yield of which patches nobody knows yet what they do, and what would tell."""
    unclear = [
        (row.state.number, change.comparison)
        for rows in findings.rows.values()
        for row in rows
        for change in row.before.values()
        if change.comparison.verdict is Effect.INCONCLUSIVE and not findings.is_regression(change)
    ]
    if not unclear:
        return
    numbers = sorted({number for number, _ in unclear})
    words = listed([findings.patches[number - 1].place for number in numbers])
    more = [found.blocks + found.more_blocks_needed for _, found in unclear
            if found.more_blocks_needed is not None]  # fmt: skip
    told = len(more) == len(unclear) and max(more) <= _MOST_BLOCKS
    would = f"--blocks {max(more)} should tell" if told else "this host is too noisy to tell"
    does = "do" if len(numbers) > 1 else "does"
    metric = findings.metric
    what = "the speed" if metric.is_time else f"the {metric.short or metric.name}"
    yield f"what {words} {does} to {what} is unclear ({would})"


def _is_tested(row: Row | None) -> bool:
    return row is not None and (row.trouble is not None or bool(row.values))


def _all_well(findings: Findings) -> str:
    count = len(findings.patches)
    what = "the patch builds, boots and passes" if count == 1 else (
        f"all {count} patches build, boot and pass"
    )  # fmt: skip
    works = listed([findings.shape.in_words(cell) for cell in findings.cells])
    changes = [
        change for rows in findings.rows.values() for row in rows for change in row.before.values()
    ]
    none = "it does not change" if count == 1 else "none of them changes"
    if all(change.comparison.verdict is Effect.SAME for change in changes):
        surely = f"{none} that {_least(findings)}"
    elif not all(change.comparison.by_ratio for change in changes):
        surely = "no change is shown"
    else:
        low = min(change.comparison.percent[1] for change in changes)
        high = max(change.comparison.percent[2] for change in changes)
        surely = f"no change is shown (intervals within {_number(low)} to {_number(high)} %)"
    return f"{what} {works} on {listed(list(findings.rows))}; {surely}"


def _least(findings: Findings) -> str:
    """Return the smallest effect that matters, in words."""
    metric = findings.metric
    if metric.zero:
        return f"by {amount_text(metric.matters, metric.unit)}" if metric.matters else "at all"
    return f"by {findings.threshold:g} %"


def _row_of(rows: Sequence[Row], number: int) -> Row | None:
    return next((row for row in rows if row.state.number == number), None)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return what belongs to the same words, such as all flavours that have them to say."""
    found: dict[str, list[str]] = {}
    for text, each in pairs:
        found.setdefault(text, []).append(each)
    return found
