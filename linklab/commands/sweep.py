"""`invoke sweep FILE`: a scenario over its axes, its parameters and kernels, all in one plan.

The file is TOML: options of `invoke run` under their names, `[axes]` and
`[parameters]` with the values of each, and `[[check]]` for what must hold
(`docs/sweeping.md`). What is typed counts before what the file says. A parameter with
several values becomes an axis of which another value needs another guest. So a sweep
is a run with more axes: it is planned, measured, stored and read as one.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.exports import ExportOptions
from linklab.commands.kernels import KernelOptions, KernelSide, kernel_sides, split_host
from linklab.commands.machines import MachineOptions
from linklab.commands.places import PlaceOptions
from linklab.commands.run import Running, RunOptions, RunRequest, document, hashes_of
from linklab.commands.workflow import Finished
from linklab.errors import (
    GuestHung,
    KernelCrashed,
    KernelFault,
    LinklabError,
    UsageError,
    Verdict,
)
from linklab.events import Note
from linklab.host.cache import hash_file
from linklab.machine.spec import Clock
from linklab.options import (
    Option,
    ResultOptions,
    flat,
    group,
    made,
    option,
    options_of,
    split_list,
    word,
)
from linklab.results.history import find
from linklab.results.model import Run
from linklab.results.rerun_command import FILES
from linklab.results.result_kinds import SWEEP
from linklab.results.shape import Axis, Cell, Shape, Value, values_on
from linklab.results.store import RUN_FILE, RunFolder, claim, held, read_about, read_run, utc_now
from linklab.results.sweep import KERNEL, Check, Place, checked, is_sweep
from linklab.scenarios import axis_name
from linklab.scenarios.scenario import Parameter, Scenario
from linklab.trials.plan import Plan
from linklab.trials.subjects import experiment

if TYPE_CHECKING:
    from rich.console import RenderableType

_OF_A_PERSON = frozenset({"output", "json", "keep", "record", "timings"})
_OF_THE_FILE = frozenset({"axis", "cell", "param", "counts", "operations", "arms"})
_PATHS = frozenset({"scenario", "kernel", "source", "patch", "config", "module", "noise"})
_TABLES = ("axes", "parameters", "check")
_OWN = ("rows", "metrics", *_TABLES)
_CHECK_KEYS = ("metric", "at-least", "at-most", "where", "against")
_MAY_GO_ON = (None, Verdict.INTERRUPTED.value, Verdict.ERROR.value)
_OPTION = re.compile(r"--([a-z-]+)(.*)", re.DOTALL)
_FAULTS: Mapping[str, type[KernelFault]] = {
    Verdict.CRASH.value: KernelCrashed,
    Verdict.HANG.value: GuestHung,
}


@dataclass(frozen=True)
class SweepOptions(ResultOptions):
    """The options of `invoke sweep`, as typed: those of `invoke run` count before the file's."""

    file: str = word(
        "a TOML file: a scenario, values of its axes and parameters, and what must hold",
        lambda: sorted(map(str, Path().glob("*.toml"))),
    )
    kernels: KernelOptions = group(KernelOptions)
    machine: MachineOptions = group(MachineOptions)
    place: PlaceOptions = group(PlaceOptions)
    trials: RunOptions = group(
        RunOptions,
        only=("repeat", "warmup", "fresh_guest", "seed", "jobs", "leaks", "timeout", "keep",
              "timings"),
    )  # fmt: skip
    resume: str = option(
        "",
        "go on with a sweep of the same file that was interrupted: its folder, a part of its "
        "name, or `last`; --output with its folder does the same",
    )
    exports: ExportOptions = group(ExportOptions)


def typed(options: SweepOptions, command: Sequence[str]) -> dict[str, Any]:
    """Return the options of `invoke run` that were typed, by name: they count before a file's."""
    known = {each.name: each for each in options_of(RunOptions)}
    usual = flat(SweepOptions())
    flags = {each.partition("=")[0] for each in command}
    return {
        name: value
        for name, value in flat(options).items()
        if name in known and (value != usual[name] or known[name].flag in flags)
    }


# What the file says


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
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from error


@contextmanager
def said_of(path: Path, content: Mapping[str, Any]) -> Iterator[None]:
    """Let what is wrong with an option be said of the file, where that has it."""
    try:
        yield
    except UsageError as error:
        if found := _OPTION.match(error.message):
            name, rest = found.groups()
            place = {"axis": "[axes]", "param": "[parameters]"}.get(name, name)
            if place != name or name in content:
                error.message = f"{path}: {place}{rest}"
        raise


class _Reader:
    """Reads a file's content, whose every key and type it checks."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path = path
        self._content = content

    def asked(self, over: Mapping[str, Any]) -> Asked:
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
        parts = text.split("+")
        found = [self._path.parent / part for part in parts]
        return "+".join(
            str(path) if part and not Path(part).exists() and path.exists() else part
            for part, path in zip(parts, found, strict=True)
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
        try:
            with said_of(self._path, self._content):
                return parameter.parse(str(value))
        except UsageError as error:
            if not error.message.startswith(str(self._path)):  # a reader's, which knows no option
                error.message = f"{self._path}: [parameters] {error.message}"
            raise

    def _rows(self, kind: type[Scenario], parameters: Mapping[str, Any]) -> str:
        names = [*(axis.name for axis in kind.shape.axes), *parameters]
        rows = self._content.get("rows", "")
        if rows and rows not in names:
            said = f"is {_shown(rows)}: what stands down a table is expected, one of "
            raise self._wrong("rows", said + ", ".join(names))
        return str(rows)

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
                if isinstance(limit, bool) or not isinstance(limit, (int, float)):
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


# The plan


def shape_of(kind: type[Scenario], varied: Mapping[str, tuple[Value, ...]], asked: Asked,
             values: Mapping[str, Sequence[Value]]) -> Shape:  # fmt: skip
    """Return the scenario's shape with the parameters that are varied as axes, before its own.

    Down a table, and along a plot, stands what the file says, else what the scenario does
    if it has several `values`, else the first number that has.
    """
    own = kind.shape
    axes = [_axis(kind, name, each) for name, each in varied.items()]
    every = (*axes, *own.axes)
    names = {axis.parameter or axis.name: axis.name for axis in every}
    several = [a.name for a in every if a.is_numeric and len(values.get(a.name, a.values)) > 1]
    usual = own.rows if len(values[own.rows]) > 1 or not several else several[0]
    rows = names.get(asked.rows, usual)
    columns = own.rows if rows == own.columns else own.columns
    words = "".join(
        f", {axis.parameter} {{{axis.name}{':.10g' if axis.is_numeric else ''}}}" for axis in axes
    )
    return replace(
        own,
        axes=every,
        rows=rows,
        columns=columns,
        text=own.text and own.text + words,
        versus=own.versus if columns == own.columns else None,
    )


def _axis(kind: type[Scenario], parameter: str, values: tuple[Value, ...]) -> Axis:
    known = next(each for each in kind.parameters if each.name == parameter)
    words = tuple(value for value in values if isinstance(value, str))
    return Axis(
        axis_name(parameter, kind.shape), values, parameter, words, known.least, known.most,
        per_guest=True, log=False, help=known.help, parameter=parameter,
    )  # fmt: skip


class Sweeping(Running):
    """`invoke sweep` at its work."""

    kind = SWEEP

    def __init__(self, asked: Asked, resume: str, *words: Any) -> None:
        super().__init__(asked.options, *words)
        self._asked = asked
        self._resume = resume
        self._checks: tuple[Check, ...] = ()

    def check(self) -> RunRequest:
        """Check every option, and every check against the cells that there will be."""
        if len(self._asked.varied.get("topology", ())) > 1 and self.place.is_guests:
            raise UsageError("--place guests: one topology at a time: name one, or --place spaces")
        for side in self.sides():
            try:
                self.place.kernels(side.options, self.network).check()
            except UsageError as error:
                said = "kernel" in self._asked.content
                error.message = (
                    f"{self._asked.file}: kernel: {error.message}" if said else error.message
                )
                raise
        with self._said():
            self.options.machine.check(no_iso="a sweep boots many guests: use direct or resume")
            return super().check()

    def _said(self) -> AbstractContextManager[None]:
        return said_of(self._asked.file, self._asked.content)

    def sides(self) -> Sequence[KernelSide]:
        """Return the kernels; those with patches of their own under another name."""
        kernels = self.options.kernels.with_scenario(self.options.kind)
        return [KernelSide("", kernels)] if self.place.is_guests else kernel_sides(kernels)

    @property
    def _kernel_names(self) -> list[str]:
        labels = [side.label for side in self.sides() if side.label]
        names = split_list("kernel", self.options.kernels.names)
        if self.place.is_guests and any(split_host(name)[0] for name in names):
            return [" ".join(sorted(names, key=lambda name: bool(split_host(name)[0])))]
        return labels or names

    @cached_property
    def _begun_before(self) -> Run | None:
        """The sweep to go on with, if there is one. Raises `UsageError` where it cannot be."""
        output = self.options.output
        if self._resume and output:
            raise UsageError("--resume and --output both name a folder: give one of them")
        if self._resume:
            folder = find(self._resume)
        elif output and (Path(output) / RUN_FILE).is_file():
            folder = Path(output)
        else:
            return None
        about = read_about(folder)
        if not is_sweep(about):
            raise UsageError(f"{folder} holds no sweep: name another folder")
        if about.get("verdict") not in _MAY_GO_ON:
            raise UsageError(
                f"the sweep in {folder} has come to its end ({about['verdict']}): a new one takes "
                "another folder, and `invoke show` prints this one"
            )
        if about[SWEEP]["content"] != self._asked.content:
            raise UsageError(
                f"{folder} was begun with another content of {self._asked.file.name}: a new sweep "
                "takes another folder; --resume takes the file as it was"
            )
        self.options = replace(self.options, output=str(folder))
        return read_run(folder)

    def planned(self, clock: Clock) -> Plan:
        """Return the plan: of each set of parameters every cell. Raises `UsageError`."""
        before = self._begun_before
        if before is not None and not self.options.seed:
            self.options = replace(self.options, seed=str(before.plan["seed"]))
        plan, varied = super().planned(clock), self._asked.varied
        values = {axis.name: values_on(axis.name, plan.cells) for axis in plan.kind.shape.axes}
        shape = shape_of(plan.kind, varied, self._asked, values)
        axes = [axis for axis in shape.axes if axis.parameter]
        given = {name: value for name, value in plan.given.items() if name not in varied}
        cells = tuple(
            Cell({**dict(zip((axis.name for axis in axes), each, strict=True)), **cell})
            for each in product(*(axis.values for axis in axes))
            for cell in plan.cells
        )
        plan = replace(plan, cells=cells, given=given, swept=shape)
        self._checks = tuple(self._checks_on(plan))
        return plan

    def _checks_on(self, plan: Plan) -> Iterator[Check]:
        """Yield the checks by axes. Raises `UsageError` for a cell that is not measured."""
        kernels = self._kernel_names
        measured = {Place(kernel, cell) for kernel in kernels for cell in plan.cells}
        for number, said in enumerate(self._asked.checks, 1):
            name = f"{self._asked.file}: check {number}"
            where, against = (
                dict(self._chosen(f"{name}: {key}", said.get(key, {}), plan))
                for key in ("where", "against")
            )
            if several := [axis for axis, each in against.items() if len(each) > 1]:
                raise UsageError(
                    f"{name}: against has several values of {several[0]}: one is expected"
                )
            check = Check(
                said.get("metric", plan.shape.metric.name), said.get("at-least"),
                said.get("at-most"), where, {axis: each[0] for axis, each in against.items()},
            )  # fmt: skip
            places = list(check.places(kernels, plan.cells))
            if not places:
                raise UsageError(f"{name} is of no cell: none has all of what its where says")
            for place in places if against else ():
                if (other := place.moved(check.against)) not in measured:
                    cell = plan.shape.in_words(other.cell)
                    raise UsageError(f"{name}: against is not measured: {cell} on {other.kernel}")
            yield check

    def _chosen(
        self, name: str, table: Mapping[str, Any], plan: Plan
    ) -> Iterator[tuple[str, tuple[Value, ...]]]:
        """Yield what a check chooses on each axis: of values that are measured."""
        axes = {axis.parameter or axis.name: axis.name for axis in plan.shape.axes}
        fixed = {key: [value] for key, value in plan.given.items()}
        for key, typed_value in table.items():
            values = typed_value if isinstance(typed_value, list) else [typed_value]
            if key == KERNEL:
                known: Sequence[Value] = self._kernel_names
            else:
                known = values_on(axes[key], plan.cells) if key in axes else fixed[key]
            found = [self._as_measured(name, key, value, known, plan) for value in values]
            if key in axes or key == KERNEL:
                yield axes.get(key, key), tuple(found)

    def _as_measured(
        self, name: str, key: str, value: Value, known: Sequence[Value], plan: Plan
    ) -> Value:
        parameter = next((each for each in plan.kind.parameters if each.name == key), None)
        if parameter is not None and parameter.reader is not None:
            with self._said():
                value = parameter.parse(str(value))
        for each in known:
            if each == value:
                return each
        raise UsageError(
            f"{name}: {key} {value} is not measured: the sweep has {', '.join(map(str, known))}"
        )

    # At work

    def claimed(self) -> Path:
        """Return the folder: a new one, or that of the sweep to go on with."""
        if self._begun_before is not None:
            return Path(self.options.output)
        return claim(self.options.output, SWEEP)

    def work(self) -> Finished:
        """Do all of it while no other process goes on with the same sweep."""
        with held(self.request.folder, SWEEP):
            return super().work()

    def about(self) -> dict[str, Any]:
        """Return what run.json says of a sweep when it begins."""
        plan, sides = self.request.plan, self.sides()
        place = plan.place_in(self.lab)
        files = hashes_of(self.options.machine, self.options, *(side.options for side in sides))
        content = [
            {"name": s.label, "source": s.options.source, **s.options.content()} for s in sides
        ]
        return {
            FILES: {str(self._asked.file.absolute()): hash_file(self._asked.file), **files},
            **experiment(plan),
            **({"place": place} if place else {}),
            **({"sides": content} if len(sides) > 1 else content[0]),
            SWEEP: {
                "content": self._asked.content,
                "metrics": list(self._asked.metrics),
                "checks": [check.to_json() for check in self._checks],
            },
        }

    def begun(self, about: Mapping[str, Any]) -> RunFolder:
        """Return the record: a new one, or the one to go on with where all is as it was."""
        before = self._begun_before
        if before is None:
            return super().begun(about)
        from linklab.report.compare import obstacles

        now = Run(json.loads(json.dumps(about)), ())
        found = [
            f"{each.what}: {each.before} then, {each.now} now" for each in obstacles(before, now)
        ]
        was, are = ({kernel.name: kernel.sha256 for kernel in run.kernels} for run in (before, now))
        found += [f"kernel {name} is another one" for name in was if are.get(name) != was[name]]
        found += [f"kernel {name} is new" for name in are if name not in was]
        plans = ({**run.plan, "jobs": None} for run in (before, now))
        entries = ((name, was, are) for name, was, are in _pairs(*plans) if was != are)
        found += [f"plan, {name}: {was} then, {are} now" for name, was, are in entries]
        if found:
            raise UsageError(
                f"{self.request.folder} cannot be gone on with, as not all is as it was: a new "
                "sweep takes another folder",
                "\n".join(found),
            )
        resumed = [*(before.about.get("resumed") or ()), utc_now()]
        return RunFolder.continued(
            self.request.folder, end=None, verdict=None, message="", resumed=resumed
        )

    def measure(self) -> None:
        """Do all trials that are not done yet."""
        self._engine.run(self.subjects, self.folder.run if self._begun_before is not None else None)

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end. A check that does not hold is a fail."""
        new = {fault.message for fault in self._engine.faults}
        earlier = [_fault(each) for each in self.stored.faults if each.get("message") not in new]
        faults = [*faults, *earlier, *self._engine.faults]
        if faults and faults[0].verdict.value in _MAY_GO_ON:
            command = ["invoke", "sweep", str(self._asked.file), "--resume", str(self.folder.path)]
            self.listener(Note(f"`{shlex.join(command)}` goes on"))
        wrong = [each for each in checked(self.stored) if not each.holds]
        if faults or not wrong:
            return self.ended(faults)
        more = f", and {len(wrong) - 1} more checks do not hold" if len(wrong) > 1 else ""
        message = f"{wrong[0].text(self.stored.shape)}{more}"
        return self.ended((), Verdict.FAIL, message)

    def table(self) -> RenderableType:
        """Return the matrix, and what became of the checks."""
        from linklab.report.sweep import render

        return render(self.stored)

    def closing(self, finished: Finished) -> str:
        """Return the verdict, where the results are, and which check does not hold."""
        said = "" if finished.faults else str(self.stored.about.get("message") or "")
        return "\n".join(filter(None, (super().closing(finished), said)))

    def document(self) -> dict[str, Any]:
        """Return the sweep with its samples and what became of its checks."""
        from linklab.report.sweep import checks_document

        return {**document(self.stored), "checks": checks_document(self.stored)}


def _pairs(was: Mapping[str, Any], are: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*was, *are)):
        yield name, was.get(name), are.get(name)


def _fault(entry: Mapping[str, Any]) -> KernelFault:
    """Return a stored fault as what it was."""
    kind = _FAULTS.get(str(entry.get("verdict")), KernelFault)
    return kind(str(entry.get("message", "")), str(entry.get("evidence", "")))


def main(options: SweepOptions, command: Sequence[str]) -> Verdict:
    """Sweep, show what came out, and return the verdict."""
    asked = read(Path(options.file), typed(options, command))
    return Sweeping(asked, options.resume, command).carry_out()
