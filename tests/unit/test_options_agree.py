"""An option means the same in every command that has it, but for those that are listed here."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import pytest

import tasks
from linklab.commands.cli import COMMANDS
from linklab.options import Option, options_of

OTHERWISE: Mapping[str, Mapping[str, str]] = {
    "against": {
        "verdict": "a figure is measured against a commit of the tree that is judged",
        "profile": "a profile is subtracted from that of another kernel",
    },
    "boot": {"selftest": "it alone decides by the number of tests"},
    "clock": {"exec": "somebody waits for a command's output, in real time"},
    "command": {"exec": "a guest's command, a word", "gdb": "one of gdb's own, repeated"},
    "kernel": {
        **dict.fromkeys(
            ("run", "sweep"), "its default depends on the scenario, and is in the help"
        ),
        "series": "each state is built, so only flavours can be named",
        **dict.fromkeys(("bisect", "verdict", "calibrate"), "exactly one kernel, which is built"),
        **dict.fromkeys(("profile", "exec", "shell", "gdb", "bench"), "exactly one kernel"),
        "selftest": "one kernel, and no distribution's: its options are modules",
        "history": "it chooses among past runs",
    },
    "output": {
        "build-iso": "an ISO is a file",
        "verdict": "nothing is kept unless it is asked for",
        "report": "a page is a file",
    },
    "patch": {"compare": "A is what the patches of B stand on"},
    "range": {
        "compare": "A is what the commits of B stand on",
        "port": "the series itself is a tree, --source there is none",
    },
    "repeat": {"bench": "figures of the lab are repeated, not trials"},
    "resume": {"bisect": "a search has no file: all its options are in its folder"},
    "scenario": {
        "scenarios": "it chooses what is listed",
        "history": "it chooses among past runs",
    },
    "timeout": {
        "selftest": "of one test, by its collection's settings",
        "exec": "of one command, which may take for ever",
        "gdb": "of a scripted session",
    },
}
"""What an option is of another meaning for, and so has another help, by option and command."""

OTHER_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "boot": {
        **dict.fromkeys(("compare", "series", "calibrate"), "hundreds of guests: saved ones"),
        "selftest": "auto, by the number of tests",
    },
    "cpus": {"selftest": "tests that race need a second CPU"},
    "kernel": {
        **dict.fromkeys(
            ("build-iso", "profile", "exec", "shell", "selftest", "bench"), "one, as Debian's is"
        ),
        **dict.fromkeys(("bisect", "verdict", "calibrate"), "one, the smaller one"),
        "gdb": "one with debug information",
        **dict.fromkeys(("run", "sweep"), "the scenario decides"),
        "history": "all runs",
    },
    "command": {"gdb": "none: gdb asks"},
    "repeat": {"bench": "what is measured decides"},
    "scenario": dict.fromkeys(("scenarios", "history"), "nothing is left out"),
    "source": {"verdict": "`git bisect run` calls it in the tree"},
}
"""Where an option has another default, and why, by option and command."""


def every_option() -> dict[str, dict[str, Option]]:
    """Return the options of all commands: by name, then by command."""
    found: dict[str, dict[str, Option]] = defaultdict(dict)
    for command in COMMANDS:
        takes = list(signature(command.function(), eval_str=True).parameters.values())
        for each in options_of(takes[0].annotation) if takes else ():
            found[each.name][command.name] = each
    return found


OPTIONS = every_option()
SHARED = sorted(name for name, commands in OPTIONS.items() if len(commands) > 1)


def by_reason(
    name: str, reasons: Mapping[str, Mapping[str, str]], what: Callable[[Option], Any]
) -> dict[str, set[Any]]:
    """Return what commands say of an option, by the reason for which they say it."""
    said: dict[str, set[Any]] = defaultdict(set)
    for command, option in OPTIONS[name].items():
        said[reasons.get(name, {}).get(command, "")].add(what(option))
    return said


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize(
    ("reasons", "what"),
    [(OTHERWISE, lambda option: option.help), (OTHER_DEFAULTS, lambda option: option.default)],
    ids=["help", "default"],
)
def test_an_option_is_the_same_unless_there_is_a_reason(
    name: str, reasons: Mapping[str, Mapping[str, str]], what: Callable[[Option], Any]
) -> None:
    said = by_reason(name, reasons, what)
    assert all(len(each) == 1 for each in said.values()), said
    assert len(set.union(*said.values())) == len(said), "two reasons, and no difference"


@pytest.mark.parametrize("name", SHARED)
def test_an_option_is_of_one_type(name: str) -> None:
    kinds = {(type(each.default), each.is_word) for each in OPTIONS[name].values()}
    assert len(kinds) == 1 + (name == "command"), kinds  # a word in exec, see above


@pytest.mark.parametrize("reasons", [OTHERWISE, OTHER_DEFAULTS])
def test_no_reason_is_left_of_what_there_was(reasons: Mapping[str, Mapping[str, str]]) -> None:
    for name, commands in reasons.items():
        assert name in SHARED
        assert commands.keys() <= OPTIONS[name].keys()


@pytest.mark.parametrize("name", ["axis", "cell", "keep", "param", "scenario", "timeout"])
def test_what_is_measured_is_said_the_same_way_wherever_guests_are_measured(name: str) -> None:
    measuring = {"run", "compare", "series", "bisect", "verdict", "calibrate", "profile"}
    assert measuring <= OPTIONS[name].keys()


@pytest.mark.parametrize("name", ["place", "nic", "capture"])
def test_where_hosts_are_is_said_wherever_figures_are_taken(name: str) -> None:
    measuring = {"run", "sweep", "compare", "series", "calibrate", "profile"}
    assert OPTIONS[name].keys() == measuring


def test_a_metric_is_named_wherever_one_counts() -> None:
    assert OPTIONS["metric"].keys() == {"compare", "series", "bisect", "verdict", "calibrate"}


@pytest.mark.parametrize("command", [each.name for each in COMMANDS])
def test_the_help_of_a_command_has_all_its_options(command: str) -> None:
    contexts = copy.deepcopy(tasks.namespace).to_contexts()
    (context,) = (each for each in contexts if each.name == command)
    known = {name for names, _ in context.help_tuples() for name in names.split("=")[0].split(", ")}
    own = {each for each in OPTIONS if command in OPTIONS[each]}
    flags = {OPTIONS[name][command].flag for name in own if OPTIONS[name][command].takes_value}
    assert flags <= known
