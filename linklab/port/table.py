"""The outcome of a series on a terminal: the sum first, then what a person has to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.port.outcome import MEANING, Conflict, Fault, PatchOutcome, PatchStatus
from linklab.port.porting import Ported
from linklab.report.grid import plain_table, plain_text, title_line

TEXT_WIDTH = 120
_ROWS = 15  # of a section, where not all are asked for
_PLACES = 1  # conflicts of a patch, likewise
_LINES = 3  # of what is expected and of what is there, likewise
_RANGES = 6
_FILES = 4
_STYLE = {PatchStatus.CONFLICT: "red", PatchStatus.DEPENDS: "yellow", PatchStatus.THERE: "dim"}


def render(ported: Ported, *, everything: bool = False) -> Group:
    """Return the tables; with `everything` every patch has a row and nothing is cut short."""
    onto = f"onto Linux {ported.release}, {ported.source.origin}: {headline(ported)}"
    parts: list[RenderableType] = [title_line(onto), _summary(ported)]
    for section in (_by_hand, _to_look_at):
        parts += section(ported, everything)
    if everything:
        parts += [Text(), title_line("every patch"), _all_rows(ported)]
    return Group(*parts)


def as_text(ported: Ported) -> str:
    """Return everything as plain text, for a file."""
    return plain_text(render(ported, everything=True), TEXT_WIDTH)


def headline(ported: Ported) -> str:
    """Return the sum in one line."""
    applying = sum(outcome.status.applies for outcome in ported.outcomes)
    there = ported.count(PatchStatus.THERE, PatchStatus.EMPTY)
    parts = [f"{applying} of {len(ported.outcomes)} patches apply"]
    parts += [f"{there} there already or empty"] if there else []
    parts += [f"{len(ported.failed)} to do by hand"] if ported.failed else []
    return ", ".join(parts)


def _summary(ported: Ported) -> Table:
    table = plain_table("")
    table.add_column("patches", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for status in PatchStatus:
        if count := ported.count(status):
            row = (Text(str(count)), Text(status.value), Text(MEANING[status]))
            table.add_row(*row, style=_STYLE.get(status, ""))
    return table


def _by_hand(ported: Ported, everything: bool) -> Iterator[RenderableType]:
    """Yield the conflicts. Patches that only depend on one have no row: they apply after it."""
    conflicts = [o for o in ported.outcomes if o.status is PatchStatus.CONFLICT]
    lacking = [o for o in conflicts if _lacks_files(o) and not everything]
    others = [o for o in conflicts if o not in lacking]
    if others:
        held_up = ported.held_up()
        table = plain_table("")
        table.add_column("", justify="right")
        table.add_column("to do by hand: - is expected, + is there", overflow="fold", ratio=5)
        table.add_column("holds up", overflow="fold", ratio=1)
        shown = others if everything else others[:_ROWS]
        for outcome in shown:
            waiting = ranges(held_up.get(outcome.number, []))
            table.add_row(str(outcome.number), _conflict_text(outcome, everything), Text(waiting))
        yield table
        yield from _rest(len(others) - len(shown), "conflicts")
    if lacking:
        yield _lacking_table(lacking)


def _lacks_files(outcome: PatchOutcome) -> bool:
    return all(conflict.fault is Fault.NO_FILE for conflict in outcome.conflicts)


def _lacking_table(lacking: Sequence[PatchOutcome]) -> Table:
    """Return the patches to files that the source lacks, by folder: often it is one feature."""
    folders: dict[str, dict[str, None]] = {}
    numbers: dict[str, list[int]] = {}
    for outcome in lacking:
        for conflict in outcome.conflicts:
            folder, _, name = conflict.file.rpartition("/")
            folders.setdefault(folder, {})[name] = None
            numbers.setdefault(folder, []).append(outcome.number)
    table = plain_table("")
    table.add_column("patches", overflow="fold", ratio=1)
    table.add_column("to do by hand: this source lacks their files", overflow="fold", ratio=3)
    for folder, names in folders.items():
        some = ", ".join(list(names)[:_FILES])
        more = f" and {len(names) - _FILES} more" if len(names) > _FILES else ""
        which = sorted(set(numbers[folder]))
        table.add_row(Text(ranges(which)), Text(f"{folder or '.'}/: {some}{more}"))
    return table


def _conflict_text(outcome: PatchOutcome, everything: bool) -> Text:
    text = Text(outcome.subject or "(no subject)", style="bold")
    conflicts = list(outcome.conflicts)
    shown = conflicts if everything else conflicts[:_PLACES]
    for conflict in shown:
        where = f"{conflict.place}: " if conflict.file else ""
        text.append(f"\n{where}{conflict.why}", style="not bold")
        if conflict.needs:
            text.append(f" (patch {ranges(conflict.needs)} changes it)", style="not bold")
        _append_lines(text, conflict, everything)
    if len(conflicts) > len(shown):
        text.append(f"\nand in {len(conflicts) - len(shown)} more places", style="not bold dim")
    return text


def _append_lines(text: Text, conflict: Conflict, everything: bool) -> None:
    for sign, lines, style in (("-", conflict.expected, "red"), ("+", conflict.found, "green")):
        shown = lines if everything else lines[:_LINES]
        for line in shown:
            text.append(f"\n  {sign} {line.expandtabs(4)}", style=f"not bold {style}")
        if len(lines) > len(shown):
            text.append(f"\n  {sign} ... {len(lines) - len(shown)} more", style="not bold dim")


def _to_look_at(ported: Ported, everything: bool) -> Iterator[RenderableType]:
    """Yield the patches that apply but need a look, and the folders that moved."""
    moved = _moved_folders(ported.outcomes)
    if moved:
        table = plain_table("")
        table.add_column("patches", justify="right")
        table.add_column("folder in the series", overflow="fold")
        table.add_column("folder in this source", overflow="fold")
        for (old, new), count in moved.most_common():
            table.add_row(str(count), Text(old), Text(new))
        yield table
    looks = [o for o in ported.outcomes if o.needs_look and not _only_moved(o)]
    if not looks:
        return
    table = plain_table("")
    table.add_column("", justify="right")
    table.add_column("applies, and wants a look", overflow="fold")
    shown = looks if everything else looks[:_ROWS]
    for outcome in shown:
        said = Text(outcome.subject or "(no subject)", style="bold")
        for remark in outcome.remarks:
            said.append(f"\n{remark}", style="not bold")
        table.add_row(str(outcome.number), said)
    yield table
    yield from _rest(len(looks) - len(shown), "to look at")


def _only_moved(outcome: PatchOutcome) -> bool:
    return outcome.status is PatchStatus.MOVED and not outcome.notes


def _moved_folders(outcomes: Sequence[PatchOutcome]) -> Counter[tuple[str, str]]:
    """Return how many patches found their files in another folder, by both folders."""
    found: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes:
        if outcome.status.applies:
            found.update({(_folder(f.path), _folder(f.target)) for f in outcome.files if f.target})
    return found


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _rest(count: int, what: str) -> Iterator[Text]:
    if count:
        yield Text(f"{count} more {what}: --all shows them, and table.txt has them", style="dim")


def _all_rows(ported: Ported) -> Table:
    table = plain_table("")
    table.add_column("", justify="right")
    table.add_column("status", no_wrap=True)
    table.add_column("patch", overflow="fold", ratio=3)
    table.add_column("new patch, or what it waits for", overflow="fold", ratio=2)
    for outcome in ported.outcomes:
        file = ported.files.get(outcome.number)
        waits = f"waits for {ranges(outcome.roots)}" if outcome.roots else ""
        style = _STYLE.get(outcome.status, "")
        table.add_row(
            str(outcome.number),
            Text(outcome.status.value, style=style),
            Text(outcome.subject or "(no subject)"),
            Text(file.name if file else waits),
        )
    return table


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers as a person writes them: how many, then `3, 5-9`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [f"{a}-{b}" if a != b else str(a) for a, b in spans]
    more = f" and {len(words) - _RANGES} more" if len(words) > _RANGES else ""
    return ", ".join(words[:_RANGES]) + more
