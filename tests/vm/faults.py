"""Faults that are ordered: what goes wrong, how, and what the lab must make of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guests import LIMIT
from processes import is_gone

from linklab.errors import LinklabError, Verdict
from linklab.events import ignore
from linklab.host.cache import Cache, Cached
from linklab.image.programs import WIRE, build_static
from linklab.lab.guests import GuestNetwork, GuestPlace
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Session, open_session
from linklab.lab.topology import parse
from linklab.machine.spec import Clock, MachineSpec
from linklab.scenarios.scenario import Host, Hosts

IN_GUEST = Path(__file__).parent / "in_guest"
GRACE = 2.0  # s that a verdict may come later than its deadline


@dataclass(frozen=True)
class Outcome:
    """What the lab said, and the seconds it took from the injection."""

    verdict: Verdict
    message: str
    seconds: float


@dataclass
class Scene:
    """Where a fault happens: a lab, its kernel, a folder, and the fault's deadline in seconds.

    `due` is that deadline as the guest's agent is given it: a host that had no CPU
    for the guest postpones it.
    """

    lab: Lab
    subject: Subject
    folder: Path
    limit: float
    injected: float | None = field(default=None, init=False)
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = self.limit

    @contextmanager
    def guest(self, **changes: Any) -> Iterator[Session]:
        """Boot a guest, the lab changed as said."""
        lab = replace(self.lab, **changes)
        with lab.session(self.subject, self.folder / "console.log") as session:
            yield from self._until_due(session)

    @contextmanager
    def network(self, text: str) -> Iterator[GuestNetwork]:
        """Boot a guest for each host of a topology; no process of it may stay."""
        wire = build_static(WIRE, Cache(), ignore).cached(WIRE.file)
        lab = replace(self.lab, guests=GuestPlace(parse(text), wire))
        pids: list[int] = []
        try:
            with lab.network(self.subject, self.folder / "console.log", seed=1) as joined:
                pids += (each.machine.pid for each in joined.sessions.values())
                pids += [joined.wire.pid] if joined.wire.pid else []
                try:
                    yield joined
                finally:
                    lines = [session.line for session in joined.sessions.values()]
                    self.due = max(line.postponed(0.0, self.limit) for line in lines)
        finally:
            assert all(map(is_gone, pids))

    @contextmanager
    def hosts(self, text: str) -> Iterator[tuple[GuestNetwork, Hosts]]:
        """Boot the same, and bring up its hosts."""
        with self.network(text) as joined:
            hosts = {
                name: Host(name, session.agent, lambda _: LIMIT, network=joined.topology)
                for name, session in joined.sessions.items()
            }
            GuestPlace(joined.topology, Cached("")).bring_up(hosts)  # that takes no wire
            yield joined, hosts

    @contextmanager
    def guest_on(self, spec: MachineSpec) -> Iterator[Session]:
        """Boot a guest on a machine of its own kind."""
        log = self.folder / "console.log"
        with open_session(self.lab.qemu.path, spec, log, self.limit) as session:
            yield from self._until_due(session)

    def _until_due(self, session: Session) -> Iterator[Session]:
        try:
            yield session
        finally:
            self.due = session.line.postponed(0.0, self.limit)

    def deadline(self) -> float:
        """Say that the fault is injected now; return when its verdict is due (monotonic)."""
        self.injected = time.monotonic()
        return self.injected + self.limit


Act = Callable[[Scene], "Outcome | None"]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. `act` makes it happen and lets the lab's verdict out.

    `how` says in words how it is injected, `says` is a pattern that the
    verdict's message must have in it; `clocks` are those that it can happen in.
    """

    name: str
    how: str
    expected: Verdict
    says: str
    limit: float
    act: Act
    clocks: tuple[Clock, ...] = (Clock.REAL, Clock.VIRTUAL)

    def play(self, scene: Scene) -> Outcome:
        """Let it happen; return what the lab made of it."""
        try:
            told = self.act(scene)
        except LinklabError as error:
            verdict, message = error.verdict, error.message
        else:
            if told is not None:
                return told
            verdict, message = Verdict.PASS, "nothing was noticed"
        assert scene.injected is not None, f"{self.name} was never injected: {message}"
        return Outcome(verdict, message, time.monotonic() - scene.injected)


def fault(
    name: str,
    how: str,
    expected: Verdict,
    says: str,
    limit: float = 10.0,
    clocks: tuple[Clock, ...] = (Clock.REAL, Clock.VIRTUAL),
) -> Callable[[Act], Fault]:
    """Make a fault of a function that lets it happen."""
    return lambda act: Fault(name, how, expected, says, limit, act, clocks)
