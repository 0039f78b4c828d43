"""Flame graphs: stacks as boxes, as wide as their share of the samples.

Stand-alone SVG without scripts: a browser shows a box's name and share when
the pointer rests on it, a screen reader reads them. The same stacks give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linklab import paths
from linklab.build.templating import render
from linklab.profile.stacks import Stack, Stacks, frame_name, is_kernel

TEMPLATE = "flamegraph.svg"
WIDTH = 1200  # in SVG's user units, as everything here
ROW = 18
_MARGIN = 10
_LETTER = 7.3  # of the template's 12-unit monospace font; generous, so that nothing is cut
_PADDING = 4
_LEAST_WIDTH = 0.5  # nobody sees a narrower box
_LEAST_LETTERS = 3
_LINE = 18
_HEAD = 44  # the title and the room around it
_LEGEND = 30


@dataclass(frozen=True)
class Box:
    """A box of the graph. `kind` is "all", "process", "user" or "kernel"."""

    x: float
    y: float
    width: float
    kind: str
    label: str
    title: str


@dataclass
class _Node:
    samples: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def flame_graph(
    stacks: Stacks, title: str, notes: Sequence[str], templates: Path = paths.TEMPLATES
) -> str:
    """Return the graph as SVG, `notes` as lines below its title."""
    root = _tree(stacks)
    top = _HEAD + _LINE * len(notes)
    foot = top + ROW * _depth(root, _scale(root))
    return render(
        TEMPLATE,
        templates,
        title=title,
        notes=list(enumerate(notes)),
        boxes=list(_boxes(root, foot)),
        width=WIDTH,
        height=foot + _LEGEND,
        foot=foot,
        row=ROW,
        line=_LINE,
        margin=_MARGIN,
        padding=_PADDING,
    )


def _tree(stacks: Stacks) -> _Node:
    root = _Node()
    for stack in sorted(stacks):
        _grow(root, stack, stacks[stack])
    return root


def _grow(root: _Node, stack: Stack, samples: int) -> None:
    root.samples += samples
    node = root
    for frame in stack:
        node = node.children.setdefault(frame, _Node())
        node.samples += samples


def _scale(root: _Node) -> float:
    return (WIDTH - 2 * _MARGIN) / max(1, root.samples)


def _depth(node: _Node, scale: float) -> int:
    """Return how many rows the boxes take that are wide enough to be drawn."""
    if node.samples * scale < _LEAST_WIDTH:
        return 0
    return 1 + max((_depth(child, scale) for child in node.children.values()), default=0)


def _boxes(root: _Node, foot: float) -> Iterator[Box]:
    corner = (float(_MARGIN), foot - ROW)
    yield from _boxes_of(root, "all", "all", corner, _scale(root), root.samples)


def _boxes_of(
    node: _Node, frame: str, kind: str, corner: tuple[float, float], scale: float, among: int
) -> Iterator[Box]:
    """Yield a frame's box, its lower left corner's row given, and those that stand on it."""
    width = node.samples * scale
    if width < _LEAST_WIDTH:
        return
    x, y = corner
    name = frame_name(frame)
    share = 100 * node.samples / max(1, among)
    title = f"{name} ({kind}): {node.samples} samples, {share:.2f} %"
    yield Box(round(x, 2), y, round(width, 2), kind, _fitting(name, width), title)
    for child, below in node.children.items():
        yield from _boxes_of(below, child, _kind(child, kind), (x, y - ROW), scale, among)
        x += below.samples * scale


def _kind(frame: str, parent: str) -> str:
    if parent == "all":
        return "process"
    return "kernel" if is_kernel(frame) else "user"


def _fitting(name: str, width: float) -> str:
    """Return a name as far as it fits into a box, or nothing."""
    room = int((width - 2 * _PADDING) / _LETTER)
    if len(name) <= room:
        return name
    return f"{name[: room - 1]}…" if room >= _LEAST_LETTERS else ""
