"""The lab's own figures: boots, requests, rebuilds, whole commands."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich import box
from rich.table import Table
from rich.text import Text

from linklab.agent.client import Agent
from linklab.errors import LabError
from linklab.events import ignore
from linklab.host.accel import Accel
from linklab.host.cache import Cache, discard
from linklab.host.run import run
from linklab.kernel.compile import BZIMAGE
from linklab.kernel.kernel import BuildOptions, KernelSpec, build_kernel
from linklab.kernel.series import read_series
from linklab.kernel.source import open_source
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Clock
from linklab.paths import ROOT
from linklab.results.figures import seconds_are
from linklab.results.shape import Cell
from linklab.scenarios import DEFAULT, scenario_named
from linklab.scenarios.scenario import GUEST
from linklab.trials.guest import host_of

TOUCHED = "net/core/rtnetlink.c"
_ROUND_TRIPS = 1000  # in each guest
_COMMAND_LIMIT = 600.0  # s
_ANSWER = "answer"
_INVOKE = str(Path(sys.executable).with_name("invoke"))
_RUN = (_INVOKE, "run")
_EXEC = (_INVOKE, "exec")

Teller = Callable[[int, str], None]
"""Is told which repetition begins, and of what."""


@dataclass(frozen=True)
class BenchFigure:
    """One figure of the lab: its values, and the most that it should be."""

    name: str
    unit: str
    values: tuple[float, ...]
    aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """The median as a part of the aim: below 1 it is met."""
        return median(self.values) / self.aim if self.aim else None


def boots(
    lab: Lab, subject: Subject, repeat: int, tell: Teller
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return seconds from QEMU's start to the agent, and the median round trip in ms, of guests."""
    seconds, trips = [], []
    with tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder:
        for turn in range(repeat):
            tell(turn, f"{lab.boot} boot")
            with lab.session(subject, Path(folder) / "console.log") as session:
                seconds.append(session.boot_seconds)
                trips.append(median(_round_trips(session.agent)))
    return tuple(seconds), tuple(trips)


def smallest_cell() -> Cell:
    """Return the first of what the default scenario measures."""
    return Cell((axis.name, axis.values[0]) for axis in scenario_named(DEFAULT).shape.axes)


def trials(lab: Lab, subject: Subject, repeat: int, tell: Teller) -> tuple[float, ...]:
    """Return the host's seconds of a trial of the smallest cell, with what goes around it.

    What the guest says that it took is no figure of the lab: in virtual time
    it says nothing of how long one waits for it.
    """
    seconds = []
    kind, cell = scenario_named(DEFAULT), smallest_cell()
    scenario = kind({each.name: each.default for each in kind.parameters})
    setup = cell.of(kind.shape.per_guest)
    with (
        tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder,
        lab.session(subject, Path(folder) / "console.log") as session,
    ):
        hosts = {GUEST: host_of(session, lab, kind, setup, None)}
        list(scenario.set_up(hosts, setup))
        scenario.warm_up(hosts)
        for turn in range(repeat):
            tell(turn, "trials")
            began = time.perf_counter()
            scenario.prepare(hosts, cell)
            scenario.trial(hosts, cell)
            scenario.check(hosts, cell)
            seconds.append(time.perf_counter() - began)
    return tuple(seconds)


def _round_trips(agent: Agent) -> Iterator[float]:
    """Yield the milliseconds of requests that make the guest do next to nothing."""
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        agent.read_file("/dev/null", time.monotonic() + 30)
        yield (time.perf_counter() - began) * 1e3


@dataclass(frozen=True)
class Edits:
    """Seconds from a changed line to a kernel, and on to the printed table, one a repetition."""

    to_kernel: tuple[float, ...]
    to_table: tuple[float, ...]


def edits(name: str, repeat: int, cache: Cache, tell: Teller) -> Edits:
    """Return the seconds from a changed line in one file to a kernel and to its table.

    The first rebuild is not counted: it may have to begin with all of the kernel.
    """
    source = open_source(None, cache, ignore)
    assert source is not None
    blob = ["cat-file", "blob", f"{source.tree}:{TOUCHED}"]
    head = source.store.git(blob).stdout.decode().splitlines()[:3]
    kernels, tables = [], []
    with tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder:
        for turn in range(-1, repeat):
            tell(turn, f"rebuild after {TOUCHED} changed")
            patch = Path(folder) / f"{turn}.patch"
            patch.write_text(one_line_patch(f"{time.time_ns()}", head))
            began = time.monotonic()
            options = BuildOptions(patches=read_series([patch]).patches)
            built = build_kernel(KernelSpec(name, options), cache, ignore)
            kernels.append(time.monotonic() - began)
            kernel = ["--kernel", str(built.file(BZIMAGE)), "--counts", "128,256"]
            whole_command([*_RUN, *kernel, "--output", f"{folder}/{turn}"])
            tables.append(time.monotonic() - began)
            discard(built.path)  # nobody will ask for this one again
    return Edits(tuple(kernels[1:]), tuple(tables[1:]))


def one_line_patch(mark: str, head: list[str]) -> str:
    """Return a patch that puts a comment in front of a file that begins with `head`."""
    lines = [
        f"--- a/{TOUCHED}",
        f"+++ b/{TOUCHED}",
        f"@@ -1,{len(head)} +1,{len(head) + 1} @@",
        f"+/* {mark} */",
        *(f" {line}" for line in head),
    ]
    return "\n".join(lines) + "\n"


def smallest_run(
    subject: Subject, boot: str, clock: Clock, repeat: int, tell: Teller
) -> tuple[float, ...]:
    """Return seconds of `invoke run` as a whole: one group request on 128 interfaces.

    The image's size is left out of the run by naming a fragment that asks for
    nothing: the ISO is not part of the way from command to answer.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder:
        nothing = Path(folder) / "nothing.config"
        nothing.write_text("# nothing\n")
        own = ["--config", str(nothing)] if subject.known else []
        words = [
            *(*_RUN, "--kernel", subject.name),
            *("--counts", "128", "--arms", "group", "--boot", boot),
            *("--clock", clock.value, *own),
        ]

        def once(turn: int) -> list[str]:
            tell(turn, f"whole command, {boot} boot")
            return [*words, "--output", f"{folder}/{boot}-{turn}"]

        whole_command(once(-1))  # what is not cached yet must not count
        return tuple(whole_command(once(turn)) for turn in range(repeat))


def smallest_exec(subject: Subject, boot: str, repeat: int, tell: Teller) -> tuple[float, ...]:
    """Return seconds of `invoke exec` as a whole: a command that does nothing."""
    words = [*_EXEC, "--kernel", subject.name, "--boot", boot, "true"]
    whole_command(words)  # what is not cached yet must not count
    seconds = []
    for turn in range(repeat):
        tell(turn, f"a command in a guest, {boot} boot")
        seconds.append(whole_command(words))
    return tuple(seconds)


def virtme_ng(kernel: Path, accel: Accel, repeat: int, tell: Teller) -> tuple[float, ...]:
    """Return seconds of virtme-ng as a whole: boot `kernel`, say its release, end.

    Raises `LabError` where it ends without the guest's answer.
    """
    seconds = []
    for turn in range(repeat):
        tell(turn, "virtme-ng")
        with tempfile.TemporaryDirectory(prefix="linklab-vng-") as folder:
            seconds.append(_answered(vng_words(kernel, accel, Path(folder)), Path(folder)))
    return tuple(seconds)


def vng_words(kernel: Path, accel: Accel, folder: Path) -> list[str]:
    """Return virtme-ng's command line for the least that it can do.

    The guest writes its answer into a folder of the host: without a terminal,
    or without a virtio console built into the kernel, virtme-ng prints none.
    """
    slow = ["--disable-kvm"] if accel is Accel.TCG else []
    say = f"uname -r > {shlex.quote(str(folder / _ANSWER))}"
    return ["vng", *slow, "--rwdir", str(folder), "--run", str(kernel), "--", say]


def _answered(words: Sequence[str], folder: Path) -> float:
    """Return the seconds of a command that leaves an answer in a folder.

    The status says nothing: without that console it is 255 whatever the guest did.
    """
    began = time.perf_counter()
    ended = run(words, cwd=ROOT, deadline=_COMMAND_LIMIT, check=False)
    seconds = time.perf_counter() - began
    answer = folder / _ANSWER
    if not answer.is_file() or not answer.read_text().strip():
        said = (ended.stderr or ended.stdout).decode(errors="replace").rstrip()[-4000:]
        raise LabError(
            f"no answer from the guest, status {ended.returncode} from: {shlex.join(words)}", said
        )
    return seconds


def whole_command(words: Sequence[str]) -> float:
    """Run a command from the shell's prompt to its return; raises if it fails."""
    began = time.perf_counter()
    run(words, cwd=ROOT, deadline=_COMMAND_LIMIT)
    return time.perf_counter() - began


def empty_table(
    lab: Lab,
    subject: Subject,
    about: str,
    columns: Sequence[str],
    words: int = 1,
    caption: str = "",
) -> Table:
    """Return a table without rows, the accelerator over it; the first columns hold `words`."""
    seconds = seconds_are({"accel": lab.accel.value, "clock": lab.clock.value})
    kernel = f"kernel {subject.name} {subject.release}, QEMU {lab.qemu.version}"
    shown = Table(
        title=Text(f"{seconds}\n{kernel}{about}"),
        title_justify="left",
        caption=Text(caption) if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number < words else "right")
    return shown


def table(lab: Lab, subject: Subject, figures: Sequence[BenchFigure]) -> Table:
    """Return the table: the accelerator first, each figure with its aim."""
    columns = ("figure", "median", "least", "most", "runs", "aim", "of the aim")
    shown = empty_table(lab, subject, ", medians", columns)
    for figure in figures:
        values = figure.values
        shown.add_row(
            figure.name,
            f"{median(values):.3g} {figure.unit}",
            f"{min(values):.3g}",
            f"{max(values):.3g}",
            str(len(values)),
            f"{figure.aim:.3g} {figure.unit}" if figure.aim else "",
            f"{figure.ratio:.2f}" if figure.ratio else "",
        )
    return shown
