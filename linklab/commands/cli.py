"""The command line: every command of the lab as an Invoke task.

A task's options, defaults and help come from the dataclass that the command's
function takes; see `linklab/options.py`. A command's module is imported where
its name stands on the command line, so that nobody waits for all of them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, Signature, signature
from typing import Any, NoReturn

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program
from invoke.tasks import Task

from linklab.commands.exit_status import (
    end_as_unix_tools_do,
    ended_by,
    plain_status,
    status_of,
    step_status,
)
from linklab.entry import hold_signals, is_invoke
from linklab.errors import UsageError, Verdict
from linklab.options import Option, made, options_of


@dataclass(frozen=True)
class Command:
    """A command: `help` is one line, `where` its function, by default `.name:main`.

    The function takes nothing, or its options as one dataclass, or these and
    the words of the command line. It returns a verdict, None for a pass, or the
    status of a program that ran in a guest.
    """

    name: str
    help: str
    where: str = ""
    status: Callable[[Verdict], int] = plain_status

    def function(self) -> Callable[..., Verdict | int | None]:
        """Import what does the work."""
        module, _, name = (self.where or f".{self.name}:main").partition(":")
        found: Callable[..., Verdict | int | None] = getattr(
            import_module(module, __package__), name
        )
        return found


COMMANDS = (
    Command("setup", "Install the Debian packages that are missing.", ".develop:set_up"),
    Command(
        "doctor",
        "Say what works on this machine and what to do about the rest.",
        ".develop:examine",
    ),
    Command(
        "build-kernel",
        "Build kernels if their inputs changed, and say where they are.",
        ".build:kernels",
    ),
    Command(
        "build-iso",
        "Build the live ISO and print what is in it and what each part weighs.",
        ".build:iso",
    ),
    Command(
        "scenarios",
        "List what can be measured: scenarios, with their axes, metrics and parameters.",
        ".scenarios:list_scenarios",
    ),
    Command("run", "Boot kernels, run a scenario, and print a table and a verdict."),
    Command(
        "sweep",
        "Run a scenario over axes, parameters and kernels that a file names: `invoke sweep FILE`.",
    ),
    Command(
        "compare",
        "Say whether kernel B is slower or faster than kernel A, and how surely.",
    ),
    Command(
        "series", "Say what each patch of a series does: warnings, build, boot, console, speed."
    ),
    Command(
        "bisect", "Find the first bad commit of a git tree, or the first bad patch of a series."
    ),
    Command(
        "verdict",
        "Judge a kernel tree, for `git bisect run`: 0 good, 1 bad, 125 skip, 255 cannot tell.",
        status=step_status,
    ),
    Command(
        "calibrate",
        "Say how often `invoke compare` raises a false alarm here, and finds what is slower.",
    ),
    Command(
        "profile",
        "Say where a guest's CPU time goes during one operation, alone or against a second kernel.",
    ),
    Command(
        "selftest",
        "Run the kernel's own self-tests, each in a guest of its own: `invoke selftest net/tls`.",
    ),
    Command(
        "port", "Try a series of patches on another kernel, and write what applies as a new series."
    ),
    Command(
        "report",
        "Write a page about a run, or one that compares several: `invoke report DIR DIR`.",
        ".history:report",
    ),
    Command(
        "history", "List past runs, the newest first, with what each found.", ".history:list_runs"
    ),
    Command("show", "Print a past run's table again.", ".history:show"),
    Command(
        "rerun",
        "Do a past run once more with the same inputs, and say what differs.",
        ".history:rerun",
    ),
    Command("export", "Write a past run as JUnit XML, KTAP or a KCIDB report.", ".exports:export"),
    Command("exec", "Run a command in a guest: `invoke exec --kernel nosysfs 'ip -s link'`."),
    Command(
        "shell", "Open a shell in a new guest, or the console of one that runs, on this terminal."
    ),
    Command(
        "guests",
        "List the guests that run now; `invoke shell --guest` opens the console of one.",
        ".guests:list_guests",
    ),
    Command(
        "fleet",
        "Show the workers of a Dask scheduler, which do the trials of `--fleet`.",
        ".fleet:show",
    ),
    Command("worker", "Let this host be a worker of a Dask scheduler.", ".fleet:work"),
    Command(
        "gdb", "Start a guest that waits at its first instruction, and gdb on it, with symbols."
    ),
    Command(
        "bench",
        "Measure the lab itself: boots, a request, whole commands, a rebuild, sizes; or networks.",
    ),
    Command("test", "Run the tests and measure what they cover.", ".develop:run_tests"),
    Command(
        "faults",
        "Inject faults into real guests and their lab, and write what each was taken for.",
        ".develop:inject_faults",
    ),
    Command("lint", "Check style, types, shell scripts and C warnings.", ".develop:run_lint"),
)

RENAMED = {
    "--interfaces": "--counts",
    "--operation": "--operations",
    "--arm": "--arms",
    "--listeners": "--param listeners=N",
}
"""Options that had another name, where the command has the new one and not the old."""

_SEPARATOR = "\n"  # stands between words that were made one: no folder's name has it


def namespace(argv: Sequence[str], commands: Iterable[Command] = COMMANDS) -> Collection:
    """Return the tasks, once the command line is known to be right.

    Ends the program where it is not, and begins it again with other words
    where Invoke would not take these. All commands are whole where it is not
    Invoke that was started.
    """
    every = tuple(commands)
    if not is_invoke(argv[0]):
        return _collection(every)
    end_as_unix_tools_do(_status_for(argv, every))
    # A task, or what `--help=` names; not a word inside of another program's command line.
    words = {word.rpartition("=")[2] for word in argv[1:] if not any(map(str.isspace, word))}
    named = [each for each in every if each.name in words]
    if "--complete" in argv and "--" in argv:
        _complete(argv[argv.index("--") + 2 :], every)
    contexts = _collection(every, named).to_contexts()
    several = [each.name for each in named if _takes_several(each)]
    if (others := rewritten(contexts, argv, several)) is not None:
        _begin_again(others)
    _refuse_unknown(contexts, argv, every)
    return _collection(every, named)  # a second one: contexts take the help out of their tasks


def _collection(commands: Iterable[Command], whole: Sequence[Command] | None = None) -> Collection:
    return Collection(*(_task(each, whole is None or each in whole) for each in commands))


def _task(command: Command, whole: bool) -> Task[Any]:
    """Return a command as Invoke takes it; one that is not whole can only be listed."""
    takes = _takes(command) if whole else ()
    options = _options(takes)

    def body(_context: object, **given: Any) -> None:
        values = {each.name: _value(each, given[each.name]) for each in options}
        arguments = [made(takes[0], values), sys.argv][: len(takes)] if takes else []
        function = command.function()
        as_json = bool(values.get("json"))
        code = status_of(lambda: function(*arguments), command.status, as_json=as_json)
        if code:
            raise Exit(code=code)

    body.__doc__ = command.help
    parameters = [Parameter("context", Parameter.POSITIONAL_OR_KEYWORD), *map(_parameter, options)]
    body.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return Task(
        body,
        command.name,
        positional=[each.name for each in options if each.is_word],
        auto_shortflags=False,
        iterable=[each.name for each in options if _may_repeat(each)],
        help={each.name: each.help for each in options if each.help},
    )


def _takes(command: Command) -> tuple[Any, ...]:
    """Return the types of the arguments that a command's function takes."""
    parameters = signature(command.function(), eval_str=True).parameters
    return tuple(each.annotation for each in parameters.values())


def _takes_several(command: Command) -> bool:
    words = (each for each in _options(_takes(command)) if each.is_word)
    return any(isinstance(each.default, tuple) for each in words)


def _options(takes: tuple[Any, ...]) -> list[Option]:
    return options_of(takes[0]) if takes else []


def _parameter(option: Option) -> Parameter:
    default: Any = option.default
    if option.is_word:
        default = Parameter.empty
    elif isinstance(default, tuple):
        default = list(default)
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default)


def _may_repeat(option: Option) -> bool:
    return isinstance(option.default, tuple) and not option.is_word


def _value(option: Option, given: Any) -> Any:
    if isinstance(option.default, tuple):
        return tuple(given.split(_SEPARATOR) if option.is_word else given)
    return given


def rewritten(
    contexts: Sequence[ParserContext], argv: Sequence[str], several: Container[str]
) -> list[str] | None:
    """Return the words behind the program's name as Invoke takes them, None where it does.

    The words of a command that takes `several` become one. Before a command's
    last word Invoke takes `--help` for that word: it comes before the command
    instead.
    """
    known = {str(each.name): each for each in contexts}
    try:
        core = Parser(initial=Program().initial_context, ignore_unknown=True)
        left = core.parse_argv(list(argv[1:])).unparsed
    except ParseError:
        return None  # Invoke says what is wrong
    before = argv[1 : len(argv) - len(left)]
    taken: list[str] = []
    differs = False
    while left and left[0] in known:
        name, context = left[0], known[left[0]]
        named, options, rest, asks = _sorted(left[1:], context, known)
        if asks and context.positional_args:
            return [*before, "--help", name]
        if name in several and len(named) > 1:
            named = [_SEPARATOR.join(named)]
            differs = True
        taken += [name, *named, *options]
        left = rest
    return [*before, *taken, *left] if differs else None


def _sorted(
    words: Sequence[str], context: ParserContext, commands: Mapping[str, object]
) -> tuple[list[str], list[str], list[str], bool]:
    """Return a command's own words, its options with their values, and what begins another one.

    The last one tells whether `--help` is among the options.
    """
    asks = False
    named: list[str] = []
    options: list[str] = []
    left = list(words)
    while left:
        if left[0].startswith("-"):
            flag, _, value = left[0].partition("=")
            asks = asks or flag in {"--help", "-h"}
            argument = context.flags.get(flag)
            many = 2 if argument and argument.takes_value and not value else 1
            options += left[:many]
            del left[:many]
        elif len(named) >= len(context.positional_args) and left[0] in commands:
            break
        else:
            named.append(left.pop(0))
    return named, options, left, asks


def _complete(words: Sequence[str], commands: Sequence[Command]) -> None:
    """Print what may come next, and end; return where Invoke itself knows that better."""
    command = next((each for word in words for each in commands if each.name == word), None)
    if command is None:
        return
    for candidate in completions(command, words):
        print(candidate)
    raise Exit


def completions(command: Command, words: Sequence[str]) -> list[str]:
    """Return what may come next behind a command, or in place of its last word.

    A shell leaves out what does not begin as the last word does, and takes the
    names of files where there is nothing. It does not tell whether the last
    word is complete.
    """
    options = _options(_takes(command))
    flags = ["--help", *(each.flag for each in options if not each.is_word)]
    typed = ["", *(word for word in words if word != "=")]  # bash has it as a word
    last = typed[-1]
    for flag, begun, others in ((last, "", []), (typed[-2], last, flags)):
        for each in options:
            if each.flag == flag and each.takes_value:
                before = begun[: begun.rfind(",") + 1]
                values = [before + value for value in each.completions()]
                return values + others if values else []
    if last.startswith("-"):
        return flags
    own = [value for each in options if each.is_word for value in each.completions()]
    return [*(own or flags), *([command.name] if last == command.name else [])]


def _begin_again(words: Sequence[str]) -> NoReturn:
    """Replace the program by itself: Invoke has read the command line already."""
    hold_signals()
    os.execv(sys.executable, [sys.executable, "-m", "invoke", *words])


def _refuse_unknown(
    contexts: Sequence[ParserContext], argv: Sequence[str], commands: Sequence[Command]
) -> None:
    """End with status 2 where Invoke would end with 1 for words it does not know.

    1 is what scripts, and `git bisect run`, take for "the kernel is bad". What
    people mistype is said in words that help; the rest, parsed with Invoke's
    own parser before Invoke does, in Invoke's.
    """
    program = Program()
    try:
        # In two steps, as Invoke does: `--help run` is a value, not a task.
        core = Parser(initial=program.initial_context, ignore_unknown=True)
        parsed = core.parse_argv(list(argv[1:]))
        known = {str(each.name): each for each in contexts}
        of_all = parsed[0].flags
        asked = [of_all[flag].value for flag in ("--help", "--list")]
        wrong = (each for each in asked if isinstance(each, str) and each not in known)
        said = next((_unknown(each, known) for each in wrong), "")
        said = said or _mistake(parsed.unparsed, known, of_all, commands)
        if not said:
            named = [known[word] for word in known if word in parsed.unparsed]  # it copies them
            Parser(initial=program.initial_context, contexts=named).parse_argv(parsed.unparsed)
            return
    except ParseError as error:
        said = f"{error}\n`invoke --list` lists the commands"
    status = _status_for(argv, commands)
    raise Exit(code=ended_by(UsageError(said), status, as_json="--json" in argv)) from None


def _mistake(
    words: Sequence[str],
    known: Mapping[str, ParserContext],
    of_all: Mapping[str, Any],
    commands: Sequence[Command],
) -> str:
    """Return what is wrong with the words of some commands, empty where nothing is."""
    left = list(words)
    while left:
        name = left.pop(0)
        if name not in known:
            return _unknown(name, known)
        command = next(each for each in commands if each.name == name)
        mistake = _Words(command, known[name], of_all).mistake(left, known)
        if mistake:
            return mistake
    return ""


class _Words:
    """What stands behind a command's name, held against what the command takes."""

    def __init__(self, command: Command, context: ParserContext, of_all: Mapping[str, Any]) -> None:
        self._name = command.name
        self._flags = context.flags
        self._of_all = of_all  # options of Invoke's own
        self._options = {each.flag: each for each in _options(_takes(command))}
        self._wanted = [each for each in self._options.values() if each.is_word]
        self._given: dict[str, list[str]] = {}
        self._help = f"`invoke {self._name} --help` explains it"
        examples = " ".join(map(_example, self._wanted))
        shown = re.search(rf"`invoke {self._name} [^`]+`", command.help)
        self._usage = shown[0] if shown else f"`invoke {self._name} {examples}`"

    def mistake(self, left: list[str], commands: Container[str]) -> str:
        """Return what is wrong; take what is the command's from the beginning of `left`."""
        words = 0
        while left:
            if left[0].startswith("-") and left[0] != "-":
                if mistake := self._option(left):
                    return mistake
            elif words < len(self._wanted):
                words += 1
                del left[0]
            elif left[0] in commands:
                break
            else:
                return self._one_too_many(left[0])
        if words < len(self._wanted):
            lacking = self._wanted[words]
            said = f"invoke {self._name} lacks {lacking.name!r}: {lacking.help}"
            return f"{said}\nsuch as {self._usage}; {self._help}"
        return ""

    def _option(self, left: list[str]) -> str:
        flag, has_value, value = left.pop(0).partition("=")
        option = self._options.get(flag)
        if option is None or option.is_word:
            if flag not in self._of_all:
                return self._unknown_option(flag)
            own = self._of_all[flag]
            del left[: own.takes_value and not own.optional and not has_value]
        elif option.takes_value:
            return self._valued(option, [value] if has_value else left)
        return ""

    def _valued(self, option: Option, left: list[str]) -> str:
        """Take an option's value from the beginning of `left`."""
        flag = option.flag
        if not left or left[0].partition("=")[0] in self._flags:
            such = f", such as {flag} {_usual(option)}" if _usual(option) else f": {option.help}"
            return f"{flag} lacks its value{such}\n{self._help}"
        given = self._given.setdefault(flag, [])
        given.append(left.pop(0))
        if len(given) == 1 or _may_repeat(option):
            return ""
        if "comma-separated" in option.help:
            return f"{flag} is given twice: once takes all of it: {flag} {','.join(given)}"
        return f"{flag} is given twice, as {' and as '.join(given)}"

    def _unknown_option(self, flag: str) -> str:
        now = RENAMED.get(flag, "")
        if now.split(" ")[0] in self._flags:
            return f"{flag} is now {now}\n{self._help}"
        flags = {name: each for name, each in self._options.items() if not each.is_word}
        said = f"invoke {self._name} has no option {flag!r}"
        if not (near := _nearest(flag, flags)):
            return f"{said}\n`invoke {self._name} --help` lists them"
        usual = _usual(flags[near])
        if flags[near].takes_value and not usual:
            return f"{said}: the nearest is {near}: {flags[near].help}\n{self._help}"
        example = f" {usual}" if flags[near].takes_value else ""
        return f"{said}: the nearest is {near}, as in {near}{example}\n{self._help}"

    def _one_too_many(self, word: str) -> str:
        takes = " ".join(each.name.upper() for each in self._wanted)
        takes = takes or "no words, only options"
        return f"{word!r} is a word too many: invoke {self._name} takes {takes}\n{self._help}"


def _example(option: Option) -> str:
    """Return a value that an option could have, or else a word in its place."""
    return _usual(option) or option.name.upper()


def _usual(option: Option) -> str:
    """Return a value that an option could have; empty where none is known."""
    usual = option.default if isinstance(option.default, str) else ""
    return usual or next(iter(option.completions()), "")


def _unknown(word: str, known: Iterable[str]) -> str:
    near = _nearest(word, known)
    said = f": the nearest is `invoke {near}`" if near else ""
    what = "option" if word.startswith("-") else "command"
    return f"there is no {what} {word!r}{said}\n`invoke --list` lists the commands"


def _nearest(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # only for who mistypes

    return next(iter(get_close_matches(word, list(known), 1)), "")


def _status_for(argv: Sequence[str], commands: Iterable[Command]) -> Callable[[Verdict], int]:
    """Return what a verdict's status is for who typed the command line."""
    steps = (each.status for each in commands if each.name in argv[1:])
    return next((each for each in steps if each is not plain_status), plain_status)
