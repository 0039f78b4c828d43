"""Scenarios: what is measured. Each is a module of this package, or a file of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from linklab.errors import UsageError

if TYPE_CHECKING:  # all commands know the scenarios' names, and few load one
    from linklab.results.shape import Shape
    from linklab.scenarios.scenario import Scenario

DEFAULT = "grouping"
_NOT_ONE = frozenset({"scenario"})
_WORD = re.compile(r"[A-Za-z0-9._+-]+")


@cache
def names() -> tuple[str, ...]:
    """Return the names of the lab's own scenarios."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name not in _NOT_ONE))


def scenario_named(word: str) -> type[Scenario]:
    """Return a scenario by its name, or by the path of the file that it is in.

    Raises `UsageError` for one that there is not, and for a file that holds
    none, or one that contradicts itself.
    """
    if word in names():
        return _own(word)
    if word.endswith(".py") or "/" in word:
        return _loaded(str(Path(word).expanduser().absolute()))
    raise UsageError(
        f"--scenario {word}: unknown; valid are {', '.join(names())}, and the path of a file"
    )


def own_file(word: str) -> Path | None:
    """Return the file of a scenario of one's own, None of the lab's."""
    return None if word in names() else Path(word).expanduser().absolute()


@cache  # plans ask for their scenario again and again
def _own(name: str) -> type[Scenario]:
    return _one_in(importlib.import_module(f"{__name__}.{name}"), name)


@cache
def _loaded(path: str) -> type[Scenario]:
    spec = importlib.util.spec_from_file_location(f"linklab_scenario_{Path(path).stem}", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise UsageError(f"--scenario {path}: there is no such file in Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pickle and dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"--scenario {path}: {type(error).__name__}: {error}") from error
    scenario = _one_in(module, path)
    check(scenario, path)
    return scenario


def _one_in(module: ModuleType, word: str) -> type[Scenario]:
    from linklab.scenarios.scenario import Scenario

    found = [
        each
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Scenario) and each is not Scenario and hasattr(each, "shape")
    ]
    # One may build on another, which is then in the file, too.
    found = [each for each in found if each.__module__ == module.__name__] or found
    if len(found) != 1:
        raise UsageError(
            f"--scenario {word}: one class with `name`, `about` and `shape` is expected in it, "
            f"there are {len(found)}"
        )
    return found[0]


def check(scenario: type[Scenario], word: str) -> None:
    """Raise `UsageError` for a scenario that contradicts itself, naming what does."""
    for fault in _faults(scenario):
        raise UsageError(f"--scenario {word}: {fault}")


@cache
def _taken() -> frozenset[str]:
    """Return what lines of a run, and of what is made of it, have under names of their own."""
    from linklab.results.comparison import Comparison
    from linklab.results.model import BootRecord, Sample
    from linklab.results.shape import Course

    return frozenset(
        {
            *Sample.__dataclass_fields__,
            *BootRecord.__dataclass_fields__,
            *Comparison.__dataclass_fields__,
            *Course.__dataclass_fields__,
            *("value", "ratio", "difference", "effect", "against", "percent", "guest", "during"),
            *("verdict", "message", "evidence", "fault", "report", "reports", "class", "title"),
            *("function", "fingerprint", "file", "other", "a", "b"),
        }
    )


def axis_name(parameter: str, shape: Shape) -> str:
    """Return what the axis of a parameter is called that a sweep varies: commonly as it is."""
    metrics = (metric.name for metric in (*shape.metrics, *shape.counted))
    own = {*(axis.name for axis in shape.axes), *metrics}
    return f"{parameter}_given" if parameter in own | _taken() else parameter


def _taken_names(shape: Shape) -> Iterator[str]:
    from linklab.results.model import Sample

    axes = [axis.name for axis in shape.axes]
    own = [*axes, *(metric.name for metric in shape.metrics)]
    for name in own:
        taken = _taken() if name in axes else {*Sample.__dataclass_fields__, "value"}
        if name in taken or own.count(name) > 1 or not name.isidentifier():
            yield f"an axis or a metric cannot be called {name}: a line of a run has it already"
    for name in (metric.name for metric in shape.counted):
        if name in axes or name == "kernel":
            yield f"what is counted cannot be called {name}: its line has it already"


def _faults(scenario: type[Scenario]) -> Iterator[str]:
    from linklab.results.shape import Cell

    shape = scenario.shape
    axes = {axis.name: axis for axis in shape.axes}
    yield from _taken_names(shape)
    for axis in shape.axes:
        if not axis.values or not isinstance(axis.values, tuple):
            yield f"the axis {axis.name} has no values for a run that names none, in a tuple"
        if bad := [v for v in axis.words if not _WORD.fullmatch(v)]:
            yield f"the axis {axis.name} has {bad[0]!r}: letters, digits and -._+ are expected"
    for which in ("compared", "judged", "profiled"):
        for name, values in getattr(scenario, which).items():
            if name not in axes or not isinstance(values, tuple):
                yield f"{which} has {name}, which is no axis with a tuple of values"
    try:
        shape.in_words(Cell((name, axis.values[0]) for name, axis in axes.items()))
    except (AttributeError, LookupError, ValueError) as error:
        yield f"its text {shape.text!r} names what is no axis: {error}"
    paths = [(which, getattr(scenario, which)) for which in ("needs", "image")]
    paths += [("fragment", path) for path in scenario.fragments()]
    for which, path in (*paths, *(("modules", folder) for folder in scenario.modules)):
        is_one = isinstance(path, Path) and path.is_absolute() and path.exists()
        if path is not None and not is_one:
            yield f"{which} is {path}: the full path of a file is expected, beside its own"
