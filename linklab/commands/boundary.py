"""Where exceptions become messages and exit statuses."""

from __future__ import annotations

import copy
import functools
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser
from invoke.program import Program

from linklab.errors import Interrupted, LinklabError, Verdict

P = ParamSpec("P")


def command(function: Callable[P, Verdict | None]) -> Callable[P, None]:
    """Make a task of a function that returns a verdict, or None for a pass.

    A `LinklabError` is shown as its message and its evidence, without a
    traceback, and ends Invoke with the verdict's status.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _as_interrupt)
        try:
            verdict = function(*args, **kwargs) or Verdict.PASS
        except KeyboardInterrupt:
            raise _exit_for(Interrupted("interrupted"), as_json=False) from None
        except LinklabError as error:
            raise _exit_for(error, as_json=bool(kwargs.get("json"))) from error
        if verdict.status:
            raise Exit(code=verdict.status)

    return guarded


def show_fault(error: LinklabError) -> None:
    """Print what went wrong, and the evidence below it, to standard error."""
    name = "interrupted" if error.verdict is Verdict.INTERRUPTED else error.verdict.value
    lines = [f"{name}: {error.message}"] if error.message != name else [name]
    if error.evidence:
        lines.append(error.evidence)
    for number in range(len(lines)):
        with suppress(BrokenPipeError):
            print(lines[number], file=sys.stderr, flush=True)


def _exit_for(error: LinklabError, *, as_json: bool) -> Exit:
    show_fault(error)
    if as_json:
        document: dict[str, Any] = {
            "verdict": error.verdict.value,
            "status": error.verdict.status,
            "message": error.message,
            "evidence": error.evidence,
        }
        print(json.dumps(document, indent=1))
    return Exit(code=error.verdict.status)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def refuse_unknown(collection: Collection, argv: Sequence[str]) -> None:
    """End with status 2 where Invoke would end with 1 for words it does not know.

    1 is what scripts, and `git bisect run`, take for "the kernel is bad". So
    the command line is parsed with Invoke's own parser before Invoke does.
    """
    if Path(argv[0]).name not in {"invoke", "inv"}:
        return
    program = Program()
    # A copy: making contexts takes the help texts out of the tasks.
    contexts = copy.deepcopy(collection).to_contexts()
    parser = Parser(initial=program.initial_context, contexts=contexts)
    try:
        parser.parse_argv(list(argv[1:]))
    except ParseError as error:
        raise Exit(f"usage: {error}\n`invoke --list` lists the commands", code=2) from None
