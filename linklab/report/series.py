"""A series as tables and as a sentence: what became of each patch, and what each changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.numbers import amount_text, number_text
from linklab.report.comparison import span_text
from linklab.report.grid import TEXT_WIDTH, Fitting, plain_table, plain_text, title_line
from linklab.report.tables import metric_title
from linklab.results.comparison import Comparison, Effect
from linklab.results.figures import seconds_are
from linklab.results.model import STATES, Run
from linklab.results.result_kinds import SERIES
from linklab.results.series import BASE, Change, Findings, Row
from linklab.results.shape import Cell, Metric

_STYLE = {Effect.WORSE: "red", Effect.BETTER: "green"}
_MOST_BLOCKS = 1000  # nobody waits for more
_SHOWN = 5  # lines of a list
_EVIDENCE = 4  # lines of what proves a problem


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
        "trouble": asdict(row.problem) if row.problem else None,
        "before": [_change_json(findings, *each) for each in row.before.items()],
        "base": [_change_json(findings, *each) for each in row.base.items()],
    }


def _change_json(findings: Findings, cell: Cell, change: Change) -> dict[str, Any]:
    found, name = change.comparison, findings.metric.name
    middle, low, high = found.percent if found.by_ratio else (found.change, found.low, found.high)
    ends = {"low": low, "high": high} if found.bounded else {"low": None, "high": None}
    return {
        **cell,
        "against": change.against,
        "percent" if found.by_ratio else "difference": middle,
        **ends,
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
    patches = f"{_count(len(findings.patches), 'patch', 'es')}{version}{cover}"
    return Text.assemble(
        (f"{seconds_are(about)}\n", "bold"),
        f"{about['boot']} boot, {about['cpus']} CPU, {about['memory']} MiB, "
        f"QEMU {about['qemu']['version']}; {patches}",
    )


def _count(number: int, of: str, ending: str = "s") -> str:
    return f"{number} {of}{ending if number != 1 else ''}"


def _titles(findings: Findings) -> list[tuple[int, str]]:
    """Return what stands before each row: the base, and each patch with its place."""
    patches = [(patch.number, f"{patch.place} {patch.subject}") for patch in findings.patches]
    return [(BASE, "base"), *patches]


def _place(findings: Findings, number: int) -> str:
    return findings.patches[number - 1].place if number != BASE else "base"


def _row(findings: Findings, flavour: str, number: int) -> Row | None:
    return next((row for row in findings.rows[flavour] if row.state.number == number), None)


# What became of each state


def _states(findings: Findings) -> RenderableType:
    rows = (
        [Text(title), *(_status(findings, _row(findings, f, number)) for f in findings.rows)]
        for number, title in _titles(findings)
    )
    table = plain_table("what became of each patch", ("", *findings.rows), rows)
    table.columns[0].ratio = 1
    return table


def _status(findings: Findings, row: Row | None) -> Text:
    if row is None:
        return Text("-")
    text, state = Text(), row.state
    if row.problem:
        text.append(row.problem.text, style="red")
    elif state.same_as is not None:
        text.append("same kernel as " + _place(findings, state.same_as))
    else:
        text.append("ok" if row.values else "boots" if state.booted else "builds")
    for new, what in ((state.new_warnings, "new warning"), (state.new_lines, "new console line")):
        text.append(f", {_count(len(new), what)}" if new else "", style="yellow")
    return text


# What each changes


def _changes(run: Run, findings: Findings, cell: Cell) -> RenderableType:
    """Return the table of one cell: each patch against the one before it and the base."""
    blocks = max((sample.block for sample in run.samples), default=0)
    what = f"{metric_title(findings.metric)}, median of {blocks} guests; change [95 %]"
    title, flavours = f"{findings.shape.in_words(cell)}: {what}", list(findings.rows)
    parts: list[RenderableType] = []
    for flavour in flavours:
        part = _changes_table("", findings, cell, [flavour], titled=False)
        parts += [title_line(f"{flavour}, {title}"), part]
    return Fitting(_changes_table(title, findings, cell, flavours), parts)


def _changes_table(
    title: str, findings: Findings, cell: Cell, flavours: Sequence[str], *, titled: bool = True
) -> Table:
    """Return the table of some flavours, their names over them where that is asked for."""
    table = plain_table(title, [""])
    for flavour in flavours:
        names = (findings.metric.name, "against the one before", "against the base")
        for name, over in zip(names, (flavour, "", ""), strict=True):
            table.add_column(f"{over}\n{name}" if titled else name, justify="right")
    for number, name in _titles(findings):
        rows = (_row(findings, flavour, number) for flavour in flavours)
        cells = [text for row in rows for text in _cells(findings, row, cell)]
        table.add_row(Text(name.partition(" ")[0]), *cells)
    return table


def _cells(findings: Findings, row: Row | None, cell: Cell) -> Iterator[Text]:
    metric = findings.metric
    if row is None:
        yield from map(Text, "---")
        return
    same = row.state.same_as
    yield Text(number_text(row.values.get(cell), metric.unit or "1"))
    for is_same, changes in ((same is not None, row.before), (same == BASE, row.base)):
        yield Text("same kernel") if is_same else _change(changes.get(cell), metric)


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
            if row.problem and row.state.same_as is None:
                lines = row.problem.evidence.splitlines()[:_EVIDENCE]
                yield _list(f"{name} {row.problem.text}:", [*lines, row.problem.message])
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
        if effects := [*_begun(findings, patch.number), *_effects(findings, patch.number)]:
            clauses.append(f"patch {patch.place} {listed(effects)}")
    clauses += [*_together(findings), *_untested(findings)]
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
    return f"{sign}{_percent(middle, low, high)}"


def _by(change: Change, metric: Metric) -> str:
    """Return by how much, behind a verb that says in which direction: `4.1 % [3.2, 5.0]`."""
    if not change.comparison.by_ratio:
        return span_text(change.comparison, metric)
    middle, low, high = change.comparison.percent
    return _percent(-middle, -high, -low) if middle < 0 else _percent(middle, low, high)


def _percent(middle: float, low: float, high: float) -> str:
    interval = f" [{_number(low)}, {_number(high)}]" if isfinite(high - low) else ""
    return f"{_number(middle)} %{interval}"


def _number(value: float) -> str:
    """Return per cent; that a small one is not quite 0 is no information."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def _base(findings: Findings) -> Iterator[str]:
    rows = ((_row(findings, flavour, BASE), flavour) for flavour in findings.rows)
    found = _grouped((row.problem.text, flavour) for row, flavour in rows if row and row.problem)
    for text, flavours in found.items():
        yield f"the base {text} on {listed(flavours)}"


def _begun(findings: Findings, number: int) -> Iterator[str]:
    """Yield what begins to go wrong with a patch, and whether a later one mends it."""
    found: list[tuple[str, str]] = []
    for flavour, rows in findings.rows.items():
        row, before = (_row(findings, flavour, n) for n in (number, number - 1))
        if row and row.problem and not (before and _same_problem(before, row)):
            found.append((f"{row.problem.text} on {{}}{_until(findings, rows, row)}", flavour))
    for text, flavours in _grouped(found).items():
        yield text.format(listed(flavours))


def _same_problem(one: Row, other: Row) -> bool:
    return bool(one.problem and other.problem and one.problem.text == other.problem.text)


def _until(findings: Findings, rows: Sequence[Row], first: Row) -> str:
    """Return how long a problem lasts, where that is longer than one patch."""
    later = [row for row in rows if row.state.number > first.state.number]
    other = next((row for row in later if not _same_problem(row, first)), None)
    if other is None:
        return ", from there on" if later else ""
    tested = bool(other.values or other.state.booted or first.state.failure)
    if other.problem or not tested:
        return ""
    return f" ({_place(findings, other.state.number)} mends it)"


def _effects(findings: Findings, number: int) -> Iterator[str]:
    """Yield the warnings that a patch adds, and what it makes slower or faster."""
    rows = [(f, row) for f in findings.rows if (row := _row(findings, f, number))]
    warnings = _grouped(
        (_count(len(row.state.new_warnings), "compiler warning"), flavour)
        for flavour, row in rows
        if row.state.new_warnings
    )
    for count, flavours in warnings.items():
        yield f"adds {count} on {listed(flavours)}"
    changes = _grouped(
        (
            f"{verbs[0]} {findings.shape.in_words(cell)}",
            f"on {flavour} by {_by(change, findings.metric)}",
        )
        for flavour, row in rows
        for cell, change in row.before.items()
        if (verbs := _verbs(findings, change))
    )
    for what, by in changes.items():
        yield f"{what} {listed(by)}"


def _verbs(findings: Findings, change: Change) -> tuple[str, str] | None:
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
        each = [pair for row in rows for pair in row.before.items()]
        alone = {cell for cell, change in each if _verbs(findings, change)}
        for cell, change in rows[-1].base.items() if rows else ():
            verbs = _verbs(findings, change)
            if verbs and cell not in alone and rows[-1].state.number > 1:
                yield (
                    f"together the patches {verbs[1]} {findings.shape.in_words(cell)} "
                    f"on {flavour} by {_by(change, findings.metric)}"
                )


def _untested(findings: Findings) -> Iterator[str]:
    """Yield what an early end left out."""

    def is_tested(row: Row | None) -> bool:
        return row is not None and bool(row.problem or row.values)

    left = [
        patch.place
        for patch in findings.patches
        if not findings.rows
        or not all(is_tested(_row(findings, f, patch.number)) for f in findings.rows)
    ]
    if left:
        span = left[0] if len(left) == 1 else f"{left[0]} to {left[-1]}"
        yield f"not tested to the end: {span}"


def _all_changes(findings: Findings) -> list[tuple[int, Change]]:
    """Return what each patch changes, with its number."""
    rows = [row for rows in findings.rows.values() for row in rows]
    return [(row.state.number, change) for row in rows for change in row.before.values()]


def _unclear(findings: Findings) -> Iterator[str]:
    """Yield of which patches nobody knows yet what they do, and what would tell."""
    unclear = [
        (number, change.comparison)
        for number, change in _all_changes(findings)
        if change.comparison.verdict is Effect.INCONCLUSIVE and not findings.is_regression(change)
    ]
    if not unclear:
        return
    numbers = sorted({number for number, _ in unclear})
    words = listed([_place(findings, number) for number in numbers])
    more = [found.blocks + found.more_blocks_needed for _, found in unclear
            if found.more_blocks_needed is not None]  # fmt: skip
    told = len(more) == len(unclear) and max(more) <= _MOST_BLOCKS
    would = f"--blocks {max(more)} should tell" if told else "this host is too noisy to tell"
    does = "do" if len(numbers) > 1 else "does"
    metric = findings.metric
    what = "the speed" if metric.is_time else f"the {metric.short or metric.name}"
    yield f"what {words} {does} to {what} is unclear ({would})"


def _all_well(findings: Findings) -> str:
    count = len(findings.patches)
    what, none = "the patch builds, boots and passes", "it does not change"
    if count != 1:
        what = f"all {count} patches build, boot and pass"
        none = "none of them changes"
    works = listed([findings.shape.in_words(cell) for cell in findings.cells])
    found = [change.comparison for _, change in _all_changes(findings)]
    if all(one.verdict is Effect.SAME for one in found):
        surely = f"{none} that {_least(findings)}"
    elif not all(one.by_ratio and one.bounded for one in found):
        surely = "no change is shown"
    else:
        low, high = (pick(one.percent[n] for one in found) for pick, n in ((min, 1), (max, 2)))
        surely = f"no change is shown (intervals within {_number(low)} to {_number(high)} %)"
    return f"{what} {works} on {listed(list(findings.rows))}; {surely}"


def _least(findings: Findings) -> str:
    """Return the smallest effect that matters, in words."""
    metric = findings.metric
    if metric.zero:
        return f"by {amount_text(metric.matters, metric.unit)}" if metric.matters else "at all"
    return f"by {findings.threshold:g} %"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return what belongs to the same words, such as all flavours that have them to say."""
    found: dict[str, list[str]] = {}
    for text, each in pairs:
        found.setdefault(text, []).append(each)
    return found
