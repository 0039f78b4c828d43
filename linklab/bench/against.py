"""Two states of the lab's own code against each other: `invoke bench --against DIR`.

The other state is a checkout, with its own environment in `.venv` or with this
one.  Whole commands are taken from the shell's prompt to their return, both
states in turn, so that what else the machine does meets both.  What a state
measures of itself it says in the table of its own `invoke bench`: rows of one
name are held against each other.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich import box
from rich.table import Table
from rich.text import Text

from linklab.bench.figures import Teller
from linklab.errors import UsageError
from linklab.host.run import CommandFailed, run
from linklab.paths import ROOT

_LIMIT = 1800.0  # s for one command: a kernel may have to be built
_ROW = re.compile(r"^ *(\S.*?\S) {2,}([\d.]+(?:e[+-]?\d+)?) (s|ms|MB)\b")
_WIDE = "200"  # columns: a row of the bench's table must not be folded
_TOO_MUCH = 1.05
_BLOCKS = 6
_RESULTS = "{results}"  # stands for a folder of this state's results
_OUTPUT = f"{_RESULTS}/new"  # for a new one in it

Spellings = tuple[tuple[str, ...], ...]
"""One command as states of different age want it said: the first that a state takes is used."""


@dataclass(frozen=True)
class State:
    """A checkout, and the program that runs its commands."""

    folder: Path
    program: tuple[str, ...]
    results: Path

    @classmethod
    def of(cls, folder: Path, results: Path) -> State:
        """Return the state of a checkout, and where it puts results.

        Raises `UsageError` where there is none.
        """
        folder = folder.resolve()
        if not (folder / "tasks.py").is_file() or not (folder / "linklab").is_dir():
            raise UsageError(f"--against {folder}: no checkout of linklab is there")
        own = folder / ".venv" / "bin" / "python"
        program = (str(own) if own.exists() else sys.executable, "-m", "invoke")
        return cls(folder, program, results)

    def said(self, words: Sequence[str]) -> str:
        """Run a command of this state; return what it prints. Raises `CommandFailed`."""
        env = {
            "PYTHONPATH": str(self.folder),
            "COLUMNS": _WIDE,
            "PYTHONDONTWRITEBYTECODE": None,  # or each command compiles the lab anew
        }
        new = str(self.results / f"{time.time_ns()}")
        filled = [new if w == _OUTPUT else str(self.results) if w == _RESULTS else w for w in words]
        return run([*self.program, *filled], cwd=self.folder, env=env, deadline=_LIMIT).text

    def seconds(self, words: Sequence[str]) -> float:
        """Return what a command takes from the prompt to its return."""
        began = time.perf_counter()
        self.said(words)
        return time.perf_counter() - began

    def first_taken(self, spellings: Spellings) -> tuple[tuple[str, ...], str]:
        """Return the first spelling that this state takes, and what it printed."""
        for words in spellings[:-1]:
            with suppress(CommandFailed):
                return words, self.said(words)
        return spellings[-1], self.said(spellings[-1])


@dataclass(frozen=True)
class PairedFigure:
    """One figure of two states, in pairs: what it was there and is here."""

    name: str
    unit: str
    pairs: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Here as a part of there, a pair each."""
        return tuple(here / there for there, here in self.pairs)

    @property
    def worse(self) -> bool:
        """Whether every pair says that it grew by more than a twentieth."""
        return min(self.ratios) > _TOO_MUCH


def commands(kernel: str, clock: str) -> Mapping[str, Spellings]:
    """Return the commands that are timed as a whole, by what they are called in the table."""
    compare = (
        *("compare", kernel, kernel, "--counts", "128", "--arms", "group", "--boot", "resume"),
        *("--blocks", str(_BLOCKS), "--output", _OUTPUT),
    )
    return {
        "`invoke --version`": (("--version",),),
        "`invoke --list`": (("--list",),),
        "`invoke run --help`": (("run", "--help"), ("--help", "run")),
        f"`invoke compare`, {2 * _BLOCKS} resumed guests": (
            (*compare, "--clock", clock),
            compare,
        ),
        "`invoke history`, of these": (("history", "--results", _RESULTS),),
    }


def measure(
    there: State, here: State, kernel: str, clock: str, repeat: int, tell: Teller
) -> Iterator[PairedFigure]:
    """Yield each figure of both states. What is not cached is made first, untimed."""
    for name, spellings in commands(kernel, clock).items():
        each = [(state, state.first_taken(spellings)[0]) for state in (there, here)]
        pairs = []
        for turn in range(repeat):
            tell(turn, name)
            before, now = (state.seconds(words) for state, words in each)
            pairs.append((before, now))
        yield PairedFigure(name, "s", tuple(pairs))
    yield from _own_benches(there, here, kernel, clock, repeat, tell)


def _own_benches(
    there: State, here: State, kernel: str, clock: str, repeat: int, tell: Teller
) -> Iterator[PairedFigure]:
    """Yield the rows that the benches of both states have, of one run of each a pair."""
    bench = ("bench", "--kernel", kernel, "--repeat", "1")
    spellings = ((*bench, "--clock", clock), bench)
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(repeat):
        tell(turn, "the bench of each")
        before, now = (rows(state.first_taken(spellings)[1]) for state in (there, here))
        for row in before.keys() & now.keys():
            pairs.setdefault(row, []).append((before[row], now[row]))
    for (name, unit), values in sorted(pairs.items()):
        yield PairedFigure(name, unit, tuple(values))


def rows(printed: str) -> dict[tuple[str, str], float]:
    """Return the medians of a bench's table by name and unit."""
    found = (_ROW.match(line) for line in printed.splitlines())
    return {(row[1], row[3]): float(row[2]) for row in found if row}


def table(there: State, figures: Sequence[PairedFigure]) -> Table:
    """Return the table: each figure there and here, and the ratio with its range."""
    shown = Table(
        title=Text(f"here, {ROOT.name}, against {there.folder}: medians, and here as a part of it"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("figure", "there", "here", "ratio", "least", "most", "pairs", ""):
        shown.add_column(column, justify="right" if column else "left")
    shown.columns[0].justify = "left"
    for figure in figures:
        before, now = zip(*figure.pairs, strict=True)
        shown.add_row(
            figure.name,
            f"{median(before):.3g} {figure.unit}",
            f"{median(now):.3g} {figure.unit}",
            f"{median(figure.ratios):.2f}",
            f"{min(figure.ratios):.2f}",
            f"{max(figure.ratios):.2f}",
            str(len(figure.pairs)),
            "worse by over 5 %" if figure.worse else "",
        )
    return shown
