"""Options: how a command declares them, and what a person typed, checked.

A command's options are a frozen dataclass. A field that has a help text is an
option, under the field's name or one of its own; a tuple may be given several
times, a bool is a flag. `linklab/commands/cli.py` makes a task of it,
`linklab/commands/run.py` stores them.

The parsers below raise `UsageError` with the name of the option, what was
given and what is valid, before anything is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from linklab.errors import UsageError

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")
Values = Iterable[str] | Callable[[], Iterable[str]]
_HELP, _NAME, _WORD, _GROUP, _VALUES = "help", "name", "word", "group", "values"

JSON = "print one JSON document on standard output, and nothing else there"
RUN = "a run: its folder, a part of its name that no other run has, or `last`"
RESULTS = "the folder below which runs are looked for by name"
LOG = "a file for the guest's console; default: kept only where the kernel fails in `invoke exec`"
OUTPUT = "a folder for the results; default results/<UTC time>-<what was done>"


def option(default: T, help: str, name: str = "", values: Values = ()) -> T:
    """Declare an option, as a field of a dataclass; its own `name` is as on the command line.

    `values` are what a shell completes. A subclass that declares the field again
    keeps what it says nothing of.
    """
    about = {_HELP: help, _NAME: name, _VALUES: values}
    return field(default=default, metadata={key: value for key, value in about.items() if value})


def word(help: str, values: Values = ()) -> str:
    """Declare a word that a command must be given, without `--`."""
    return field(default="", metadata={_HELP: help, _WORD: True, _VALUES: values})


def words(help: str, values: Values = ()) -> tuple[str, ...]:
    """Declare one word or several."""
    return field(default=(), metadata={_HELP: help, _WORD: True, _VALUES: values})


def past_runs() -> list[str]:
    """Return the words for past runs that a shell completes: those of the default folder."""
    return ["last", *sorted(path.name for path in Path("results").glob("*") if path.is_dir())]


def group(
    kind: type[T],
    help: Mapping[str, str] | None = None,
    *,
    without: Iterable[str] = (),
    only: Iterable[str] = (),
    **defaults: Any,
) -> T:
    """Declare options that several commands have, as a dataclass of their own.

    `without` and `only` select fields, `help` says something else of some, and
    `defaults` are those of this command.
    """
    left = (set(only) or {each.name for each in fields(kind)}) - set(without)  # type: ignore[arg-type]
    about = {_GROUP: kind, _HELP: help or {}, "left": left}
    return field(default_factory=lambda: kind(**defaults), metadata=about)


@dataclass(frozen=True)
class Option:
    """An option of a command. `name` is as an identifier: `boot_timeout`."""

    name: str
    default: str | bool | tuple[str, ...]
    help: str
    field: str
    group: str = ""  # the field of the command's dataclass that has it in its own
    is_word: bool = False
    values: Values = ()

    @property
    def takes_value(self) -> bool:
        """Whether something must follow the option."""
        return not self.is_word and not isinstance(self.default, bool)

    def completions(self) -> list[str]:
        """Return the values that a shell completes."""
        found: Any = self.values
        makes = callable(found) and not isinstance(found, type)  # an enum has its values
        return [str(each) for each in (found() if makes else found)]

    @property
    def flag(self) -> str:
        """The option as a person types it."""
        return f"--{self.name.replace('_', '-')}"


def options_of(kind: type[Any]) -> list[Option]:
    """Return the options that a dataclass declares, those of its groups in their place."""
    return list(_options(kind))


def _options(kind: type[Any]) -> Iterator[Option]:
    default: Any
    for each in fields(kind):
        about = _declared(kind, each)
        if _GROUP in about:
            make: Any = each.default_factory
            own = make()
            for one in options_of(about[_GROUP]):
                if one.field in about["left"]:
                    said = about[_HELP].get(one.field, one.help)
                    default = getattr(own, one.field)
                    yield replace(one, default=default, help=said, group=each.name)
        elif _HELP in about:
            name = (about.get(_NAME) or each.name).replace("-", "_")
            default = each.default
            values = about.get(_VALUES, ())
            yield Option(name, default, about[_HELP], each.name, "", _WORD in about, values)


def _declared(kind: type[Any], one: Field[Any]) -> Mapping[str, Any]:
    """Return what was declared of a field, in the class or in one that it comes from."""
    bases = (base.__dict__.get("__dataclass_fields__", {}) for base in reversed(kind.__mro__))
    known = (fields[one.name].metadata for fields in bases if one.name in fields)
    return {key: value for about in known for key, value in about.items()}


def made(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return an instance with the values that its options have by name, and else the defaults."""
    own: dict[str, dict[str, Any]] = {"": {}}
    for each in options_of(kind):
        if each.name in values:
            value = values[each.name]
            value = tuple(value) if isinstance(value, list) else value
            own.setdefault(each.group, {})[each.field] = value
    plain = own.pop("")
    start = kind(**plain)
    groups = {name: replace(getattr(start, name), **given) for name, given in own.items()}
    return replace(start, **groups)  # type: ignore[type-var]


def flat(options: Any) -> dict[str, Any]:
    """Return the value of each option by its name: what `made` takes."""
    return {
        each.name: getattr(getattr(options, each.group) if each.group else options, each.field)
        for each in options_of(type(options))
    }


@dataclass(frozen=True)
class ResultOptions:
    """Where results go, and who reads them, as typed."""

    output: str = option("", OUTPUT)
    as_json: bool = option(False, JSON, "json")


def absolute(path: str) -> str:
    """Return a path from the root, and nothing for none."""
    return str(Path(path).expanduser().absolute()) if path else ""


def split_list(option: str, text: str) -> list[str]:
    """Return the words of a comma-separated list, which must have at least one."""
    words = [word.strip() for word in text.split(",")]
    if not any(words):
        raise UsageError(f"--{option} is empty: a comma-separated list is expected")
    if not all(words):
        meant = ",".join(filter(None, words))
        raise UsageError(f"--{option} {text}: nothing stands at a comma; is {meant} meant?")
    repeated = sorted({word for word in words if words.count(word) > 1})
    if repeated:
        raise UsageError(f"--{option} names {', '.join(repeated)} twice")
    return words


def choose(option: str, word: str, valid: type[E]) -> E:
    """Return the member of an enum that a word names."""
    try:
        return valid(word)
    except ValueError:
        raise UsageError(f"--{option} {word}: unknown; valid are {_listed(valid)}") from None


def choose_list(option: str, text: str, valid: type[E]) -> tuple[E, ...]:
    """Return the members that a comma-separated list names; `all` names all."""
    if text.strip() == "all":
        return tuple(valid)
    return tuple(choose(option, word, valid) for word in split_list(option, text))


def number(option: str, text: str | int, least: int, most: int) -> int:
    """Return a whole number within limits."""
    try:
        value = int(str(text).replace("_", ""))
    except ValueError:
        raise UsageError(f"--{option} {text}: a whole number is expected") from None
    if not least <= value <= most:
        raise UsageError(f"--{option} {value}: a number from {least} to {most} is expected")
    return value


def numbers(option: str, text: str, least: int, most: int) -> tuple[int, ...]:
    """Return a comma-separated list of whole numbers within limits, in order, each once."""
    values = [number(option, word, least, most) for word in split_list(option, text)]
    return tuple(sorted(set(values)))


def amounts(option: str, text: str, least: float, most: float) -> tuple[int | float, ...]:
    """Return a comma-separated list of numbers within limits, in order, each once."""
    found: set[int | float] = set()
    for word in split_list(option, text):
        try:
            value = float(word.replace("_", ""))
        except ValueError:
            raise UsageError(f"--{option} {word}: a number is expected") from None
        if not least <= value <= most:
            raise UsageError(
                f"--{option} {word}: a number from {least:g} to {most:.10g} is expected"
            )
        found.add(int(value) if value.is_integer() else value)
    return tuple(sorted(found))


def check_file(what: str, path: Path) -> None:
    """Refuse what is there and is no file: a pipe would be waited for, and give its bytes once."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(
            f"{what} {path} is no file but a pipe or a device, and it is read more than once: "
            "write what comes from it into a file first"
        )


def seconds(option: str, text: str | float) -> float | None:
    """Return a time limit in seconds; 0 stands for the default."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"--{option} {text}: a number of seconds is expected") from None
    if not 0 <= value <= 1e6:
        raise UsageError(f"--{option} {text}: a number of seconds from 0 to 1000000 is expected")
    return value or None


def percent(option: str, text: str | float, most: int = 1000) -> float:
    """Return a share in per cent, above 0."""
    try:
        value = float(str(text).removesuffix("%"))
    except ValueError:
        raise UsageError(f"--{option} {text}: a number of per cent is expected") from None
    if not 0 < value <= most:
        raise UsageError(f"--{option} {text}: per cent above 0, {most} at most, are expected")
    return value


def _listed(valid: Iterable[StrEnum]) -> str:
    return ", ".join(member.value for member in valid)
