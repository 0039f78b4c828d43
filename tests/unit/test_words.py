"""Words that people type and Invoke alone does not take, with Invoke's own parser."""

from __future__ import annotations

import os

import pytest
from invoke.collection import Collection
from invoke.tasks import task

from linklab.commands.words import SEPARATOR, rewritten, take_words


@task(auto_shortflags=False, positional=["runs"])
def report(_context: object, runs: str, output: str = "", deep: bool = False) -> None:
    """Write."""


@task(auto_shortflags=False)
def history(_context: object) -> None:
    """List."""


TASKS = Collection(report, history)
AB = f"a{SEPARATOR}b"


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("report a b", ["report", AB]),
        ("report a b c,d", ["report", f"{AB}{SEPARATOR}c,d"]),
        ("report a --output x b", ["report", AB, "--output", "x"]),
        ("report --output=x a --deep b", ["report", AB, "--output=x", "--deep"]),
        ("report a b history", ["report", AB, "history"]),
        ("report history history", None),
        ("report history a", ["report", f"history{SEPARATOR}a"]),
        ("--echo report a b", ["--echo", "report", AB]),
        ("report a", None),
        ("report a --output b", None),
        ("report", None),
        ("report --frob a b", ["report", AB, "--frob"]),
        ("history report a b", None),
        ("--list", None),
        ("frob a b", None),
        ("report --help", ["--help", "report"]),
        ("report -h", ["--help", "report"]),
        ("history --help", None),
        ("--collection", None),
    ],
)
def test_the_words_of_a_task_become_one(typed: str, taken: list[str] | None) -> None:
    assert rewritten(TASKS, ["invoke", *typed.split()], "report") == taken


def test_the_program_begins_again_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, argv: begun.append(argv[1:]))
    for program, typed in [
        ("pytest", "report a b"),
        ("/bin/inv", "report a"),
        ("inv", "report a b"),
    ]:
        take_words(TASKS, [program, *typed.split()], "report")
    assert begun == [["-m", "invoke", "report", AB]]
