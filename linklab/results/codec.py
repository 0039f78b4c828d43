"""Stored JSON: documents, and frozen dataclasses by the types of their fields.

What is not known is ignored. A field with a default came later than the first
results, and may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from linklab.errors import UsageError

T = TypeVar("T")


class SchemaError(ValueError):
    """A stored result that this version cannot read."""


def to_json(value: Any, *, sparse: bool = False) -> Any:
    """Return a value as JSON takes it, `sparse` without what is left at its default."""
    if is_dataclass(value):
        own = {f: getattr(value, f.name) for f in fields(value)}
        kept = {f.name: v for f, v in own.items() if not (sparse and v == f.default)}
        return to_json(kept, sparse=sparse)
    if isinstance(value, Mapping):
        return {name: to_json(each, sparse=sparse) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(each, sparse=sparse) for each in value]
    return value.value if isinstance(value, Enum) else value


def from_json(kind: type[T], data: object, what: str = "") -> T:
    """Return the dataclass in `data`; `what` is its name in a `SchemaError`."""
    return kind(**known(kind, data, what or f"the {kind.__name__}"))


def known(kind: type, data: object, what: str, without: Collection[str] = ()) -> dict[str, Any]:
    """Return what `data` has for a dataclass' fields. Raises `SchemaError` where one is missing."""
    if not isinstance(data, Mapping):
        raise SchemaError(f"{what} is not a JSON object")
    readers = {name: each for name, each in _readers(kind).items() if name not in without}
    if missing := [name for name, (_, needed) in readers.items() if needed and name not in data]:
        raise SchemaError(f"{what} lacks {', '.join(missing)}")
    return {
        name: read(data[name]) if read else data[name]
        for name, (read, _) in readers.items()
        if name in data
    }


@cache
def _readers(kind: type) -> Mapping[str, tuple[Callable[[Any], Any] | None, bool]]:
    """Return what reads each field, if JSON has it otherwise, and whether it is needed."""
    types = get_type_hints(kind)
    return {
        f.name: (_reader(types[f.name]), f.default is f.default_factory is MISSING)
        for f in fields(kind)
    }


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    among, origin = get_args(hint), get_origin(hint)
    if origin is UnionType:
        inner = next(filter(None, map(_reader, among)), None)
        return inner and (lambda value: None if value is None else inner(value))
    if origin is tuple:
        each = _reader(among[0])
        return lambda values: tuple(map(each, values) if each else values)
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda value: from_json(hint, value)
    return hint if isinstance(hint, type) and issubclass(hint, Enum) else None


def read_document(path: Path, owner: Path, schema: int = 1, absent: str = "") -> dict[str, Any]:
    """Return a stored JSON document; an error about its schema names the owner.

    Raises `UsageError` when it cannot be read, with the text `absent` where
    there is none, or has another schema.
    """
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        if absent and isinstance(error, FileNotFoundError):
            raise UsageError(absent) from None
        raise UsageError(f"{path} cannot be read: {error}") from error
    found = about.get("schema") if isinstance(about, dict) else None
    if found != schema:
        raise UsageError(f"{owner} was written by schema {found}, this version reads {schema}")
    return dict(about)
