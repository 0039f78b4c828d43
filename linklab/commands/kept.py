"""The options of `invoke run`: as declared, as `run.json` keeps them, and back again.

They are kept under their names on the command line, so that a reader needs to
know nothing of the code. See `linklab/results/again.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.commands.equip import module_files
from linklab.commands.exports import ExportOptions
from linklab.commands.places import PlaceOptions, split_host
from linklab.commands.prepare import KernelOptions, MachineOptions
from linklab.commands.work import TrialOptions
from linklab.errors import UsageError
from linklab.host.cache import hash_file
from linklab.kernel.debkernel import PREFIX, is_package
from linklab.kernel.kconfig import flavours
from linklab.options import JSON, flat, group, made, option, split_list
from linklab.results.again import FILES, command_of, files_of, options_of, typed_command
from linklab.scenarios import names


@dataclass(frozen=True)
class RunOptions(TrialOptions):
    """The options of `invoke run`, as typed."""

    kernels: KernelOptions = group(KernelOptions)
    machine: MachineOptions = group(MachineOptions)
    place: PlaceOptions = group(PlaceOptions)
    repeat: str = option("1", "trials of each cell and kernel, in shuffled order")
    warmup: str = option(
        "", "trials before them that are thrown away; default 1 with --repeat above 1, else 0"
    )
    fresh_guest: bool = option(
        False, "a guest of its own for each trial, instead of one for each kernel and set-up"
    )
    output: str = option("", "a folder for the results; default results/<UTC time>-<scenario>")
    timings: bool = option(False, "say at the end what each stage of the command took")
    record: bool = option(
        False, "record each guest, and keep that of one that failed for `invoke gdb --replay`"
    )
    as_json: bool = option(False, JSON, "json")
    exports: ExportOptions = group(ExportOptions)


_OF_THE_COMMAND = frozenset(
    {"output", "keep", "record", "json", "timings", "junit", "ktap", "kcidb", "kcidb_origin"}
)  # not of the run itself
_ALWAYS = frozenset(
    {"kernel", "scenario", "counts", "operations", "arms", "repeat", "timeout"}
)  # what every version has kept


def kept(options: RunOptions, **decided: Any) -> dict[str, Any]:
    """Return the options by name, paths absolute, and `decided` in place of what was open."""
    kernels, noise = options.kernels, options.machine.noise
    found: dict[str, Any] = {
        "kernel": ",".join(_kernel_word(word) for word in split_list("kernel", kernels.names)),
        "source": _absolute(kernels.source) if kernels.source else "",
        "patch": [_absolute(path) for path in kernels.patches],
        "config": [_absolute(path) for path in kernels.configs],
        "range": fixed_range(kernels),
        "module": [_absolute(w) if _names_a_path(w) else w for w in kernels.modules],
        "noise": _absolute(noise) if noise else "",
        "scenario": options.scenario
        if options.scenario in names()
        else _absolute(options.scenario),
        **decided,
    }
    others = flat(options).items()
    return found | {k: v for k, v in others if k not in found and k not in _OF_THE_COMMAND}


def kept_files(options: RunOptions) -> dict[str, str]:
    """Return the SHA-256 of each file that the options name, by its absolute path."""
    kernels = options.kernels
    configs = (Path(path) for path in kernels.configs)
    noise = [Path(options.machine.noise)] if options.machine.noise else []
    own = [] if options.scenario in names() else [Path(options.scenario).expanduser()]
    files = (*kernels.series.files, *configs, *module_files(kernels.modules), *noise, *own)
    return {str(path.absolute()): hash_file(path) for path in files}


def fixed_range(kernels: KernelOptions) -> str:
    """Return a range by its commits: a branch goes on, and the run must find the same again."""
    commits = [patch.commit for patch in kernels.series.patches if patch.commit]
    return f"{kernels.series.base}..{commits[-1]}" if commits else ""


def _kernel_word(typed: str) -> str:
    host, word = split_host(typed)
    return f"{host}={_kernel(word)}" if host else _kernel(word)


def _kernel(word: str) -> str:
    if is_package(word):
        package = word.removeprefix(PREFIX)
        return PREFIX + _absolute(package) if _names_a_path(package) else word
    return word if word in flavours() else _absolute(word)


def _names_a_path(word: str) -> bool:
    return "/" in word or Path(word).exists()


def _scenario(word: str) -> str:
    return word if word in names() else _absolute(word)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def revived(about: Mapping[str, Any], output: str, *, as_json: bool) -> RunOptions:
    """Return the options of a stored run, to run once more.

    Raises `UsageError` when it kept none, when this version does not know one
    of them, or when a file that they name is not what it was.
    """
    options = options_of(about)
    if about.get("kind"):
        raise repeated_by(about)
    if options is None:
        raise UsageError(
            "the run did not keep its options, so it cannot be repeated exactly. "
            f"This is how it was started: {command_of(about)}"
        )
    check_files(files_of(about))
    if unknown := options.keys() - (flat(RunOptions()).keys() - _OF_THE_COMMAND):
        named = ", ".join(f"--{name}" for name in sorted(unknown))
        raise UsageError(f"the run was done with {named}, which this version does not know")
    if missing := _ALWAYS - options.keys():
        raise UsageError(f"the run's options lack {', '.join(sorted(missing))}")
    again = replace(made(RunOptions, options), output=output, as_json=as_json)
    if FILES in about:
        _check_no_more(files_of(about), kept_files(again))
    return again


def _check_no_more(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `UsageError` where a folder that the options name has got another file."""
    if more := [path for path in now if path not in before]:
        raise UsageError(
            f"{more[0]} was not there when it was begun, and would be used now: "
            "put back what was there, or start a new one"
        )


def repeated_by(about: Mapping[str, Any]) -> UsageError:
    """Return why `rerun` does not do what another command did: that command does it."""
    return UsageError(f"this is no `invoke run`: repeat it by its command: {typed_command(about)}")


def check_files(files: Mapping[str, str]) -> None:
    """Raise `UsageError` where a file is not what it was, by its path and SHA-256."""
    for path, expected in files.items():
        try:
            found = hash_file(Path(path))
        except OSError as error:
            raise UsageError(
                f"{path}, which it was begun with, cannot be read: {error.strerror or error}"
            ) from error
        if found != expected:
            raise UsageError(
                f"{path} is not what it was begun with: its SHA-256 is {found}, "
                f"then it was {expected}"
            )
