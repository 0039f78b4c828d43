"""A session: a machine and its agent, joined; and what a broken one means.

Here, and only here, the two meet: whether a silence, a torn line or an end of
QEMU is the kernel's fault or the lab's is decided from what both know.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.agent.client import Agent, AgentRestarted
from linklab.agent.line import AgentLine, Companion, ConsoleLine, LineClosed
from linklab.agent.replies import Hello
from linklab.console.report import Report
from linklab.errors import (
    GuestHung,
    Interrupted,
    KernelCrashed,
    LabError,
    LinklabError,
    MachineLost,
    ModuleRefused,
    Verdict,
)
from linklab.machine.process import Machine, MachineEnd
from linklab.machine.qmp import load_state, save_state
from linklab.machine.spec import MachineSpec, RamFile
from linklab.paths import EXTERNAL_MODULES

_SETTLE_QUIET = 0.3  # s without a byte: the kernel has said what it had to say
_SETTLE_FLOOD = 1.0  # s at most for a console that says anything but a report
_SETTLE_LIMIT = 3.0  # s at most for a report, or for QEMU to follow its lines
_POWER_OFF_LIMIT = 15.0  # s for a guest to end when asked
_AGENT_ENDED = re.compile(r"linklab-init: the agent ended: wait status (0x[0-9a-f]+)")
_TOLD_TO_END = "linklab-init: told to end"
_MODULE_REFUSED = re.compile(r"linklab-init: module (\S+) did not load: (.*)")


class _KernelSpoke(Exception):
    """The console holds a report; the wait for the agent is over."""


class Session:
    """A booted guest with its agent ready.

    `boot_seconds` is the host's time from QEMU's start to the agent's hello.
    """

    def __init__(self, machine: Machine, console: ConsoleLine, boot_limit: float) -> None:
        self.machine = machine
        self.console = console
        companions = (
            Companion(console.fileno(), self._console_ready),
            Companion(machine.pidfd, self._machine_ended),
        )
        self._line = AgentLine(machine.agent, companions)
        self.agent = Agent(self._line)
        self._boot_limit = boot_limit
        self.hello: Hello
        self.boot_seconds = 0.0

    def wait_until_ready(self) -> None:
        """Wait for the agent's hello."""
        self.hello = self.agent.wait_for_hello(self.machine.started + self._boot_limit)
        self.boot_seconds = time.monotonic() - self.machine.started

    def wake_up(self, hello: Hello) -> None:
        """Tell a resumed guest the time, and to draw other random numbers than its twins.

        `hello` is what its agent said before it was saved. Raises `LabError`
        when another agent answers: that guest was booted and not resumed.
        """
        self.hello = hello
        nonce = self.agent.wake(self.machine.started + self._boot_limit)
        self.boot_seconds = time.monotonic() - self.machine.started
        if nonce != hello.nonce:
            raise LabError("the resumed guest is not the one that was saved")

    def finish(self) -> None:
        """End the guest in order and take the kernel's last words into account."""
        self.agent.power_off(time.monotonic() + _POWER_OFF_LIMIT)
        self._line.companions.clear()
        end = _settle(self.machine, self.console, True, _POWER_OFF_LIMIT)
        watch = self.console.watch
        if watch.reports or _MODULE_REFUSED.search(watch.tail):
            raise _KernelSpoke
        if end is None:
            raise GuestHung(
                f"the guest did not end within {_POWER_OFF_LIMIT:.0f} s of its last word"
            )
        if not end.orderly:
            raise MachineLost(end.text)

    def _console_ready(self) -> None:
        self.console.pump()
        if self.console.closed:
            raise LineClosed("the console's line is closed")
        if self.console.watch.reports:
            raise _KernelSpoke

    def _machine_ended(self) -> None:
        raise LineClosed("QEMU ended")


RAM = "ram"
STATE = "state"


@dataclass(frozen=True)
class Snapshot:
    """A guest saved when its agent was ready: its memory, its devices, its greeting."""

    folder: Path
    hello: Hello

    @property
    def ram(self) -> Path:
        """The guest's memory, as large as that and mostly holes."""
        return self.folder / RAM

    @property
    def state(self) -> Path:
        """The state of its devices."""
        return self.folder / STATE


@contextmanager
def open_session(
    qemu: Path | str,
    spec: MachineSpec,
    console_log: Path,
    boot_limit: float,
    snapshot: Snapshot | None = None,
) -> Iterator[Session]:
    """Boot a machine and yield it with its agent ready; end it on every way out.

    With a `snapshot` the guest goes on from there instead. `boot_limit` is the
    seconds it may take to the agent's hello. Everything that ends a session
    early comes out as a `LinklabError` of the right kind, with the console's
    last lines as evidence.
    """
    with ExitStack() as stack:
        if snapshot is None:
            machine = stack.enter_context(Machine(qemu, spec))
        else:
            state = stack.enter_context(snapshot.state.open("rb")).fileno()
            resumed = replace(spec, ram=RamFile(snapshot.ram, private=True), incoming=True)
            machine = stack.enter_context(
                Machine(qemu, resumed, controlled=True, pass_fds=(state,))
            )
        with _attended(machine, console_log, boot_limit) as session:
            if snapshot is None:
                session.wait_until_ready()
            else:
                load_state(machine.control, f"fd:{state}", boot_limit)
                session.wake_up(snapshot.hello)
            yield session
            session.finish()


def save_session(qemu: Path | str, spec: MachineSpec, folder: Path, boot_limit: float) -> Snapshot:
    """Boot a machine and save it in `folder` the moment its agent is ready."""
    saved = replace(spec, ram=RamFile(folder / RAM, private=False))
    with (
        Machine(qemu, saved, controlled=True) as machine,
        _attended(machine, folder / "console.log", boot_limit) as session,
    ):
        session.wait_until_ready()
        save_state(machine.control, f"exec:cat > {shlex.quote(str(folder / STATE))}", boot_limit)
        return Snapshot(folder, session.hello)


@contextmanager
def _attended(machine: Machine, console_log: Path, boot_limit: float) -> Iterator[Session]:
    """Yield a session on a machine; judge whatever ends it early."""
    console = ConsoleLine(machine.console, console_log)
    try:
        yield Session(machine, console, boot_limit)
    except (_KernelSpoke, LineClosed, LinklabError) as error:
        verdict = _judge(machine, console, error)
        if verdict is error:
            raise
        raise verdict from error
    finally:
        console.close()


def _judge(machine: Machine, console: ConsoleLine, error: Exception) -> LinklabError:
    """Return what a session's early end says, and of whom."""
    end = _settle(machine, console, isinstance(error, LineClosed), _SETTLE_LIMIT)
    verdict = _verdict_on(machine, console, error, end)
    said = machine.last_words
    qemu = f"QEMU said:\n{said}\n" if said and said not in verdict.message else ""
    verdict.evidence = "\n".join(filter(None, (verdict.evidence, qemu, _evidence(console))))
    return verdict


def _verdict_on(  # noqa: PLR0911 - a list of cases, the first that holds counts
    machine: Machine, console: ConsoleLine, error: Exception, end: MachineEnd | None
) -> LinklabError:
    if isinstance(error, Interrupted):
        return error
    if reports := console.watch.reports:
        return _fault_of(reports[0])
    if isinstance(error, LinklabError) and not isinstance(error, GuestHung | AgentRestarted):
        return error  # it was found out before the machine ended, if it did
    if word := _word_of_init(console.watch.tail):
        return word
    if end is not None and not end.orderly:
        return MachineLost(end.text)
    if end is not None or isinstance(error, AgentRestarted):
        return KernelCrashed("the guest reset without a word on its console")
    if _is_stopped(machine.pid):
        return MachineLost(f"QEMU (process {machine.pid}) is stopped: somebody sent it a signal")
    if isinstance(error, GuestHung):
        return error
    return MachineLost(f"QEMU closed its lines and still runs ({error})")


def _word_of_init(tail: str) -> LinklabError | None:
    """Return what the guest's first process says, with its last words, of its end."""
    if _TOLD_TO_END in tail:
        return Interrupted("somebody ended the guest at its console")
    if ended := _AGENT_ENDED.search(tail):
        how = "was stopped" if os.WIFSTOPPED(int(ended[1], 16)) else "died"
        return LabError(f"the agent in the guest {how}, the kernel did not")
    if refused := _MODULE_REFUSED.search(tail):
        return _module_fault(refused[1], refused[2].strip())
    return None


def _module_fault(file: str, why: str) -> LinklabError:
    """Return what it says when a module does not load: one of --module is under test itself."""
    folder, _, name = file.rpartition("/")
    name = name.removesuffix(".ko")
    if folder == EXTERNAL_MODULES:
        return ModuleRefused(f"the module {name} did not load: {why}")
    return LabError(
        f"{name}, a module of the kernel's own, did not load: {why}. "
        "Do the modules belong to this kernel?"
    )


def _fault_of(report: Report) -> LinklabError:
    if report.verdict is Verdict.HANG:
        return GuestHung(f"the kernel reports that it stands still: {report.title}")
    return KernelCrashed(f"the kernel reports: {report.title}")


def _settle(
    machine: Machine, console: ConsoleLine, expect_end: bool, limit: float
) -> MachineEnd | None:
    """Read the console to the end of what it has to say; return QEMU's end, if it ended.

    Takes at most `limit` seconds. Unless its end is expected, no longer than
    the console speaks, and soon no longer than it reports: it may be flooded.
    """
    began = time.monotonic()
    until = began + limit
    poller = select.poll()
    poller.register(console.fileno(), select.POLLIN)
    while not console.closed and time.monotonic() < until:
        if not poller.poll(_SETTLE_QUIET * 1000) and not expect_end:
            break
        console.pump()
        is_awaited = expect_end or console.watch.is_in_report
        if not is_awaited and time.monotonic() > began + _SETTLE_FLOOD:
            break
    while (end := machine.poll()) is None and console.closed and time.monotonic() < until:
        time.sleep(0.01)
    return end


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in "Tt"


def _evidence(console: ConsoleLine) -> str:
    tail = console.watch.tail.strip()
    shown = f"the console's last lines:\n{tail}\n" if tail else "the console is empty\n"
    return f"{shown}the console's log: {console.log_path}"
