"""What people type and Invoke alone does not take: several words, help behind a command."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Container, Sequence
from typing import NoReturn

from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program

from linklab.commands.boundary import is_invoke

SEPARATOR = "\n"
"""Stands between the words that were made one: no folder's name has it."""


def rewritten(collection: Collection, argv: Sequence[str], several: str) -> list[str] | None:
    """Return the words behind the program's name as Invoke takes them, None where it does.

    The words of the task `several` become one. Behind a task that expects a
    word Invoke takes `--help` for that word: it comes before the task instead.
    """
    # A copy: making contexts takes the help texts out of the tasks.
    contexts = {str(each.name): each for each in copy.deepcopy(collection).to_contexts()}
    try:
        core = Parser(initial=Program().initial_context, ignore_unknown=True)
        words = core.parse_argv(list(argv[1:])).unparsed
    except ParseError:
        return None  # Invoke says what is wrong
    if not words or words[0] not in contexts:
        return None
    context, before = contexts[words[0]], argv[1 : len(argv) - len(words)]
    if context.positional_args and words[1:2] in (["--help"], ["-h"]):
        return [*before, "--help", words[0]]
    named, options, rest = _sorted(words[1:], context, contexts)
    if words[0] != several or len(named) < 2:
        return None
    return [*before, words[0], SEPARATOR.join(named), *options, *rest]


def _sorted(
    words: Sequence[str], context: ParserContext, tasks: Container[str]
) -> tuple[list[str], list[str], list[str]]:
    """Return a task's own words, its options with their values, and what begins another task."""
    named: list[str] = []
    options: list[str] = []
    left = list(words)
    while left:
        if left[0].startswith("-"):
            flag, _, value = left[0].partition("=")
            argument = context.flags.get(flag)
            many = 2 if argument and argument.takes_value and not value else 1
            options += left[:many]
            del left[:many]
        elif named and left[0] in tasks:
            break
        else:
            named.append(left.pop(0))
    return named, options, left


def take_words(collection: Collection, argv: Sequence[str], several: str) -> None:
    """Begin again with the words that Invoke takes, where they are others.

    See `rewritten`. By then Invoke has read the command line, and nothing can change what it
    has seen; so the program is replaced by itself.
    """
    if is_invoke(argv[0]) and (words := rewritten(collection, argv, several)) is not None:
        _begin_again(words)


def _begin_again(words: Sequence[str]) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", "invoke", *words])
