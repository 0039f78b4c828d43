"""Scenarios: what is measured. Each is a module of this package, or a file of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from linklab.errors import UsageError
from linklab.results.model import Sample
from linklab.scenarios.scenario import Scenario

DEFAULT = "grouping"
_NOT_ONE = frozenset({"scenario"})
_TAKEN = frozenset(Sample.__dataclass_fields__) | {"value"}


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
    return _one_in(module, path)


def _one_in(module: ModuleType, word: str) -> type[Scenario]:
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
    (scenario,) = found
    _check(scenario, word)
    return scenario


def _check(scenario: type[Scenario], word: str) -> None:
    shape = scenario.shape
    own = [axis.name for axis in shape.axes] + [metric.name for metric in shape.metrics]
    if clash := sorted({name for name in own if name in _TAKEN or own.count(name) > 1}):
        raise UsageError(
            f"--scenario {word}: its axes and metrics are called {', '.join(clash)}, "
            "which is the name of something else in a sample"
        )
