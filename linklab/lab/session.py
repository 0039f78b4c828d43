"""A session: a machine and its agent, joined, and watched from its start to its end.

Here the two meet; what an early end means is judged in `linklab/lab/attribution.py`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.agent.client import Agent
from linklab.agent.line import AgentLine, ConsoleLine, LineClosed, LineStuck, PollHandler
from linklab.agent.replies import Hello
from linklab.console import taint
from linklab.console.formats import Fault
from linklab.console.kmsg import Record, records_in
from linklab.console.report import NO_NOISE, Noise, Report
from linklab.errors import (
    GuestHung,
    GuestIncomplete,
    Interrupted,
    KernelCrashed,
    LabError,
    LinklabError,
    MachineLost,
)
from linklab.host.cache import Cached
from linklab.lab.attribution import attribute, drain, has_refused_module, wait_for_exit
from linklab.lab.console_access import ConsoleAccess, Hold, TakenOver
from linklab.lab.kernel_reports import FiledReport, KernelReports, file_reports
from linklab.machine.commandline import AGENT_PATH
from linklab.machine.process import Machine
from linklab.machine.qmp import load_state, save_state
from linklab.machine.spec import DirectBoot, MachineSpec, RamFile

_POWER_OFF_LIMIT = 15.0  # s for a guest to end when asked
_READ_LIMIT = 20.0  # s for a small file
_LOG = "/dev/kmsg"


# In virtual time nothing that reaches a guest depends on chance.  Requests are counted from
# numbers that have the same length, and a resumed guest's are none that it was saved with.
_FIRST_BOOTED = 0x10000000
_FIRST_RESUMED = 0x20000000
_VIRTUAL_NOW = 1_767_225_600_000_000_000  # ns: 2026-01-01, as `-rtc` has it


def _entropy(seed: int) -> bytes:
    """Return what a resumed guest draws its random numbers from in virtual time."""
    return hashlib.sha512(f"linklab {seed}".encode()).digest()


class _KernelSpoke(Exception):
    """The console holds a report; the wait for the agent is over."""


class _AttentiveAgent(Agent):
    """An agent whose session is told after each request that went well."""

    def __init__(self, line: AgentLine, after: Callable[[], None], first: int | None) -> None:
        super().__init__(line, first)
        self._after = after

    def _done(self) -> None:
        self._after()


class Session:
    """A booted guest with its agent ready.

    `boot_seconds` is the host's time from QEMU's start to the agent's hello;
    `reports` are the kernel's own.
    """

    def __init__(
        self,
        machine: Machine,
        console: ConsoleLine,
        boot_limit: float,
        noise: Noise = NO_NOISE,
        others: Sequence[PollHandler] = (),
        is_resumed: bool = False,
    ) -> None:
        self.machine = machine
        self.console = console
        handlers = (
            PollHandler(console.fileno(), self._console_ready),
            PollHandler(machine.pidfd, self._machine_ended),
            *others,
        )
        first = None
        if machine.spec.is_virtual:
            first = _FIRST_RESUMED if is_resumed else _FIRST_BOOTED
        turns = machine.control if machine.spec.is_virtual else None
        self.line = AgentLine(machine.agent, handlers, turns)
        self.agent: Agent = _AttentiveAgent(self.line, self._request_done, first)
        self.reports = KernelReports(console.watch, noise, _is_private(machine.spec))
        self._boot_limit = boot_limit
        self.ignored: tuple[FiledReport, ...] = ()  # known noise, once the session is over
        self._asks_log = False
        self._taint: int | None = None
        self.hello: Hello
        self.boot_seconds = 0.0

    def wait_until_ready(self) -> None:
        """Wait for the agent's hello."""
        self.hello = self.agent.wait_for_hello(self.machine.started + self._boot_limit)
        self.boot_seconds = time.monotonic() - self.machine.started
        if self.machine.spec.is_virtual:
            # QEMU's own seed reaches no guest that is entered through PVH.
            self.agent.resume(
                self.machine.started + self._boot_limit,
                _VIRTUAL_NOW,
                _entropy(self.machine.spec.seed),
            )
        self._taint = self._read_taint()

    def wake_up(self, hello: Hello) -> None:
        """Tell a resumed guest the time, and to draw other random numbers than its twins.

        `hello` is what its agent said before it was saved. Raises `LabError`
        when another agent answers: that guest was booted and not resumed.
        """
        self.hello = hello
        now, entropy = time.time_ns(), os.urandom(64)
        if self.machine.spec.is_virtual:
            now, entropy = _VIRTUAL_NOW, _entropy(self.machine.spec.seed)
            # It was saved where it had stopped, after its last word.
            self.machine.control.resumed_stopped()
            self.line.has_spoken = True
        nonce = self.agent.resume(self.machine.started + self._boot_limit, now, entropy)
        self.boot_seconds = time.monotonic() - self.machine.started
        if nonce != hello.nonce:
            raise LabError("the resumed guest is not the one that was saved")
        self._taint = self._read_taint()

    def finish(self) -> None:
        """End the guest in order and take the kernel's last words into account."""
        faults = taint.new_faults(self._taint, self._read_taint())
        self.agent.power_off(time.monotonic() + _POWER_OFF_LIMIT)
        self.line.handlers.clear()
        end = wait_for_exit(self.machine, self.console, True, _POWER_OFF_LIMIT)
        if self.reports.decisive:
            raise _KernelSpoke
        if end is None:
            raise GuestHung(
                f"the guest did not end within {_POWER_OFF_LIMIT:.0f} s of its last word"
            )
        if not end.orderly:
            raise MachineLost(end.text)
        if faults and not self.reports.ignored:
            raise _tainted(faults)

    def await_stop(self, limit: float) -> None:
        """Wait until the machine has stopped after the agent's last word, in virtual time."""
        try:
            self.line.await_stop(time.monotonic() + limit)
        except LineStuck as error:
            raise GuestHung(str(error)) from error

    def _read_taint(self) -> int | None:
        """Return the kernel's taint, None for a kernel that does not tell it."""
        try:
            content = self.agent.read_file(taint.PATH, time.monotonic() + _READ_LIMIT)
        except GuestIncomplete:
            return None
        return taint.read_taint(content)

    def _hear_console(self) -> None:
        """Take what the console says; a report to its end, where its title comes from."""
        self.console.read_available()
        if self.console.watch.is_in_report:
            drain(self.console)

    def _console_ready(self) -> None:
        self._hear_console()
        if self.console.closed:
            raise LineClosed("the console's line is closed")
        if self.reports.is_ready or has_refused_module(self.console):
            raise _KernelSpoke

    def _request_done(self) -> None:
        """See what the kernel said meanwhile; ask its own log, if need be, whether that is true.

        The answer may have arrived before the console was read.
        """
        if self._asks_log:
            return
        self._hear_console()
        self._asks_log = True
        try:
            self.reports.confirm(self._kernel_log)
        finally:
            self._asks_log = False
        if self.reports.is_ready:
            raise _KernelSpoke

    def _kernel_log(self) -> list[Record] | None:
        """Return the kernel's log, None where it cannot be read."""
        try:
            content = self.agent.read_file(_LOG, time.monotonic() + _READ_LIMIT)
        except LinklabError:
            return None
        return list(records_in(content.decode(errors="replace")))

    def _machine_ended(self) -> None:
        raise LineClosed("QEMU ended")


def _is_private(spec: MachineSpec) -> bool:
    """Whether programs cannot write to the console: the agent, as process 1, took it away."""
    return isinstance(spec.boot, DirectBoot) and f"rdinit={AGENT_PATH}" in spec.boot.command_line


def _tainted(faults: str) -> KernelCrashed:
    fault = KernelCrashed(f"the kernel is tainted and did not say why on its console: {faults}")
    title = f"kernel tainted: {faults}"
    fault.reports = (Report(Fault.TAINT, title, None, (), fault.message),)
    return fault


RAM = "ram"
STATE = "state"


@dataclass(frozen=True)
class Snapshot:
    """A guest saved when its agent was ready: its memory, its devices, its greeting."""

    folder: Cached
    hello: Hello

    @property
    def ram(self) -> Path:
        """The guest's memory, as large as that and mostly holes."""
        return self.folder.path / RAM

    @property
    def state(self) -> Path:
        """The state of its devices."""
        return self.folder.path / STATE


@contextmanager
def open_session(
    qemu: Path | str,
    spec: MachineSpec,
    console_log: Path,
    boot_limit: float,
    snapshot: Snapshot | None = None,
    noise: Noise = NO_NOISE,
    symbols: Path | None = None,
    hold: Hold | None = None,
) -> Iterator[Session]:
    """Boot a machine and yield it with its agent ready; end it on every way out.

    With a `snapshot` the guest goes on from there instead. `boot_limit` is the
    seconds it may take to the agent's hello; reports that `noise` covers do
    not end it, the others are decoded by `symbols`, a vmlinux with debug
    information. People may look at the console meanwhile (`linklab/lab/console_access.py`);
    `hold` takes a guest that failed. Everything that ends a session early
    comes out as a `LinklabError` of the right kind, with the console's last
    lines as evidence.
    """
    with ExitStack() as stack:
        if snapshot is None:
            machine = stack.enter_context(Machine(qemu, spec, controlled=True))
        else:
            state = stack.enter_context(snapshot.state.open("rb")).fileno()
            resumed = replace(spec, ram=RamFile(snapshot.ram, private=True), incoming=True)
            machine = stack.enter_context(
                Machine(qemu, resumed, controlled=True, pass_fds=(state,))
            )
        console = stack.enter_context(closing(ConsoleLine(machine.console, console_log)))
        people = stack.enter_context(ConsoleAccess(machine, console, hold, symbols))
        is_resumed = snapshot is not None
        with _attended(machine, console, boot_limit, noise, symbols, people, is_resumed) as session:
            if snapshot is None:
                session.wait_until_ready()
            else:
                load_state(machine.control, f"fd:{state}", boot_limit)
                session.wake_up(snapshot.hello)
            yield session
            session.finish()


def save_session(qemu: Path | str, spec: MachineSpec, folder: Path, boot_limit: float) -> Hello:
    """Boot a machine and save it in `folder` the moment its agent is ready; return its greeting."""
    saved = replace(spec, ram=RamFile(folder / RAM, private=False))
    with (
        Machine(qemu, saved, controlled=True) as machine,
        closing(ConsoleLine(machine.console, folder / "console.log")) as console,
        _attended(machine, console, boot_limit) as session,
    ):
        session.wait_until_ready()
        session.await_stop(boot_limit)
        save_state(machine.control, f"exec:cat > {shlex.quote(str(folder / STATE))}", boot_limit)
        return session.hello


@contextmanager
def _attended(
    machine: Machine,
    console: ConsoleLine,
    boot_limit: float,
    noise: Noise = NO_NOISE,
    symbols: Path | None = None,
    people: ConsoleAccess | None = None,
    is_resumed: bool = False,
) -> Iterator[Session]:
    """Yield a session on a machine; judge whatever ends it early, and let people look at it."""
    others = people.handlers if people else ()
    session = Session(machine, console, boot_limit, noise, others, is_resumed)
    try:
        yield session
    except TakenOver as error:
        assert people is not None
        people.leave_to_visitors()
        raise Interrupted("somebody took the guest over at its console") from error
    except (_KernelSpoke, LineClosed, LinklabError) as error:
        verdict = attribute(machine, console, session.reports, error, symbols)
        if people is not None:
            people.hold(verdict)
        if verdict is error:
            raise
        raise verdict from error
    finally:
        known = session.reports.ignored
        session.ignored = file_reports(known, console.log_path, symbols, known=True)
