"""Tables as values, for a template to render and a browser to sort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from linklab.report.figures import ratio_text, seconds_text

_BRIEF = 16  # characters


@dataclass(frozen=True)
class Value:
    """A table's cell: its text, the number that it is sorted by, and a remark under it.

    `kind` is a CSS class.
    """

    text: str
    number: float | None = None
    remark: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """A column's name; numbers stand at the right, the first column heads its row."""

    name: str
    numeric: bool = True
    kind: str = ""


@dataclass(frozen=True)
class Span:
    """A title over some columns."""

    name: str
    columns: int


@dataclass(frozen=True)
class PageTable:
    """A table. `spans`, where there are any, cover all columns but the first `leading`."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    spans: Sequence[Span] = field(default_factory=tuple)
    leading: int = 1
    kind: str = ""


def word(text: str, kind: str = "") -> Value:
    """Return a cell of text; a short one stays on its line."""
    return Value(text, kind=f"{kind} brief" if len(text) <= _BRIEF else kind)


def count(value: float | None) -> Value:
    """Return a whole number; half a process, as a median may be, is shown as such."""
    return Value("-") if value is None else Value(f"{value:.10g}", value)


def seconds(value: float | None, remark: str = "") -> Value:
    """Return seconds."""
    return Value(seconds_text(value), value, remark)


def ratio(value: float | None) -> Value:
    """Return a factor."""
    return Value(ratio_text(value).replace("x", "×"), value, kind="ratio")  # noqa: RUF001


def change(before: float | None, now: float | None, *, within_spread: bool = False) -> Value:
    """Return what became of a time in per cent; less loud where trials do not tell them apart."""
    if not before or now is None:
        return Value("-", kind="quiet")
    kind = "quiet" if within_spread else "ratio"
    remark = "within the spread" if within_spread else ""
    return Value(f"{100 * (now / before - 1):+.1f} %", now / before, remark, kind)
