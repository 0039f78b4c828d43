"""Who may import whom: the table in docs/architecture.md, held against every import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from linklab.paths import ROOT

PACKAGE = "linklab"
GROUND = "ground"  # modules of the package itself
TABLE = (ROOT / "docs" / "architecture.md").read_text()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in (ROOT / PACKAGE).rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports, anywhere in it: lazily and for types, too."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = (f"{node.module}.{alias.name}" for alias in node.names)
            named |= {part if part in MODULES else node.module for part in parts}
    return {name for name in named if name in MODULES and MODULES[name] != path}


USES = {name: imports(path) for name, path in MODULES.items()}


def folder(name: str) -> str:
    parts = name.split(".")
    is_folder = MODULES[name].name == "__init__.py"
    return parts[1] if len(parts) > 2 or (is_folder and len(parts) == 2) else GROUND


def folders() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, used in USES.items():
        found.setdefault(folder(name), set()).update(map(folder, used))
    return {name: used - {name} for name, used in found.items()}


def allowed() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `linklab/(\w+)/` \|.*\| ([^|]*) \|$", TABLE, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", may)) for name, may in rows}


def below(name: str, uses: Mapping[str, Iterable[str]]) -> set[str]:
    """Everything that is used, directly or not."""
    found: set[str] = set()
    left = [name]
    while left:
        for used in uses[left.pop()]:
            if used not in found:
                found.add(used)
                left.append(used)
    return found


def test_every_folder_has_its_row() -> None:
    assert set(allowed()) == set(folders()) - {GROUND}


@pytest.mark.parametrize("name", sorted(set(folders()) - {GROUND, "commands"}))
def test_a_folder_uses_what_its_row_names(name: str) -> None:
    may = allowed()
    reachable = may[name] | {low for used in may[name] for low in below(used, may)}
    assert folders()[name] <= reachable | {GROUND}


def test_the_ground_stands_on_nothing() -> None:
    assert folders()[GROUND] == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_there_is_no_circle_of_files(name: str) -> None:
    assert name not in below(name, USES)


@pytest.mark.parametrize("name", sorted(folders()))
def test_there_is_no_circle_of_folders(name: str) -> None:
    assert name not in below(name, folders())


def test_nothing_outside_of_a_scenario_names_one() -> None:
    """Results, reports and commands know shapes, not what any experiment is about."""
    inside = {name for name in MODULES if name.startswith("linklab.scenarios.")}
    outside = {name: used for name, used in USES.items() if name not in inside}
    known = {"linklab.scenarios.scenario"}
    assert not {
        name: used & (inside - known) for name, used in outside.items() if used & (inside - known)
    }
