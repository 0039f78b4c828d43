"""A table as a value, drawn on a terminal or in a page from the same place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report.layout import Fitting, plain_table, title_line

_STYLES = {"ratio": "bold", "good": "green", "part": "yellow", "bad": "red", "quiet": "dim"}
_BRIEF = 16  # characters that stay on one line
_LONG = 10  # characters of a title over figures that are broken


@dataclass(frozen=True)
class Entry:
    """What stands at one place: its text, the number that it is sorted by, and a remark.

    `tone` is a CSS class, and on a terminal a colour: `good`, `part`, `bad`,
    `quiet`, `ratio`, `invalid`. The remark has none.
    """

    text: str
    number: float | None = None
    remark: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Column:
    """A column's name. Numbers stand at the right. Neighbours with the same `over` share a title.

    `width` is its part of the line where text has to be broken.
    """

    name: str
    numeric: bool = True
    tone: str = ""
    over: str = ""
    width: int = 0


@dataclass(frozen=True)
class Span:
    """A title over some columns, as a page has it."""

    name: str
    columns: int


@dataclass(frozen=True)
class Grid:
    """A table. Its title is `what`, behind `head` where it is one of several.

    The first `leading` columns say what a row is. One that is too wide for a
    terminal is drawn in parts: by the titles over its columns, or by the first
    column where they have none.
    """

    what: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    head: str = ""
    leading: int = 1
    kind: str = ""
    titles: dict[str, str] = field(default_factory=dict)  # of parts, by what the first column says

    @property
    def caption(self) -> str:
        """Its title."""
        return f"{self.head}: {self.what}" if self.head else self.what

    @property
    def spans(self) -> list[Span]:
        """The titles over all columns but the leading ones; empty where there are none."""
        if not any(column.over for column in self.columns):
            return []
        rest = self.columns[self.leading :]
        return [Span(name, len(list(group))) for name, group in groupby(rest, lambda c: c.over)]

    def on_terminal(self) -> RenderableType:
        """Return it as rich draws it, in parts where it would be cut short."""
        return Fitting(self._table(self.caption), list(self._parts()))

    def _table(self, title: str) -> Table:
        table = plain_table(title)
        before = ""
        for number, column in enumerate(self.columns):
            over = f"{column.over}\n" if column.over and column.over != before else ""
            before = column.over
            # A long title over figures is broken where it has a space, and nowhere else.
            is_long = column.numeric and len(column.name) > _LONG
            name = column.name.replace(" ", "\n") if is_long else column.name
            table.add_column(
                Text(f"{over}{name}"),
                justify="right" if column.numeric else "left",
                style=_STYLES.get(column.tone, ""),
                overflow="fold",
                ratio=column.width or None,
            )
            if number < self.leading:
                before = ""
        for row in self.rows:
            table.add_row(*map(_drawn, row))
        return table

    def _parts(self) -> Iterator[RenderableType]:
        named = list(self._named_parts())
        if len(named) < 2:
            yield self._table(self.caption)
            return
        for name, part in named:
            yield title_line(f"{self.head}, {name}: {self.what}" if self.head else
                             f"{name}: {self.what}")  # fmt: skip
            yield part._table("")

    def _named_parts(self) -> Iterator[tuple[str, Grid]]:
        """Yield what it can be cut into, with a name for each."""
        if self.spans:
            first = self.leading
            for span in self.spans:
                places = [*range(self.leading), *range(first, first + span.columns)]
                columns = [replace(self.columns[place], over="") for place in places]
                rows: Sequence[Sequence[Entry]] = [[row[p] for p in places] for row in self.rows]
                yield span.name, replace(self, columns=columns, rows=rows)
                first += span.columns
        elif self.leading > 1:
            for name, group in groupby(self.rows, lambda row: row[0].text):
                rows = [row[1:] for row in group]
                part = replace(self, columns=self.columns[1:], rows=rows, leading=self.leading - 1)
                yield self.titles.get(name, name), part


def word(text: str, tone: str = "") -> Entry:
    """Return an entry of text; in a page a short one stays on its line."""
    return Entry(text, tone=f"{tone} brief".strip() if len(text) <= _BRIEF else tone)


def _drawn(entry: Entry) -> Text:
    text = Text(
        entry.text, style=next((_STYLES[t] for t in entry.tone.split() if t in _STYLES), "")
    )
    if entry.remark:
        # A comma or a bracket is part of the remark; words follow a colon.
        text.append(f" {entry.remark}", style="default")
    return text
