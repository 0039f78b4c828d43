"""How tables on the terminal look."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text


def plain_table(title: str) -> Table:
    """Return an empty table; without a title for an empty one."""
    return Table(
        title=Text(title) if title else None,  # no str: a name may look like rich's markup
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
