"""How tables on the terminal look."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from linklab.errors import printable

TEXT_WIDTH = 110
_UNLIMITED = 100_000


def plain_table(title: str) -> Table:
    """Return an empty table; without a title for an empty one."""
    return Table(
        title=Text(title) if title else None,  # no str: a name may look like rich's markup
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def plain_text(shown: RenderableType, width: int = TEXT_WIDTH) -> str:
    """Return what a terminal would show as plain text, for a file."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(Printable(shown))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def title_line(text: str) -> Text:
    """Return a title that stands over a table, however long it is."""
    return Text(text, style="italic", overflow="fold")


@dataclass(frozen=True)
class Printable:
    """The same, without what a terminal would act on and did not come from rich itself."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.shown, options):
            text = segment.text if segment.control else printable(segment.text)
            yield Segment(text, segment.style, segment.control)


@dataclass(frozen=True)
class Fitting:
    """A table, or where that is too wide the same in parts: figures must not be cut short."""

    whole: Table
    parts: Sequence[RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(_UNLIMITED)
        if Measurement.get(console, unlimited, self.whole).maximum <= options.max_width:
            yield self.whole
        else:
            yield from self.parts
