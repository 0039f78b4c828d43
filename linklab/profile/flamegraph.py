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

from linklab.profile.stacks import Stacks, frame_name, space_of
from linklab.profile.store import Change, Rate
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
_HEAD = 44  # the title with its margins
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
    """A frame: its samples with those of its calls, and its own; `before` are A's."""

    samples: int = 0
    own: int = 0
    before: int = 0
    own_before: int = 0
    children: dict[str, _Node] = field(default_factory=dict)

    def all(self) -> Iterator[_Node]:
        """Yield it and all nodes below it."""
        yield self
        for child in self.children.values():
            yield from child.all()


_Look = Callable[[_Node, str], tuple[str, str]]
"""Returns the paint of a node of a kind, and the rest of its title behind the name."""


def flame_graph(stacks: Stacks, title: str, notes: Sequence[str]) -> str:
    """Return the graph as SVG, `notes` as lines below its title."""
    root = _tree(stacks, {})

    def look(node: _Node, kind: str) -> tuple[str, str]:
        share = 100 * node.samples / max(1, root.samples)
        return kind, f"{node.samples} samples, {share:.2f} %"

    return _drawn(root, look, _SPACES, title, notes)


def difference_graph(
    a: Stacks,
    b: Stacks,
    rate: Rate,
    text: Callable[[Change], str],
    title: str,
    notes: Sequence[str],
) -> str:
    """Return the graph of what B costs more than A as SVG; `text` says a change in words.

    A box is coloured by the function's own cost, without its calls. Calls that
    only A makes have no box.
    """
    root = _tree(b, a)
    own_changes = (rate.change(node.own_before, node.own) for node in root.all())
    most = max((abs(own.difference) for own in own_changes if own.is_different), default=0.0)

    def look(node: _Node, _kind: str) -> tuple[str, str]:
        own = rate.change(node.own_before, node.own)
        whole = rate.change(node.before, node.samples)
        return _paint(own, most), f"{text(whole)}; itself {text(own)}"

    return _drawn(root, look, _CHANGES, title, notes)


def _paint(own: Change, most: float) -> str:
    if not own.is_different:
        return "same"
    strength = 3 - sum(abs(own.difference) < step * most for step in _STEPS)
    return f"{'more' if own.difference > 0 else 'less'}{strength}"


def _drawn(
    root: _Node, look: _Look, legend: Sequence[tuple[str, str]], title: str, notes: Sequence[str]
) -> str:
    scale = (WIDTH - 2 * _MARGIN) / max(1, root.samples)
    foot = _HEAD + _LINE * len(notes) + ROW * _depth(root, scale)
    boxes = _boxes(root, "all", "all", (float(_MARGIN), foot - ROW), scale, look)
    return render(
        TEMPLATE,
        title=title,
        notes=list(enumerate(notes)),
        boxes=list(boxes),
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
    for stack in (*sorted(stacks), *sorted(before.keys() - stacks.keys())):
        samples, earlier = stacks.get(stack, 0), before.get(stack, 0)
        nodes = [root]
        for frame in stack:
            nodes.append(nodes[-1].children.setdefault(frame, _Node()))
        for node in nodes:
            node.samples += samples
            node.before += earlier
        nodes[-1].own += samples
        nodes[-1].own_before += earlier
    return root


def _depth(node: _Node, scale: float) -> int:
    """Return how many rows the boxes need that are wide enough to be drawn."""
    if node.samples * scale < _LEAST_WIDTH:
        return 0
    return 1 + max((_depth(child, scale) for child in node.children.values()), default=0)


def _boxes(
    node: _Node, frame: str, kind: str, corner: tuple[float, float], scale: float, look: _Look
) -> Iterator[Box]:
    """Yield a frame's box, whose lower left corner is given, and those that stand on it."""
    width = node.samples * scale
    if width < _LEAST_WIDTH:
        return
    x, y = corner
    name = frame_name(frame)
    paint, text = look(node, kind)
    title = f"{name} ({kind}): {text}"
    yield Box(round(x, 2), y, round(width, 2), paint, _fitting(name, width), title)
    for child, below in node.children.items():
        child_kind = "process" if kind == "all" else space_of(child)
        yield from _boxes(below, child, child_kind, (x, y - ROW), scale, look)
        x += below.samples * scale


def _fitting(name: str, width: float) -> str:
    """Return a name, shortened where it does not fit into a box, or nothing."""
    most = int((width - 2 * _PADDING) / _LETTER)
    if len(name) <= most:
        return name
    return f"{name[: most - 1]}…" if most >= _LEAST_LETTERS else ""
