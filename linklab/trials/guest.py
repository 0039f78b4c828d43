"""A guest at work: one job at a time, and what came of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from linklab.errors import (
    GuestHung,
    GuestIncomplete,
    KernelFault,
    LabError,
    LinklabError,
    RequestRefused,
    WrongState,
)
from linklab.host.accel import Accel
from linklab.host.cpus import pin
from linklab.lab import spaces
from linklab.lab.captures import check_room
from linklab.lab.guests import GuestNetwork
from linklab.lab.kernel_reports import FiledReport
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Session
from linklab.lab.spaces import SpaceLinks, over_a_cut_link
from linklab.lab.topology import Topology
from linklab.machine.spec import Clock
from linklab.results.model import BootRecord, TallyRecord
from linklab.results.shape import Cell, Course
from linklab.scenarios.scenario import GUEST, Host, Hosts, Metrics, Scenario
from linklab.trials.leaks import cells_to_repeat, end_work
from linklab.trials.links import check_links
from linklab.trials.plan import CountSyscalls, GuestSlot, Leaks, Plan, Turn

Cores = frozenset[int]
_LOOKS = 5  # at a link in real time, before it is found to be wrong


@dataclass(frozen=True)
class Open:
    """Boot the guest and set it up."""


@dataclass(frozen=True)
class Close:
    """End the guest in order."""


Job = Open | Turn | CountSyscalls | Close


@dataclass(frozen=True)
class Trial:
    """One trial as it ended; 0 is set-up. One that is not `verified` left a wrong state.

    `links` is what links did meanwhile that go through the wire.
    """

    cell: Cell
    number: int
    metrics: Metrics
    verified: bool = True
    links: Mapping[str, int] = field(default_factory=dict)
    courses: tuple[Course, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of a job. After an error the guest is gone.

    There is no tally where the guest's kernel cannot count.
    """

    boot: BootRecord | None = None
    trials: tuple[Trial, ...] = ()
    tally: TallyRecord | None = None
    error: LinklabError | None = None
    ignored: tuple[FiledReport, ...] = ()  # known noise, once the guest has ended


@contextmanager
def authors_code(kind: type[Scenario]) -> Iterator[None]:
    """Let whatever a scenario's code raises be a `LabError` that says where it was raised."""
    try:
        yield
    except LinklabError:
        raise
    except Exception as error:
        told = traceback.format_exc().rstrip()
        text = f"the scenario {kind.name}, or the lab itself, has a fault: {error!r}"
        raise LabError(text, told) from error


def host_of(
    session: Session, lab: Lab, kind: type[Scenario], setup: Cell, limit: float | None
) -> Host:
    """Return a guest as its scenario sees it; `limit` is the seconds for work, if not its own."""
    emulated = lab.accel is Accel.TCG

    def seconds(cell: Cell | None) -> float:
        return limit or lab.slowness * kind.limit(cell or setup, emulated=emulated)

    return Host(GUEST, session.agent, seconds, emulated)


def hosts_in(session: Session, lab: Lab, plan: Plan, setup: Cell) -> Hosts:
    """Return a guest, and the hosts of its scenario's topology within it, if it has one.

    They are brought up, and their links measured. Raises `LabError`.
    """
    guest = host_of(session, lab, plan.kind, plan.known(setup), plan.limit)
    network = plan.kind.network(plan.given_in(setup))
    if network is None:
        return {GUEST: guest}
    spaces.build(network, plan.seed + 1, guest.run, guest.write)
    if lab.captures:
        spaces.start_captures(network, guest)
    wires = SpaceLinks(network, plan.seed + 1, guest.run)
    hosts = {
        name: replace(guest, name=name, inside=spaces.inside(name), network=network, wires=wires)
        for name in network.everyone
    }
    spaces.await_answers(network, hosts)
    check_links(network, hosts, 1 if lab.clock is Clock.VIRTUAL else _LOOKS)
    return {GUEST: guest, **hosts}


class GuestAtWork:
    """A guest from its boot to its end, and the scenario in it."""

    def __init__(
        self, lab: Lab, plan: Plan, subject: Subject, slot: GuestSlot, console_log: Path
    ) -> None:
        self._lab = lab
        self._plan = plan
        self._subject = subject
        self._slot = slot
        self._console_log = console_log
        self._stack = ExitStack()
        self._given = plan.given_in(slot.setup)
        self._scenario = plan.kind(self._given)
        self._sessions: Sequence[Session] = ()
        self._joined: GuestNetwork | None = None
        self._hosts: Hosts = {}
        self._is_warm = False
        self._first: list[Cell] = []  # what was measured in the first round that is kept

    def do(self, job: Job, cores: Cores | None) -> Answer:
        """Do a job; whatever is wrong is in the answer. A signal to end comes through."""
        try:
            with authors_code(self._plan.kind):
                return self._done(job, cores)
        except LinklabError as error:
            return self._failed(error)

    def _done(self, job: Job, cores: Cores | None) -> Answer:
        match job:
            case Open():
                return self._open(cores)
            case Turn():
                return self._turn(job, cores)
            case CountSyscalls():
                return self._count(job)
            case Close():
                with self._judged():
                    self._end_work()
                    if self._joined is not None:
                        self._joined.check_captures()
                self._stack.close()
                return Answer(ignored=self._ignored())

    def drop(self) -> None:
        """End it without asking whether it is well."""
        dropped = _Dropped()
        self._stack.__exit__(type(dropped), dropped, None)

    def _failed(self, error: LinklabError, kept: Sequence[Trial] = ()) -> Answer:
        wires = next((host.wires for host in self._hosts.values() if host.wires), None)
        if wires and wires.cut and isinstance(error, (GuestHung, RequestRefused)):
            error = over_a_cut_link(self._scenario.drawn, wires.cut, error)
        if isinstance(error, KernelFault) and not error.guest:
            error.guest = GUEST
        return Answer(trials=tuple(kept), error=error, ignored=self._ignored())

    def _ignored(self) -> tuple[FiledReport, ...]:
        return tuple(finding for session in self._sessions for finding in session.ignored)

    def _open(self, cores: Cores | None) -> Answer:
        draw = self._plan.draw_of(self._slot)
        setup = self._slot.setup
        network = self._plan.kind.network(self._given)
        joined = None
        if network is not None and self._lab.guests is not None:
            lab, axis = self._lab, self._plan.kind.nic_axis
            lab = lab.with_nics(str(setup[axis])) if axis else lab
            opened = lab.network(self._subject, self._console_log, self._plan.seed + 1, draw)
            self._joined = joined = self._stack.enter_context(opened)
            self._sessions = tuple(joined.sessions.values())
        else:
            alone = self._lab.session(self._subject, self._console_log, draw)
            self._sessions = (self._stack.enter_context(alone),)
        with self._judged():
            self._pin(cores)
            self._hosts = self._made_hosts(network, joined)
            set_up = self._scenario.set_up(self._hosts, self._plan.known(setup))
            made = [self._made(cell, metrics) for cell, metrics in set_up]
        hello = self._sessions[0].hello
        boot = BootRecord(
            kernel=self._subject.name,
            cell=setup,
            seconds=round(max(session.boot_seconds for session in self._sessions), 6),
            clocksource=hello.clocksource,
            clock_resolution=hello.clock_resolution,
        )
        return Answer(boot, tuple(made))

    def _made_hosts(self, network: Topology | None, joined: GuestNetwork | None) -> Hosts:
        """Return the guest, and the hosts of the scenario's topology, if it has one, brought up."""
        kind, limit = self._plan.kind, self._plan.limit
        setup = self._plan.known(self._slot.setup)
        if joined is not None and self._lab.guests is not None:
            hosts = {
                name: replace(
                    host_of(session, self._lab, kind, setup, limit),
                    name=name,
                    network=network,
                    wires=joined,
                    outside=session.outside,
                )
                for name, session in joined.sessions.items()
            }
            self._lab.guests.bring_up(hosts)
            try:
                check_links(joined.topology, hosts, _LOOKS)
            except LabError as error:
                error.message += joined.lateness()
                raise
            joined.check_captures()
            return hosts
        return hosts_in(self._sessions[0], self._lab, self._plan, self._slot.setup)

    def _turn(self, turn: Turn, cores: Cores | None) -> Answer:
        """Do the trials of a turn; one that leaves a wrong state is the guest's last one."""
        kept: list[Trial] = []
        cell = self._plan.known(turn.cell)
        try:
            with self._judged():
                self._pin(cores)
                if not self._is_warm and self._plan.begins_cold:
                    self._scenario.warm_up(self._hosts)
                self._is_warm = True
                self._first += [cell] if turn.number == 1 else []
                for number in range(1 - self._plan.warmup_trials, self._plan.trials + 1):
                    named = number if self._plan.trials > 1 else turn.number
                    self._scenario.prepare(self._hosts, cell)
                    told = self._joined.watch() if self._joined else self._watched
                    metrics = self._checked(self._scenario.trial(self._hosts, cell))
                    courses = tuple(self._scenario.courses(cell))
                    trial = Trial(turn.cell, named, metrics, links=told(), courses=courses)
                    try:
                        self._scenario.check(self._hosts, cell)
                    except WrongState:
                        kept.append(replace(trial, verified=False))
                        raise
                    if number > 0:
                        kept.append(trial)
        except LinklabError as judged:
            if not kept or kept[-1].verified:
                raise
            return self._failed(judged, kept)
        return Answer(trials=tuple(kept))

    def _watched(self) -> dict[str, int]:
        """Return what links in a guest tell of a trial: nothing, but their captures are well."""
        check_room([path for session in self._sessions for path in session.machine.spec.captures])
        return {}

    def _end_work(self) -> None:
        """See what work leaves behind, once for each kernel and cell; delete what it made."""
        if self._lab.captures:
            spaces.end_captures(self._hosts[GUEST])
        plan, chosen = self._plan, self._plan.leaks
        if chosen is Leaks.NONE:
            return
        planned = list(map(plan.known, plan.cells))
        repeated = cells_to_repeat(plan.kind, self._first, planned, chosen)
        lab, subject = self._lab, self._subject
        kernel = {
            "kernels": [subject.sha256, *sorted(each.sha256 for each in subject.hosts.values())],
            "modules": dict(subject.modules),
            "parameters": subject.parameters,
            "image": dict(lab.image),
            "machine": [lab.accel, lab.clock, lab.cpus, lab.memory],
            "given": dict(self._given),
        }
        end_work(self._scenario, self._hosts, repeated, kernel, every=chosen is Leaks.ALL)

    def _made(self, cell: Cell, metrics: Metrics) -> Trial:
        """Return what set-up yielded as trial 0."""
        kind = self._plan.kind
        name, axes = kind.name, {axis.name for axis in kind.shape.axes}
        if set(cell) != axes:
            raise LabError(
                f"scenario {name} yields {cell.text!r} from its set-up: a cell with every axis is "
                f"expected ({', '.join(sorted(axes))})"
            )
        of_all = {**self._slot.setup, **cell}
        whole = Cell((axis.name, of_all[axis.name]) for axis in self._plan.shape.axes)
        return Trial(whole, 0, self._checked(metrics, whole=False))

    def _checked(self, metrics: Metrics, *, whole: bool = True) -> Metrics:
        """Return what a trial yielded; raise `LabError` where that is not what was declared.

        Set-up need not yield the `whole` of it, and nobody what is optional.
        """
        name, shape = self._plan.kind.name, self._plan.shape
        declared = {metric.name: metric for metric in shape.metrics}
        wanted = declared.keys() if whole else {shape.metric.name}
        if unknown := sorted(metrics.keys() - declared.keys()):
            raise LabError(f"scenario {name} yields {unknown[0]}, which its shape does not have")
        needed = {each for each in wanted if not declared[each].optional}
        if missing := sorted(needed - metrics.keys()):
            raise LabError(f"scenario {name} does not yield {missing[0]}, which its shape has")
        for each, value in metrics.items():
            if not isinstance(value, (int, float)) or not isfinite(value):
                raise LabError(f"scenario {name} yields {each} = {value!r}, which is no number")
            if value <= 0 and not declared[each].zero:
                raise LabError(
                    f"scenario {name} yields {each} = {value}, which is compared by its ratio: a "
                    "metric that may be 0 is declared with `zero=True`"
                )
        return metrics

    def _count(self, job: CountSyscalls) -> Answer:
        with self._judged():
            try:
                counted = self._scenario.count(self._hosts, self._plan.known(job.cell))
            except GuestIncomplete:
                return Answer()
        return Answer(tally=TallyRecord(self._subject.name, job.cell, counted))

    def _pin(self, cores: Cores | None) -> None:
        if cores:
            for session in self._sessions:
                pin(session.machine.pid, cores)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Let the session say what an exception means; the guest ends with it."""
        try:
            yield
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise


class _Dropped(Exception):
    """Nobody is interested in the guest any more."""
