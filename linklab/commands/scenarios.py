"""`invoke scenarios`: what can be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from linklab.commands.outcome import print_document, print_shown
from linklab.options import JSON, option
from linklab.results.shape import Better
from linklab.scenarios import names, scenario_named
from linklab.scenarios.scenario import Scenario

_BETTER = {Better.LESS: "less is better", Better.MORE: "more is better", Better.NEITHER: ""}


@dataclass(frozen=True)
class ScenariosOptions:
    """The options of `invoke scenarios`, as typed."""

    scenario: str = option("", "only this one: a name, or the path of a file", values=names)
    as_json: bool = option(False, JSON, "json")


def main(options: ScenariosOptions) -> None:
    """Print each scenario with its axes, metrics and parameters."""
    words = [options.scenario] if options.scenario else names()
    found = [scenario_named(each) for each in words]
    if options.as_json:
        print_document([_as_json(kind) for kind in found])
        return
    print_shown(Group(*(part for kind in found for part in _shown(kind))))


def _as_json(kind: type[Scenario]) -> dict[str, Any]:
    return {
        "name": kind.name,
        "about": kind.about,
        "shape": kind.shape.to_json(),
        "parameters": [
            {"name": each.name, "default": each.default, "help": each.help}
            for each in kind.parameters
        ],
    }


def _shown(kind: type[Scenario]) -> Iterator[Any]:
    yield Text(f"{kind.name}: {kind.about}\n", style="bold")
    for title, rows in (
        ("axes", _axes(kind)),
        ("metrics, the first is compared", _metrics(kind)),
        ("parameters", _parameters(kind)),
    ):
        if found := list(rows):
            yield Text(f"  {title}", style="italic")
            for name, text in found:
                yield Text(f"    {name}") if name else Text(end="")
                yield Padding(Text(text), (0, 0, 0, 8))
            yield Text()


def _axes(kind: type[Scenario]) -> Iterator[tuple[str, str]]:
    for axis in kind.shape.axes:
        typed = f"--{axis.alias}" if axis.alias else f"--axis {axis.name}="
        valid = f"among {', '.join(axis.words)}"
        if axis.is_numeric:
            valid = f"from {axis.least:g} to {axis.most:.10g}"
        default = ",".join(map(str, axis.values))
        yield axis.name, f"{typed} {default} by default, {valid}".replace("= ", "=")
        if axis.help:
            yield "", axis.help


def _metrics(kind: type[Scenario]) -> Iterator[tuple[str, str]]:
    for metric in kind.shape.metrics:
        zero = "may be 0" if metric.zero else ""
        yield metric.name, ", ".join(filter(None, (metric.unit, _BETTER[metric.better], zero)))


def _parameters(kind: type[Scenario]) -> Iterator[tuple[str, str]]:
    for each in kind.parameters:
        yield each.name, f"--param {each.name}={each.default} by default: {each.help}"
