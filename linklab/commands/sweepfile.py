"""The file of a sweep: what it may say, read and checked before anything is started.

It is TOML (`docs/sweeping.md`): options of `invoke run` under their names, `[axes]` and
`[parameters]` with the values of each, and `[[check]]` for what must hold. What is wrong
in it is said with the file's name and the place in it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import float_info
from typing import Any

from linklab.commands.run import RunOptions
from linklab.errors import UsageError
from linklab.options import Option, made, options_of
from linklab.results.shape import Value
from linklab.results.sweep import KERNEL
from linklab.scenarios.scenario import Parameter, Scenario

_OF_A_PERSON = frozenset({"output", "resume", "json", "keep", "record", "timings"})
_OF_THE_FILE = frozenset({"axis", "cell", "param", "counts", "operations", "arms"})
_PATHS = frozenset({"scenario", "kernel", "source", "patch", "config", "module", "noise"})
_OWN = ("rows", "metrics", "axes", "parameters", "check")
_CHECK_KEYS = ("metric", "at-least", "at-most", "where", "against")
MOST = float_info.max
_OPTION = re.compile(r"--([a-z-]+)(.*)", re.DOTALL)
_PLACES = {"axis": "[axes]", "param": "[parameters]"}  # of what is said of these options


@dataclass(frozen=True)
class Asked:
    """What a file asks for, checked as far as it can be without knowing the plan.

    `values` are the options of `invoke run` by name, `varied` the values of parameters
    that have several. `content` is the file's, as JSON takes it.
    """

    file: Path
    content: Mapping[str, Any]
    values: Mapping[str, Any]
    varied: Mapping[str, tuple[Value, ...]]
    rows: str
    metrics: tuple[str, ...]
    checks: tuple[Mapping[str, Any], ...]

    @property
    def options(self) -> RunOptions:
        """The options of the run that a sweep is."""
        return made(RunOptions, self.values)


def read(path: Path, over: Mapping[str, Any]) -> Asked:
    """Return what a file asks for, with `over` before its options.

    Raises `UsageError` that names the file, and the place in it.
    """
    return _Reader(path, _content(path)).asked(over)


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: {error}") from error
    except (ValueError, RecursionError) as error:  # of a number, or tables, without an end, too
        raise UsageError(f"{path} is no TOML: {error}") from error


@contextmanager
def said_of(path: Path, content: Mapping[str, Any], where: str = "") -> Iterator[None]:
    """Let what is wrong with an option be said of the file, where that has it.

    `where` is what in it is wrong if no option is named.
    """
    try:
        yield
    except UsageError as error:
        found = _OPTION.match(error.message)
        if found and (found[1] in content or found[1] in _PLACES):
            error.message = f"{path}: {_PLACES.get(found[1], found[1])}{found[2]}"
        elif where and not found:
            error.message = f"{path}: {where} {error.message}"
        raise


class _Reader:
    """Reads a file's content, whose every key and type it checks."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path = path
        self._content = content

    def asked(self, over: Mapping[str, Any]) -> Asked:
        """Return what it asks for, with `over` before its options. Raises `UsageError`."""
        known = {
            each.name.replace("_", "-"): each
            for each in options_of(RunOptions)
            if each.name not in _OF_A_PERSON | _OF_THE_FILE and each.group != "exports"
        }
        self._check_keys(self._content, (*known, *_OWN), "")
        if "scenario" not in self._content:
            raise self._wrong("scenario", 'is not there: scenario = "routes", or a file\'s path')
        values = {
            known[key].name: self._option(key, value, known[key])
            for key, value in self._content.items()
            if key in known
        }
        values.update(over)
        with said_of(self._path, self._content):
            kind = made(RunOptions, values).kind
        axes = [f"{name}={_listed(each)}" for name, each in self._axes(kind).items()]
        parameters = self._parameters(kind)
        values["axis"] = tuple(axes)
        values["param"] = tuple(f"{name}={each[0]}" for name, each in parameters.items())
        if len(parameters.get("preset", ())) > 1:
            raise self._wrong("parameters: preset", "has several values: one preset a sweep")
        varied = {name: each for name, each in parameters.items() if len(each) > 1}
        return Asked(
            self._path, self._content, values, varied, self._rows(kind, parameters),
            self._metrics(kind), tuple(self._checks(kind, parameters)),
        )  # fmt: skip

    def _wrong(self, where: str, said: str) -> UsageError:
        return UsageError(f"{self._path}: {where} {said}")

    def _check_keys(self, table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        names = list(known)
        for key in table:
            if key not in names:
                raise self._wrong(where or "there is", _unknown(key, names, bool(where)))

    def _option(self, key: str, value: Any, known: Option) -> Any:
        """Return an option's value as a command line would have it."""
        if isinstance(known.default, bool):
            if not isinstance(value, bool):
                raise self._wrong(key, f"is {_shown(value)}: true or false is expected")
            return value
        is_list = isinstance(known.default, tuple)
        takes_list = is_list or key == "kernel" or "comma-separated" in known.help
        words = value if isinstance(value, list) and takes_list else [value]
        for each in words:
            if isinstance(each, str) and ("\0" in each or max(map(len, each.split("/"))) > 255):
                said = "names have up to 255 letters, and none of them is a byte of 0"
                raise self._wrong(key, f"is {_shown(each)[:80]}: {said}")
            if isinstance(each, bool) or not isinstance(each, (str, int, float)):
                lists = ", or a list of them" * takes_list
                raise self._wrong(key, f"is {_shown(each)}: a word or a number is expected{lists}")
        if not words:
            raise self._wrong(key, "has no values: leave it out, or name one")
        texts = [str(each) for each in words]
        if known.name in _PATHS:
            texts = [self._beside(text) for text in texts]
        return tuple(texts) if is_list else ",".join(texts)

    def _beside(self, text: str) -> str:
        """Return a word with the paths in it that lie beside the file from where we are."""
        beside = self._path.parent
        return (
            text
            if _is_there(Path(text))
            else "".join(
                str(beside / part)
                if part and not _is_there(Path(part)) and _is_there(beside / part)
                else part
                for part in re.split("([+@])", text)  # of nosysfs@SOURCE+PATCH
            )
        )

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self._content.get(name, {})
        if not isinstance(table, dict):
            raise self._wrong(name, f"is {_shown(table)}: [{name}] with NAME = [VALUE] is expected")
        return table

    def _listed(self, where: str, value: Any) -> list[Value]:
        """Return the values of an axis or a parameter, as a list even where there is one."""
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self._wrong(where, "has no values: name at least one, or leave it out")
        for each in values:
            if isinstance(each, bool) or not isinstance(each, (str, int, float)):
                raise self._wrong(where, f"has {_shown(each)}: a word or a number is expected")
        if twice := [each for each in values if values.count(each) > 1]:
            raise self._wrong(where, f"has {twice[0]} twice")
        return values

    def _axes(self, kind: type[Scenario]) -> dict[str, list[Value]]:
        table, axes = self._table("axes"), {axis.name: axis for axis in kind.shape.axes}
        found = {}
        for name, value in table.items():
            if name not in axes:
                raise self._wrong("[axes]", _unknown(name, axes, of=kind.name, what="axis"))
            found[name] = self._listed(f"[axes] {name}", value)
            for each in found[name]:
                if isinstance(each, str) is axes[name].is_numeric:
                    wanted = "a number" if axes[name].is_numeric else "a word"
                    raise self._wrong(f"[axes] {name}", f"has {_shown(each)}: {wanted} is expected")
                if isinstance(each, str) and "," in each:
                    listed = ", ".join(repr(word) for word in each.split(","))
                    said = f"has {_shown(each)}: one word is expected, several are [{listed}]"
                    raise self._wrong(f"[axes] {name}", said)
        return found

    def _parameters(self, kind: type[Scenario]) -> dict[str, tuple[Value, ...]]:
        known = {each.name: each for each in kind.parameters}
        found = {}
        for name, value in self._table("parameters").items():
            if name not in known:
                said = _unknown(name, known, of=kind.name, what="parameter")
                raise self._wrong("[parameters]", said)
            values = [
                self._parsed(known[name], v) for v in self._listed(f"[parameters] {name}", value)
            ]
            if twice := [each for each in values if values.count(each) > 1]:
                raise self._wrong(f"[parameters] {name}", f"has {twice[0]} twice")
            found[name] = tuple(values)
        return found

    def _parsed(self, parameter: Parameter, value: Value) -> Value:
        with said_of(self._path, self._content, "[parameters]"):
            return parameter.parse(str(value))

    def _rows(self, kind: type[Scenario], parameters: Mapping[str, Any]) -> str:
        names = [*(axis.name for axis in kind.shape.axes), *parameters]
        rows = self._content.get("rows")
        if rows is not None and rows not in names:
            said = f"is {_shown(rows)}: what stands down a table is expected, one of "
            raise self._wrong("rows", said + ", ".join(names))
        return str(rows or "")

    def _metrics(self, kind: type[Scenario]) -> tuple[str, ...]:
        found = self._content.get("metrics", [kind.shape.metric.name])
        names = self._listed("metrics", found)
        return tuple(self._metric("metrics", kind, name) for name in names)

    def _metric(self, where: str, kind: type[Scenario], name: Any) -> str:
        known = [metric.name for metric in kind.shape.metrics]
        if name not in known:
            raise self._wrong(where, _unknown(str(name), known, of=kind.name, what="metric"))
        return str(name)

    def _checks(
        self, kind: type[Scenario], parameters: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the checks as they stand, their keys and types found right."""
        every = self._content.get("check", [])
        if not isinstance(every, list) or not all(isinstance(each, dict) for each in every):
            raise self._wrong("check", "is no table: each check begins with [[check]]")
        names = [*(axis.name for axis in kind.shape.axes), *parameters, KERNEL]
        for number, check in enumerate(every, 1):
            where = f"check {number}"
            self._check_keys(check, _CHECK_KEYS, where)
            self._metric(where, kind, check.get("metric", kind.shape.metric.name))
            limits = {key: check[key] for key in ("at-least", "at-most") if key in check}
            for key, limit in limits.items():
                is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
                if not (is_number and abs(limit) <= MOST):
                    raise self._wrong(f"{where}: {key}", f"is {_shown(limit)}, and no number")
            if not limits:
                raise self._wrong(where, "has no limit: at-least = NUMBER or at-most = NUMBER")
            if len(limits) == 2 and limits["at-least"] > limits["at-most"]:
                raise self._wrong(where, "can never hold: at-least is more than at-most")
            for key in ("where", "against"):
                table = check.get(key, {})
                if not isinstance(table, dict):
                    said = f"is {_shown(table)}: {{AXIS = VALUE}} is expected"
                    raise self._wrong(f"{where}: {key}", said)
                for name, value in table.items():
                    if name not in names:
                        said = _unknown(name, names, of=kind.name, what="axis or parameter")
                        raise self._wrong(f"{where}: {key}", said)
                    self._listed(f"{where}: {key} {name}", value)
            yield check


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than any
        return False


def _listed(values: Iterable[Value]) -> str:
    return ",".join(map(str, values))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (str, list, dict)) else str(value).lower()


def _unknown(
    name: str, known: Iterable[str], is_within: bool = True, *, of: str = "", what: str = "key"
) -> str:
    """Return that there is no such name, the nearest one, and all there are."""
    from difflib import get_close_matches  # only for who mistypes

    names = list(known)
    near = get_close_matches(name, names, 1)
    meant = f"is {near[0]} meant? " if near else ""
    begin = f"names {what} {name!r}, which {of} does not have" if of else f"no key {name!r}"
    begin = f"has {begin}" if is_within and not of else begin
    return f"{begin}: {meant}valid are {', '.join(names) or 'none'}"
