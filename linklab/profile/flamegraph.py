"""Flame graphs: stacks as boxes, as wide as their share of the samples.

Stand-alone SVG without scripts: a browser shows a box's name and share when
the pointer rests on it, a screen reader reads them. The same stacks give the
same bytes.

A differential graph has the boxes of the second of two profiles, coloured by
what each function costs more or less there than in the first (Brendan Gregg,
"Differential Flame Graphs", 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linklab import paths
from linklab.profile.difference import Change, Rate
from linklab.profile.stacks import Stack, Stacks, frame_name, is_kernel
from linklab.templating import render

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


_SPACES = (
    ("process", "process"),
    ("user", "user space, by program or library"),
    ("kernel", "kernel"),
)
_CHANGES = (
    ("more3", "costs more on B"),
    ("less3", "costs less on B"),
    ("same", "no difference beyond chance"),
)
_STEPS = (1 / 2, 1 / 8)  # of the largest difference of a box: above, it has a stronger colour


@dataclass(frozen=True)
class Box:
    """A box of the graph. `paint` is a class of the template."""

    x: float
    y: float
    width: float
    paint: str
    label: str
    title: str


@dataclass
class _Node:
    """A frame: samples with what it calls, and `own`, when it ran itself; `before` are A's."""

    samples: int = 0
    own: int = 0
    before: int = 0
    own_before: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


_Look = Callable[[_Node, str], tuple[str, str]]
"""Returns the paint of a node of a kind, and what its title says behind its name."""


def flame_graph(
    stacks: Stacks, title: str, notes: Sequence[str], templates: Path = paths.TEMPLATES
) -> str:
    """Return the graph as SVG, `notes` as lines below its title."""
    root = _tree(stacks, {})

    def look(node: _Node, kind: str) -> tuple[str, str]:
        share = 100 * node.samples / max(1, root.samples)
        return kind, f"{node.samples} samples, {share:.2f} %"

    return _drawn(root, look, _SPACES, title, notes, templates)


def difference_graph(
    a: Stacks,
    b: Stacks,
    rate: Rate,
    text: Callable[[Change], str],
    title: str,
    notes: Sequence[str],
    templates: Path = paths.TEMPLATES,
) -> str:
    """Return the graph of what B costs more than A as SVG; `text` says a change in words.

    Where a box has its colour from is the function itself: those that it
    calls have their own. What A alone does has no box.
    """
    root = _tree(b, a)
    most = max((abs(change.difference) for change in _own_changes(root, rate)), default=0.0)

    def look(node: _Node, _kind: str) -> tuple[str, str]:
        own = rate.change(node.own_before, node.own)
        whole = rate.change(node.before, node.samples)
        return _paint(own, most), f"{text(whole)}; itself {text(own)}"

    return _drawn(root, look, _CHANGES, title, notes, templates)


def _own_changes(node: _Node, rate: Rate) -> Iterator[Change]:
    """Yield what each function costs more by itself, of those that are different."""
    own = rate.change(node.own_before, node.own)
    if own.is_different:
        yield own
    for child in node.children.values():
        yield from _own_changes(child, rate)


def _paint(own: Change, most: float) -> str:
    if not own.is_different:
        return "same"
    strength = 3 - sum(abs(own.difference) < step * most for step in _STEPS)
    return f"{'more' if own.difference > 0 else 'less'}{strength}"


def _drawn(
    root: _Node,
    look: _Look,
    legend: Sequence[tuple[str, str]],
    title: str,
    notes: Sequence[str],
    templates: Path,
) -> str:
    top = _HEAD + _LINE * len(notes)
    foot = top + ROW * _depth(root, _scale(root))
    return render(
        TEMPLATE,
        templates,
        title=title,
        notes=list(enumerate(notes)),
        boxes=list(_boxes(root, foot, look)),
        legend=legend,
        width=WIDTH,
        height=foot + _LEGEND,
        foot=foot,
        row=ROW,
        line=_LINE,
        margin=_MARGIN,
        padding=_PADDING,
    )


def _tree(stacks: Stacks, before: Stacks) -> _Node:
    root = _Node()
    for stack in sorted(stacks):
        nodes = _grown(root, stack)
        for node in nodes:
            node.samples += stacks[stack]
        nodes[-1].own += stacks[stack]
    for stack in sorted(before):
        nodes = _grown(root, stack)
        for node in nodes:
            node.before += before[stack]
        nodes[-1].own_before += before[stack]
    return root


def _grown(root: _Node, stack: Stack) -> list[_Node]:
    """Return the nodes of a stack from the root, made where there are none."""
    nodes = [root]
    for frame in stack:
        nodes.append(nodes[-1].children.setdefault(frame, _Node()))
    return nodes


def _scale(root: _Node) -> float:
    return (WIDTH - 2 * _MARGIN) / max(1, root.samples)


def _depth(node: _Node, scale: float) -> int:
    """Return how many rows the boxes take that are wide enough to be drawn."""
    if node.samples * scale < _LEAST_WIDTH:
        return 0
    return 1 + max((_depth(child, scale) for child in node.children.values()), default=0)


def _boxes(root: _Node, foot: float, look: _Look) -> Iterator[Box]:
    corner = (float(_MARGIN), foot - ROW)
    yield from _boxes_of(root, "all", "all", corner, _scale(root), look)


def _boxes_of(
    node: _Node, frame: str, kind: str, corner: tuple[float, float], scale: float, look: _Look
) -> Iterator[Box]:
    """Yield a frame's box, its lower left corner's row given, and those that stand on it."""
    width = node.samples * scale
    if width < _LEAST_WIDTH:
        return
    x, y = corner
    name = frame_name(frame)
    paint, said = look(node, kind)
    title = f"{name} ({kind}): {said}"
    yield Box(round(x, 2), y, round(width, 2), paint, _fitting(name, width), title)
    for child, below in node.children.items():
        yield from _boxes_of(below, child, _kind(child, kind), (x, y - ROW), scale, look)
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
