"""What a series does, in the sentence that a reviewer wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from linklab.results.comparison import Effect
from linklab.results.series import BASE, Change, Findings, Row
from linklab.results.work import Work

_MOST_BLOCKS = 1000  # nobody waits for more
_DEED = {Effect.SLOWER: ("slows", "slow"), Effect.FASTER: ("speeds up", "speed up")}


def sentence(findings: Findings) -> str:
    """Return what each patch does that it should not or that counts, in their order.

    Where there is nothing of that kind, what that rests on.
    """
    clauses = list(_base(findings))
    for patch in findings.patches:
        if deeds := [*_troubles(findings, patch.number), *_deeds(findings, patch.number)]:
            clauses.append(f"patch {patch.place} {listed(deeds)}")
    clauses += _together(findings)
    clauses += _untested(findings)
    return "; ".join([*clauses, *_unclear(findings)] if clauses else [_all_well(findings)])


def listed(words: Sequence[str]) -> str:
    """Return words as prose lists them: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1] if words else "")))


def change_text(change: Change) -> str:
    """Return a change with its interval, what takes longer with a plus: `+4.1 % [3.2, 5.0]`."""
    middle, low, high = change.percent
    sign = "+" if middle >= 0.05 else ""
    return f"{sign}{_number(middle)} % [{_number(low)}, {_number(high)}]"


def _by(change: Change) -> str:
    """Return by how much, behind a verb that says in which direction: `4.1 % [3.2, 5.0]`."""
    middle, low, high = change.percent
    if middle < 0:
        middle, low, high = -middle, -high, -low
    return f"{_number(middle)} % [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Return per cent; that a small one is not quite 0 is no information."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def work_text(work: Work) -> str:
    """Return what was measured, as it stands in a sentence."""
    return f"{work.operation} by {work.arm} of {work.interfaces} interfaces"


def _base(findings: Findings) -> Iterator[str]:
    for text, flavours in _grouped(
        (row.trouble.text, flavour)
        for flavour, rows in findings.rows.items()
        for row in rows
        if row.state.number == BASE and row.trouble
    ).items():
        yield f"the base {text} on {listed(flavours)}"


def _troubles(findings: Findings, number: int) -> Iterator[str]:
    """Yield what begins to go wrong with a patch, and whether a later one mends it."""
    found: list[tuple[str, str]] = []
    for flavour, rows in findings.rows.items():
        row = _row(rows, number)
        before = _row(rows, number - 1)
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
    tested = bool(other[0].seconds or other[0].state.booted or first.state.failure)
    if other[0].trouble or not tested:
        return ""
    return f" ({findings.patches[other[0].state.number - 1].place} mends it)"


def _deeds(findings: Findings, number: int) -> Iterator[str]:
    """Yield the warnings that a patch adds, and what it makes slower or faster."""
    rows = [
        (flavour, row) for flavour, all_ in findings.rows.items() if (row := _row(all_, number))
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
        (f"{deed[0]} {work_text(work)}", f"on {flavour} by {_by(change)}")
        for flavour, row in rows
        for work, change in row.before.items()
        if (deed := _deed(findings, change))
    )
    for what, by in changes.items():
        yield f"{what} {listed(by)}"


def _deed(findings: Findings, change: Change) -> tuple[str, str] | None:
    """Return what a change is called, of one patch and of several; None where none is shown."""
    if findings.is_regression(change):
        return _DEED[Effect.SLOWER]
    return _DEED.get(change.comparison.verdict)


def _together(findings: Findings) -> Iterator[str]:
    """Yield what all patches do together and none of them does alone."""
    for flavour, rows in findings.rows.items():
        alone = {
            work
            for row in rows
            for work, change in row.before.items()
            if _deed(findings, change) is not None
        }
        for work, change in rows[-1].base.items() if rows else ():
            deed = _deed(findings, change)
            if deed and work not in alone and rows[-1].state.number > 1:
                yield (
                    f"together the patches {deed[1]} {work_text(work)} on {flavour} "
                    f"by {_by(change)}"
                )


def _untested(findings: Findings) -> Iterator[str]:
    """Yield what an early end left out."""
    left = [
        patch.place
        for patch in findings.patches
        if any(not _is_tested(_row(rows, patch.number)) for rows in findings.rows.values())
        or not findings.rows
    ]
    if left:
        span = left[0] if len(left) == 1 else f"{left[0]} to {left[-1]}"
        yield f"not tested to the end: {span}"


def _unclear(findings: Findings) -> Iterator[str]:
    """Yield of which patches nobody knows yet what they do to the speed, and what would tell."""
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
    yield f"what {words} {'do' if len(numbers) > 1 else 'does'} to the speed is unclear ({would})"


def _is_tested(row: Row | None) -> bool:
    return row is not None and (row.trouble is not None or bool(row.seconds))


def _all_well(findings: Findings) -> str:
    count = len(findings.patches)
    what = "the patch builds, boots and passes" if count == 1 else (
        f"all {count} patches build, boot and pass"
    )  # fmt: skip
    works = listed([work_text(work) for work in findings.works])
    changes = [
        change for rows in findings.rows.values() for row in rows for change in row.before.values()
    ]
    none = "it does not change" if count == 1 else "none of them changes"
    if all(change.comparison.verdict is Effect.SAME for change in changes):
        surely = f"{none} that by {findings.threshold:g} %"
    else:
        low = min(change.percent[1] for change in changes)
        high = max(change.percent[2] for change in changes)
        surely = f"no change is shown (intervals within {_number(low)} to {_number(high)} %)"
    return f"{what} {works} on {listed(list(findings.rows))}; {surely}"


def _row(rows: Sequence[Row], number: int) -> Row | None:
    return next((row for row in rows if row.state.number == number), None)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return what belongs to the same words, such as all flavours that have them to say."""
    found: dict[str, list[str]] = {}
    for text, each in pairs:
        found.setdefault(text, []).append(each)
    return found
