"""A session: a machine and its agent, joined, and watched from its start to its end.

Here the two meet; what an early end means is judged in `linklab/lab/attribution.py`.
Guests of one topology have sessions that begin together and are heard together: while
the lab waits for one it hears all, and what ends one is put down to that one.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.agent.client import Agent
from linklab.agent.line import AgentLine, ConsoleLine, LineClosed, LineStuck, PollHandler
from linklab.agent.protocol import Field, FieldReader
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
    KernelFault,
    LabError,
    LinklabError,
    MachineLost,
)
from linklab.host.accel import Accel
from linklab.host.cache import Cached
from linklab.lab.attribution import attribute, drain, has_refused_module, wait_for_exit
from linklab.lab.console_access import ConsoleAccess, Hold, TakenOver
from linklab.lab.kernel_reports import FiledReport, KernelReports, file_reports
from linklab.machine.commandline import AGENT_PATH
from linklab.machine.process import Machine
from linklab.machine.qmp import kvm_exits, load_state, save_state
from linklab.machine.spec import DirectBoot, MachineSpec, RamFile

_POWER_OFF_LIMIT = 15.0  # s for a guest to end when asked
_READ_LIMIT = 20.0  # s for a small file
_SIGN_OF_LIFE = 3.0  # s for an agent without work to answer
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

    def __init__(
        self,
        line: AgentLine,
        before: Callable[[], None],
        after: Callable[[], None],
        first: int | None,
    ) -> None:
        super().__init__(line, first)
        self._before = before
        self._after = after

    def _ask(self, operation: str, fields: Sequence[Field], deadline: float) -> FieldReader:
        self._before()
        return super()._ask(operation, fields, deadline)

    def _done(self) -> None:
        self._after()


@dataclass
class _Company:
    """Sessions that are heard together, and the one that an exception is about.

    That is the one that was last asked something, unless another one spoke up.
    """

    sessions: list[Session]
    subject: Session


class Session:
    """A booted guest with its agent ready.

    `boot_seconds` is the host's time from QEMU's start to the agent's hello;
    `reports` what the kernel said of its own trouble. `name` is the host's that
    it is, where there are several.
    """

    def __init__(
        self,
        machine: Machine,
        console: ConsoleLine,
        boot_limit: float,
        noise: Noise = NO_NOISE,
        start: Start | None = None,
        people: ConsoleAccess | None = None,
    ) -> None:
        self.machine = machine
        self.console = console
        self.name = start.name if start else ""
        self.symbols = start.symbols if start else None
        self.people = people
        self.company = _Company([self], self)
        is_resumed = start is not None and start.snapshot is not None
        handlers = [
            PollHandler(each.fileno, self._speaking_up(each.ready))
            for each in (
                PollHandler(console.fileno(), self._console_ready),
                PollHandler(machine.pidfd, self._machine_ended),
                *(people.handlers if people else ()),
            )
        ]
        self._heard = {handler.fileno for handler in handlers}
        first = None
        if machine.spec.is_virtual:
            first = _FIRST_RESUMED if is_resumed else _FIRST_BOOTED
        turns = machine.control if machine.spec.is_virtual else None
        self.line = AgentLine(machine.agent, handlers, turns)
        self.line.denied = machine.denied
        self.agent: Agent = _AttentiveAgent(self.line, self._asked, self._request_done, first)
        self.reports = KernelReports(console.watch, noise, _is_private(machine.spec))
        self._boot_limit = boot_limit
        self.ignored: tuple[FiledReport, ...] = ()  # known noise, once the session is over
        self._asks_log = False
        self._taint: int | None = None
        self.hello: Hello
        self.boot_seconds = 0.0

    def _asked(self) -> None:
        self.company.subject = self

    def _speaking_up(self, ready: Callable[[], None]) -> Callable[[], None]:
        """Return what a handler does, which says whom its exceptions are about."""

        def act() -> None:
            try:
                ready()
            except Exception:
                self.company.subject = self
                raise

        return act

    def wait_until_ready(self) -> None:
        """Wait for the agent's hello."""
        self._asked()
        self.hello = self.agent.wait_for_hello(self.machine.started + self._boot_limit)
        self.boot_seconds = time.monotonic() - self.machine.started
        if self.machine.spec.is_virtual:
            # QEMU's own seed reaches no guest that is entered through PVH.
            self.agent.resume(
                time.monotonic() + self._boot_limit,
                _VIRTUAL_NOW,
                _entropy(self.machine.spec.seed),
            )
        self._taint = self._read_taint()

    def take_up(self, state: int, hello: Hello) -> None:
        """Go on where a guest was saved, in a file that QEMU inherited; see `wake_up`."""
        self._asked()
        load_state(self.machine.control, f"fd:{state}", self._boot_limit)
        self.wake_up(hello)

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
        nonce = self.agent.resume(time.monotonic() + self._boot_limit, now, entropy)
        self.boot_seconds = time.monotonic() - self.machine.started
        if nonce != hello.nonce:
            raise LabError("the resumed guest is not the one that was saved")
        self._taint = self._read_taint()

    def outside(self) -> dict[str, float]:
        """Return what this machine knows of the guest: what it took, and how long it booted.

        `exits` are there where KVM counts them. Raises `LabError`.
        """
        found = {"boot_seconds": self.boot_seconds, "cpu_seconds": self.machine.cpu_seconds}
        if self.machine.spec.accel is Accel.KVM:
            found["exits"] = kvm_exits(self.machine.control, self._boot_limit)
        return found

    def finish(self) -> None:
        """End the guest in order and take the kernel's last words into account."""
        faults = taint.new_faults(self._taint, self._read_taint())
        self.agent.power_off(time.monotonic() + _POWER_OFF_LIMIT)
        self._take_leave()
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

    def _take_leave(self) -> None:
        """Let nobody take this guest's end for news any more."""
        for each in self.company.sessions:
            left = [h for h in each.line.handlers if h.fileno not in self._heard]
            each.line.handlers = left

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
        except (LinklabError, LineClosed):  # the last word may have been said, and QEMU have ended
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


@dataclass(frozen=True)
class Start:
    """What a guest begins with. `name` is the host's that it is, where there are several.

    With a `snapshot` it goes on from there instead of booting. Its reports are
    decoded by `symbols`, a vmlinux with debug information.
    """

    spec: MachineSpec
    console_log: Path
    snapshot: Snapshot | None = None
    symbols: Path | None = None
    name: str = ""


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
    started: Callable[[], None] | None = None,
) -> Iterator[Session]:
    """Boot one machine; see `open_sessions`."""
    start = Start(spec, console_log, snapshot, symbols)
    with open_sessions(qemu, [start], boot_limit, noise, hold, started=started) as (session,):
        yield session


@contextmanager
def open_sessions(
    qemu: Path | str,
    starts: Sequence[Start],
    boot_limit: float,
    noise: Noise = NO_NOISE,
    hold: Hold | None = None,
    others: Sequence[PollHandler] = (),
    started: Callable[[], None] | None = None,
) -> Iterator[list[Session]]:
    """Boot machines and yield them with their agents ready; end them on every way out.

    They start at the same time: `started` is called when all QEMUs run. `boot_limit`
    is the seconds that they may take to the agents' hellos; reports that `noise`
    covers do not end them. `others` are looked after while anybody waits. People may
    look at the consoles meanwhile (`linklab/lab/console_access.py`); `hold` takes a
    guest that failed. Everything that ends a session early comes out as a
    `LinklabError` of the right kind, with the last lines of that guest's console as
    evidence.
    """
    with ExitStack() as stack:
        sessions: list[Session] = []
        states: list[int] = []
        for start in starts:
            spec = start.spec
            if start.snapshot is not None:
                states.append(stack.enter_context(start.snapshot.state.open("rb")).fileno())
                spec = replace(spec, ram=RamFile(start.snapshot.ram, private=True), incoming=True)
            inherited = tuple(states[-1:]) if start.snapshot else ()
            opened = Machine(qemu, spec, controlled=True, pass_fds=inherited)
            machine = stack.enter_context(opened)
            console = stack.enter_context(closing(ConsoleLine(machine.console, start.console_log)))
            access = ConsoleAccess(machine, console, hold, start.symbols)
            people = stack.enter_context(access)
            sessions.append(Session(machine, console, boot_limit, noise, start, people))
        if started is not None:
            started()
        with _attended(sessions, others):
            for session, start in zip(sessions, starts, strict=True):
                if start.snapshot is None:
                    session.wait_until_ready()
                else:
                    session.take_up(states.pop(0), start.snapshot.hello)
            yield sessions
            for session in sessions:
                session.finish()


def save_session(qemu: Path | str, spec: MachineSpec, folder: Path, boot_limit: float) -> Hello:
    """Boot a machine and save it in `folder` the moment its agent is ready; return its greeting.

    Its interfaces lead nowhere until it is resumed.
    """
    loose = ExitStack()
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in spec.nics]
    for end in (end for pair in ends for end in pair):
        loose.enter_context(end)
    nics = tuple(
        replace(nic, fd=near.fileno()) for nic, (near, _) in zip(spec.nics, ends, strict=True)
    )
    saved = replace(spec, ram=RamFile(folder / RAM, private=False), nics=nics)
    with (
        loose,
        Machine(qemu, saved, controlled=True) as machine,
        closing(ConsoleLine(machine.console, folder / "console.log")) as console,
    ):
        session = Session(machine, console, boot_limit)
        with _attended([session]):
            session.wait_until_ready()
            session.await_stop(boot_limit)
            where = f"exec:cat > {shlex.quote(str(folder / STATE))}"
            save_state(machine.control, where, boot_limit)
            return session.hello


@contextmanager
def _attended(sessions: list[Session], others: Sequence[PollHandler] = ()) -> Iterator[None]:
    """Hear sessions together; judge whatever ends them early, and let people look at it."""
    company = _Company(sessions, sessions[0])
    heard = [handler for session in sessions for handler in session.line.handlers]
    for session in sessions:
        session.company = company
        session.line.handlers = [*heard, *others]
    try:
        yield
    except TakenOver as error:
        people = company.subject.people
        assert people is not None
        people.leave_to_visitors()
        raise Interrupted("somebody took the guest over at its console") from error
    except (_KernelSpoke, LineClosed, LinklabError) as error:
        subject = _subject_of(company, error)
        verdict = attribute(
            subject.machine, subject.console, subject.reports, error, subject.symbols
        )
        if subject.name and (verdict is not error or isinstance(error, KernelFault | MachineLost)):
            verdict.message = f"guest {subject.name}: {verdict.message}"
        if isinstance(verdict, KernelFault):
            verdict.guest = verdict.guest or subject.name
        if subject.people is not None:
            subject.people.hold(verdict)
        if verdict is error:
            raise
        raise verdict from error
    finally:
        for session in sessions:
            known = session.reports.ignored
            log = session.console.log_path
            session.ignored = file_reports(known, log, session.symbols, known=True)


def _subject_of(company: _Company, error: Exception) -> Session:
    """Return whom an exception is about.

    Before all a guest whose kernel reported something: its peer may have waited for
    it in vain. So it may for one that is silent without a word.
    """
    suspected = company.subject
    others = [session for session in company.sessions if session is not suspected]
    for session in others:
        session.console.read_available()
    for session in (suspected, *others):
        if session.reports.decisive:
            return session
    if isinstance(error, GuestHung):
        return next(filter(_is_silent, others), suspected)
    return suspected


def _is_silent(session: Session) -> bool:
    """Whether an agent that has nothing to do does not answer."""
    session.line.handlers.clear()
    try:
        session.agent.hello(time.monotonic() + _SIGN_OF_LIFE)
    except GuestHung:
        return True
    except (_KernelSpoke, LineClosed, LinklabError):
        return False
    return False
