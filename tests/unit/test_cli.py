"""The command line: what it takes, what it refuses, what it says of both."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from invoke.exceptions import Exit
from invoke.parser.context import ParserContext

import tasks
from linklab.commands import cli
from linklab.commands.cli import COMMANDS, Command
from linklab.commands.exit_status import step_status
from linklab.entry import ENDING
from linklab.errors import Verdict
from linklab.host.run import environment
from linklab.options import group, option, word, words
from linklab.paths import ROOT
from linklab.scenarios import names

INVOKE = str(Path(sys.executable).with_name("invoke"))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what a refusal does to the signals of the process."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@dataclass(frozen=True)
class Machine:
    """Options that several commands have."""

    cpus: str = option("1", "the CPUs")
    memory: str = option("", "the memory")


@dataclass(frozen=True)
class Report:
    """A command that takes one word or several."""

    runs: tuple[str, ...] = words("runs")
    output: str = option("", "a folder")
    deep: bool = option(False, "all of it")


@dataclass(frozen=True)
class Measure:
    """A command with a word, and with options of every kind."""

    what: str = word("what to measure", lambda: ["mtu", "up"])
    counts: str = option("128", "how many", values=("128", "256"))
    patches: tuple[str, ...] = option((), "a patch", "patch")
    as_json: bool = option(False, "a document", "json")
    machine: Machine = group(Machine, {"cpus": "comma-separated"}, without=("memory",), cpus="2")


done: list[object] = []


def history() -> None:
    done.append("history")


def report(options: Report) -> None:
    done.append(options)


def measure(options: Measure, argv: Sequence[str]) -> Verdict:
    done.append(options)
    assert argv is sys.argv
    return Verdict.FAIL if options.what == "bad" else Verdict.PASS


OURS = (
    Command("history", "List.", f"{__name__}:history"),
    Command("report", "Write.", f"{__name__}:report"),
    Command("measure", "Measure.", f"{__name__}:measure", step_status),
)


def contexts() -> Mapping[str, ParserContext]:
    made = cli.namespace(["pytest"], OURS).to_contexts()
    return {str(each.name): each for each in made}


def test_a_task_has_the_options_that_its_function_declares() -> None:
    found = contexts()["measure"]
    assert found.flags.keys() == {
        "--what", "--counts", "--patch", "--json", "--cpus"
    }  # fmt: skip
    assert [each.name for each in found.positional_args] == ["what"]
    assert {each.name: each.default for each in found.args.values() if each.name != "what"} == {
        "counts": "128",
        "patch": [],
        "json": False,
        "cpus": "2",
    }
    assert {each.name: each.help for each in found.args.values()} == {
        "what": "what to measure",
        "counts": "how many",
        "patch": "a patch",
        "json": "a document",
        "cpus": "comma-separated",
    }


def call(name: str, **given: object) -> int:
    """Run a task as Invoke does; return the status that it ends with."""
    done.clear()
    task = cli.namespace(["pytest"], OURS)[name]
    try:
        task.body(None, **given)
    except Exit as end:
        assert not end.message, "it would be printed a second time"
        return int(end.code)
    return 0


def test_what_is_given_reaches_the_command_as_its_dataclass() -> None:
    given = {"counts": "1", "patch": ["a", "b"], "json": True, "cpus": "4"}
    assert call("measure", what="good", **given) == 0
    assert done == [Measure("good", "1", ("a", "b"), True, Machine("4"))]
    assert call("measure", what="bad", **given) == 1
    assert call("history") == 0 and done == ["history"]
    assert call("report", runs="a\nb", output="", deep=False) == 0
    assert done == [Report(("a", "b"))]


AB = "a\nb"


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("report a b", ["report", AB]),
        ("report a b c,d", ["report", f"{AB}\nc,d"]),
        ("report a --output x b", ["report", AB, "--output", "x"]),
        ("report --output=x a --deep b", ["report", AB, "--output=x", "--deep"]),
        ("report a b history", ["report", AB, "history"]),
        ("report history history", None),
        ("report history a", ["report", "history\na"]),
        ("--echo report a b", ["--echo", "report", AB]),
        ("report a", None),
        ("report a --output b", None),
        ("report", None),
        ("report --frob a b", ["report", AB, "--frob"]),
        ("history report a b", ["history", "report", AB]),
        ("--list", None),
        ("frob a b", None),
        ("report --help", ["--help", "report"]),
        ("report -h", ["--help", "report"]),
        ("measure --counts 5 --help", ["--help", "measure"]),
        ("measure --counts --help mtu", None),
        ("measure a b", None),
        ("measure mtu --help", ["--help", "measure"]),
        ("history measure --help", ["--help", "measure"]),
        ("history --help", None),
        ("--collection", None),
    ],
)
def test_words_that_invoke_would_not_take_are_given_to_it_in_another_way(
    typed: str, taken: list[str] | None
) -> None:
    assert cli.rewritten([*contexts().values()], ["invoke", *typed.split()], ["report"]) == taken


@pytest.mark.parametrize(
    ("typed", "status", "says"),
    [
        ("frob", 2, "'frob'"),
        ("report a --frob", 2, "'--frob'"),
        ("report a --interfaces=5", 2, "'--interfaces'"),
        ("measure a --interfaces 5", 255, "--interfaces is now --counts\n"),
        ("measure a --interfaces=5", 255, "--interfaces is now --counts\n"),
        ("measure", 255, "'what'"),
        ("--help report --frob", 2, "'--frob'"),
        ("--help frob", 2, "'frob'"),
        ("frob --help", 2, "'frob'"),
        ("--list=frob", 2, "'frob'"),
        ("--frob", 2, "no option '--frob'"),
        ("histroy", 2, "the nearest is `invoke history`"),
        ("measure a --count 5", 255, "the nearest is --counts, as in --counts 128\n"),
        ("measure a --jsn", 255, "the nearest is --json, as in --json\n"),
        ("measure a --counts 1 --counts 2", 255, "--counts is given twice, as 1 and as 2\n"),
        ("measure a --cpus=1 --cpus 2", 255, "--cpus is given twice: once takes all of it"),
        ("measure a --counts", 255, "--counts lacks its value, such as --counts 128\n"),
        ("measure a --counts --json", 255, "--counts lacks its value"),
        ("measure a --patch", 255, "--patch lacks its value: a patch\n"),
        ("measure a --pach x", 255, "the nearest is --patch: a patch\n"),
        ("measure", 255, "such as `invoke measure mtu`"),
        ("measure a b", 255, "'b' is a word too many: invoke measure takes WHAT\n"),
        ("history now", 2, "'now' is a word too many: invoke history takes no words"),
        ("history report", 2, "'runs'"),
    ],
)
def test_words_that_are_unknown_are_refused(
    typed: str, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as end:
        cli.namespace(["/usr/bin/invoke", *typed.split()], OURS)
    assert end.value.code == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["/x/invoke/__main__.py", "report", "a"],
        ["inv", "measure", "a", "--counts", "5"],
        ["invoke", "--list"],
        ["invoke", "--help", "measure"],
        ["invoke", "-T", "5", "measure", "a", "-e", "--command-timeout", "9", "--patch", "x"],
        ["invoke", "measure", "a", "--patch", "x", "--patch=y", "--json", "history"],
        ["invoke"],
        ["/usr/bin/pytest", "--frob"],
        ["/x/pytest/__main__.py", "--frob"],
        [""],
    ],
)
def test_words_that_are_right_or_not_for_invoke_give_the_tasks(argv: list[str]) -> None:
    found = cli.namespace(argv, OURS)
    assert set(found.task_names) == {"history", "report", "measure"}


def test_only_a_command_that_is_named_is_imported() -> None:
    bad = Command("broken", "Fail.", "no_such_module:main")
    found = cli.namespace(["invoke", "history"], [*OURS, bad])
    assert "Fail." in str(found["broken"].__doc__)
    with pytest.raises(ModuleNotFoundError):
        cli.namespace(["invoke", "--help", "broken"], [*OURS, bad])


FLAGS = ["--help", "--counts", "--patch", "--json", "--cpus"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("measure", ["mtu", "up", "measure"]),
        ("measure m", ["mtu", "up"]),
        ("measure --c", FLAGS),
        ("measure --counts", ["128", "256"]),
        ("measure --counts 1", ["128", "256", *FLAGS]),
        ("measure --counts = 1", ["128", "256", *FLAGS]),
        ("measure --counts 128,2", ["128,128", "128,256", *FLAGS]),
        ("measure --patch", []),
        ("measure --patch a", []),
        ("measure --json m", ["mtu", "up"]),
    ],
)
def test_a_shell_completes_options_their_values_and_words(typed: str, offered: list[str]) -> None:
    assert cli.completions(OURS[2], typed.split()) == offered


def test_a_command_is_completed_where_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit):
        cli.namespace(["invoke", "--complete", "--", "invoke", "measure", "--counts"], OURS)
    assert capsys.readouterr().out == "128\n256\n"
    cli.namespace(["invoke", "--complete", "--", "invoke", "mea"], OURS)  # Invoke does the rest


# The lab's own commands


def test_every_option_says_what_it_is_for() -> None:
    for context in tasks.namespace.to_contexts():
        for argument in context.args.values():
            assert argument.help, f"{context.name} --{argument.name}"


SAME = {
    "accel", "machine", "cpus", "clock", "noise", "module", "keep", "listeners", "seed", "jobs",
    "json", "results", "junit", "ktap", "kcidb", "kcidb_origin", "scenario",
}  # fmt: skip


def test_an_option_means_the_same_in_every_command() -> None:
    said: dict[str, set[object]] = {}
    for context in tasks.namespace.to_contexts():
        for argument in {id(each): each for each in context.args.values()}.values():
            said.setdefault(argument.name.replace("-", "_"), set()).add(argument.help)
    del said["scenario"], said["results"]  # `invoke history` asks for them
    for name in SAME & said.keys():
        assert len(said[name]) == 1, (name, said[name])


def test_no_command_has_an_option_under_its_old_name() -> None:
    for context in tasks.namespace.to_contexts():
        assert not {"--interfaces", "--operation", "--arm"} & context.flags.keys()


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (("run", "--help"), "--counts=STRING"),
        (("compare", "nosysfs", "--help"), "--until=STRING"),
        (("selftest", "--help"), "tools/testing/selftests"),
    ],
)
def test_a_command_explains_itself(words: tuple[str, ...], shows: str) -> None:
    end = invoke(*words)
    assert (end.returncode, end.stderr) == (0, "")
    assert shows in end.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("calibrate", "--interfaces", "5"), "--interfaces is now --counts"),
        (("profile", "--arm=group"), "--arm is now --arms"),
        (("profile", "--operation", "up"), "--operation is now --operations"),
        (("run", "--listeners", "3"), "--listeners is now --param listeners=N"),
        (("compare", "a", "b", "--listeners=3"), "--listeners is now --param listeners=N"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(words: tuple[str, ...], says: str) -> None:
    end = invoke(*words)
    assert end.returncode == 2
    assert end.stderr.startswith(f"usage: {says}\n")


def test_the_list_has_a_line_for_every_command() -> None:
    listed = invoke("--list").stdout
    for command in COMMANDS:
        assert f"  {command.name} " in listed


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_of_every_command_is_completed(command: Command) -> None:
    offered = cli.completions(command, [command.name, "--"])
    assert offered[0] == "--help"
    for flag in offered[1:]:
        values = cli.completions(command, [command.name, flag])
        if flag == "--scenario" and command.name != "history":
            assert values == list(names())
    assert all(isinstance(word, str) for word in cli.completions(command, [command.name]))


def test_bash_completes_what_the_lab_knows(tmp_path: Path) -> None:
    (tmp_path / "results" / "20260102T030405Z-compare").mkdir(parents=True)
    (tmp_path / "tasks.py").symlink_to(ROOT / "tasks.py")
    script = f"""
    PATH={Path(INVOKE).parent}:$PATH
    eval "$(invoke --print-completion-script bash)"
    COMP_WORDS=(invoke $1)
    _complete_invoke invoke "${{COMP_WORDS[-1]}}"
    echo ${{COMPREPLY[*]}}
    """
    env = environment({"PYTHONPATH": str(ROOT)})
    for typed, offered in {
        "sel": "selftest",
        "run --fr": "--fresh-guest",
        "run --kernel no": "nosysfs",
        "run --scenario r": "routes",
        "show 2026": "20260102T030405Z-compare",
    }.items():
        argv = ["bash", "-c", script, "bash", typed]
        done = subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == (f"{offered}\n", ""), typed


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    env = environment({"PYTHONPATH": str(ROOT)})
    argv = [INVOKE, *words]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
