"""Tables: as values, drawn on a terminal or in a page from the same place, and as rich has them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from linklab.errors import printable

TEXT_WIDTH = 110
_UNLIMITED = 100_000
_STYLES = {"ratio": "bold", "good": "green", "part": "yellow", "bad": "red", "quiet": "dim"}
_BRIEF = 16  # characters that stay on one line
_FEW = 6  # rows that have room beside each other
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

    def drawn(self) -> Text:
        """Return it as rich draws it."""
        style = next((_STYLES[tone] for tone in self.tone.split() if tone in _STYLES), "")
        # A comma or a bracket is part of the remark; words follow a colon.
        return Text(self.text, style).append(f" {self.remark}" if self.remark else "", "default")


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
    column where they have none; where that is one part, with rows and columns turned.
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
        whole, parts = self._table(self.caption), list(self._parts())
        if len(parts) < 2:
            turned = self._turned()
            return Fitting(whole, [turned._table(self.caption) if turned else whole])
        named = [
            (title_line(f"{self.head}{', ' * bool(self.head)}{name}: {self.what}"), part)
            for name, part in parts
        ]
        return Fitting(whole, [each for title, part in named for each in (title, part._table(""))])

    def _table(self, title: str) -> Table:
        table, before = plain_table(title), ""
        for number, column in enumerate(self.columns):
            over = f"{column.over}\n" if column.over and column.over != before else ""
            before = "" if number < self.leading else column.over
            # A long title over figures is broken where it has a space, and nowhere else.
            is_long = column.numeric and len(column.name) > _LONG
            table.add_column(
                Text(over + (column.name.replace(" ", "\n") if is_long else column.name)),
                justify="right" if column.numeric else "left",
                style=_STYLES.get(column.tone, ""),
                overflow="fold",
                ratio=column.width or None,
            )
        for row in self.rows:
            table.add_row(*(entry.drawn() for entry in row))
        return table

    def _turned(self) -> Grid | None:
        """Return it with its rows across, where they are few, and what they are is words."""
        few = 0 < len(self.rows) <= _FEW and len(self.rows) < len(self.columns) - self.leading
        if self.kind or self.spans or not few:
            return None
        if any(column.numeric for column in self.columns[: self.leading]):
            return None
        across = [[entry.text for entry in row[: self.leading]] for row in self.rows]
        columns = [Column("", numeric=False)]
        columns += [Column(words[-1], over=" ".join(words[:-1])) for words in across]
        rows = [
            [word(column.name), *(row[self.leading + number] for row in self.rows)]
            for number, column in enumerate(self.columns[self.leading :])
        ]
        return Grid(self.what, columns, rows, self.head)

    def _parts(self) -> Iterator[tuple[str, Grid]]:
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


@dataclass(frozen=True)
class Fitting:
    """A table, or where that is too wide the same in parts: figures must not be cut short."""

    whole: Table
    parts: Sequence[RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(_UNLIMITED)
        fits = Measurement.get(console, unlimited, self.whole).maximum <= options.max_width
        yield from [self.whole] if fits else self.parts


def word(text: str) -> Entry:
    """Return an entry of text; in a page a short one stays on its line."""
    return Entry(text, tone="brief" if len(text) <= _BRIEF else "")


def plain_table(
    title: str, columns: Iterable[str] = (), rows: Iterable[Iterable[RenderableType]] = ()
) -> Table:
    """Return a table; without a title for an empty one.

    A column whose name begins with `>` stands at the right, and it and one with
    `<` stay on their line; another is folded where the room is short.
    """
    table = Table(
        title=Text(title) if title else None,  # no str: a name may look like rich's markup
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in columns:
        if name.startswith((">", "<")):
            side = "right" if name[0] == ">" else "left"
            table.add_column(name[1:], justify=side, no_wrap=True)  # type: ignore[arg-type]
        else:
            table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def plain_text(shown: RenderableType, width: int = TEXT_WIDTH) -> str:
    """Return what a terminal would show as plain text, for a file."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(Printable(shown))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@dataclass(frozen=True)
class Printable:
    """The same, without what a terminal would act on and did not come from rich itself."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.shown, options):
            text = segment.text if segment.control else printable(segment.text)
            yield Segment(text, segment.style, segment.control)


def title_line(text: str) -> Text:
    """Return a title that stands over a table, however long it is."""
    return Text(text, style="italic", overflow="fold")
