"""Whoever submits: a batch cut into parts, done by workers that are alike, each counted once."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.errors import LabError, LinklabError
from linklab.events import Listener, Note
from linklab.fleet.address import RESOURCE, connected
from linklab.fleet.parcel import packed, rests_on
from linklab.fleet.worker import (
    FOLDER,
    Done,
    HostFacts,
    Lacking,
    code_hash,
    host_facts,
    install,
    moved,
    work,
)
from linklab.host.cache import cache_root
from linklab.machine.spec import Clock
from linklab.results.model import Sample
from linklab.trials.engine import Batch, Begun, Event, Failed
from linklab.trials.guest import Close
from linklab.trials.plan import GuestSlot

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK = 2.0  # s between two looks whether there are workers
_LOST = 60.0  # s without any
_TRIES = 3  # of a part, on as many hosts
_AHEAD = 2  # parts that are with the scheduler, for each worker
_AGREE = 0.005  # by which figures in virtual time may differ on two hosts


def parts_of(batch: Batch) -> list[Batch]:
    """Cut a batch into parts. What must share a host is in one: kernels that are compared.

    That are guests of one set-up that do trials of the same numbers, each kernel's
    beside the others'.
    """
    numbers: dict[GuestSlot, set[int]] = {}
    for turn in batch.turns:
        numbers.setdefault(turn.slot, set()).add(turn.number)
    slots: dict[Any, list[GuestSlot]] = {}
    for slot, each in numbers.items():
        slots.setdefault((slot.setup, frozenset(each)), []).append(slot)
    return [_only(batch, frozenset(each)) for each in slots.values()]


def _only(batch: Batch, slots: frozenset[GuestSlot]) -> Batch:
    return replace(
        batch,
        plan=replace(batch.plan, jobs=1),
        subjects={s.kernel: batch.subjects[s.kernel] for s in slots},
        turns=[turn for turn in batch.turns if turn.slot in slots],
        counts={slot: each for slot, each in batch.counts.items() if slot in slots},
        consoles={slot: name for slot, name in batch.consoles.items() if slot in slots},
    )


def without(batch: Batch, kernels: frozenset[str]) -> Batch | None:
    """Return a part without kernels that have failed, None where nothing is left."""
    left = frozenset(t.slot for t in batch.turns if t.slot.kernel not in kernels)
    return _only(batch, left) if left else None


@dataclass
class Fleet:
    """The workers of a scheduler, as a place for batches.

    `measured` has the console logs of the guests that each host has run, by its name and CPU.
    """

    address: str
    insecure: bool
    listener: Listener
    measured: dict[str, list[str]] = field(default_factory=dict)
    _client: Client | None = None
    _hosts: dict[str, HostFacts] = field(default_factory=dict)  # by the worker's address

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A worker has no fleet of its own."""
        return type(None), ()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Let go of the workers: what they still do is ended."""
        if self._client is not None:
            cluster = self._client.cluster
            self._client.close()
            self._client = None
            if cluster is not None:
                cluster.close()

    @property
    def client(self) -> Client:
        """The connection, made when it is first wanted."""
        if self._client is None:
            self._client = connected(self.address, insecure=self.insecure)
        return self._client

    def hosts(self) -> dict[str, HostFacts]:
        """Return what the workers' hosts are, by the workers' addresses; new ones are asked."""
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        asked = [address for address in known if address not in self._hosts]
        if asked:
            found = self.client.run(host_facts, workers=asked, on_error="return")
            for address, facts in found.items():
                if isinstance(facts, HostFacts):
                    self._hosts[address] = facts
                else:
                    self.listener(Note(f"worker {address} does not say what it is: {facts}"))
        return {address: self._hosts[address] for address in known if address in self._hosts}

    def fitting(self, batch: Batch) -> dict[str, HostFacts]:
        """Return the workers that may do parts of a batch: the largest group that is alike.

        Raises `LabError` where there is none, with what stands against each.
        """
        lab, own = batch.lab, code_hash()
        fit: dict[tuple[str, ...], dict[str, HostFacts]] = {}
        refused: dict[str, str] = {}
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        for address, host in self.hosts().items():
            if host.linklab != own:
                why = f"has another version of linklab ({host.linklab}, here {own})"
            elif host.qemu != lab.qemu.version:
                why = f"has QEMU {host.qemu}, here {lab.qemu.version}"
            elif lab.accel.is_kvm and host.kvm:
                why = f"runs no guest under KVM: {host.kvm}"
            elif lab.clock is not Clock.VIRTUAL and not known[address]["resources"].get(RESOURCE):
                why = f"does not say that it does one thing at a time (resource {RESOURCE}=1)"
            elif host.memory < lab.memory * lab.machines:
                why = f"has {host.memory} MiB, and a guest takes {lab.memory * lab.machines}"
            else:
                fit.setdefault(host.alike(lab.clock), {})[address] = host
                continue
            refused[f"{host.name} ({address})"] = why
        if not fit:
            each = "; ".join(f"{name} {why}" for name, why in refused.items())
            raise LabError(
                f"--fleet {self.address}: no worker can do this: {each or 'there is none'}"
            )
        for name, why in refused.items():
            self.listener(Note(f"worker {name} is not used: it {why}"))
        chosen = max(fit.values(), key=len)
        if len(fit) > 1 and lab.clock is not Clock.VIRTUAL:
            kinds = len(fit)
            self.listener(Note(f"the workers are of {kinds} kinds, whose seconds are not compared: "
                               f"{len(chosen)} alike are used"))  # fmt: skip
        return chosen

    def events(self, batch: Batch, folder: Path) -> Iterator[Event]:
        """Do a batch on the workers; what comes of a part is yielded once its files are here.

        Raises the lab's own faults, once all that came of other parts was yielded.
        """
        yield from _Submission(self, batch, folder).events()


class _Submission:
    """A batch on its way through a fleet."""

    def __init__(self, fleet: Fleet, batch: Batch, folder: Path) -> None:
        self._fleet = fleet
        self._client = fleet.client
        self._folder = folder
        self._batch = batch
        self._workers = fleet.fitting(batch)
        self._left = deque(parts_of(batch))
        self._under_way: dict[Future, Batch] = {}
        self._sent: dict[str, Future] = {}  # artefacts that the fleet has
        self._failed: set[str] = set()  # kernels
        self._said: dict[tuple[str, ...], list[str]] = {}  # of parts that hosts could not do
        self._faults: list[LinklabError] = []
        self._done = 0
        own = Path(batch.plan.scenario)
        self._scenario = own.read_bytes() if own.suffix == ".py" else None

    def events(self) -> Iterator[Event]:
        """Do all parts. Raises the first of the lab's own faults, at the end."""
        if self._batch.lab.clock is Clock.VIRTUAL and len(self._workers) > 1 and self._left:
            yield from self._first_on_each()
        for _ in range(_AHEAD * len(self._workers)):
            self._submit_next()
        while self._under_way:
            future = self._first_done()
            part = self._under_way.pop(future)
            found = self._result(future, part)
            if isinstance(found, Lacking):
                self._send(found)
                self._under_way[self._submit(part, [found.worker])] = part
            elif not self._goes_elsewhere(found, part):
                yield from self._accepted(found, part)
                self._submit_next()
        if self._faults:
            raise self._faults[0]

    def _goes_elsewhere(self, found: Done, part: Batch) -> bool:
        """Give a part that a host could not do to another one, unless two failed alike."""
        if found.fault is None or not found.worker:  # nobody was left to say more
            return False
        said = self._said.setdefault(tuple(part.consoles.values()), [])
        said.append(found.fault.message)
        is_over = len(said) >= _TRIES or said.count(said[-1]) > 1
        if is_over or not self._workers.keys() - {found.worker}:
            return False
        if found.worker in self._workers:
            self._leave_out(found.worker, found.fault.message)
        self._under_way[self._submit(part, list(self._workers))] = part
        return True

    def _leave_out(self, worker: str, why: str) -> None:
        name = self._workers.pop(worker).name
        self._fleet.listener(Note(f"worker {name} ({worker}) is not used: {why}"))

    def _submit_next(self) -> None:
        while self._left:
            part = without(self._left.popleft(), frozenset(self._failed))
            if part is not None:
                self._under_way[self._submit(part, list(self._workers))] = part
                return

    def _submit(self, part: Batch, workers: Sequence[str]) -> Future:
        alone = {} if self._batch.lab.clock is Clock.VIRTUAL else {RESOURCE: 1}
        return self._client.submit(
            work,
            pickle.dumps(part),
            rests_on(part),
            self._scenario,
            workers=list(workers),
            resources=alone,
            pure=False,
        )

    def _first_done(self) -> Future:
        from distributed import wait

        lost_since = None
        while True:
            with suppress(TimeoutError):
                done = wait(
                    list(self._under_way), timeout=_LOOK, return_when="FIRST_COMPLETED"
                ).done
                return next(future for future in self._under_way if future in done)
            there = self._client.scheduler_info(n_workers=-1)["workers"]
            if any(worker in there for worker in self._workers):
                lost_since = None
            elif lost_since is None:
                lost_since = time.monotonic()
            elif time.monotonic() - lost_since > _LOST:
                raise LabError(
                    f"--fleet {self._fleet.address}: all {len(self._workers)} workers are gone, "
                    f"and none came back within {_LOST:.0f} s"
                )

    def _result(self, future: Future, part: Batch) -> Lacking | Done:
        from distributed import KilledWorker

        try:
            found: Lacking | Done = future.result()
        except KilledWorker as error:
            guests = ", ".join(part.consoles.values())
            return Done(
                fault=LabError(
                    "a part of the batch ended each worker that took it, the last one "
                    f"{error.last_worker.address}: that of {guests}"
                )
            )
        finally:
            future.release()
        return found

    def _accepted(self, found: Done, part: Batch) -> Iterator[Event]:
        """Put a part's files into the folder, and yield its events."""
        there = self._workers.get(found.worker)
        name = f"{there.name} ({there.cpu})" if there else found.worker or "nobody"
        self._fleet.measured.setdefault(name, []).extend(sorted(part.consoles.values()))
        for name, content in found.files.items():
            (self._folder / Path(name).name).write_bytes(content)
        self._done += part.total_cost(part.turns)
        yield Begun(part.turns[-1].slot, Close(), self._done)
        for event in moved(list(found.events), FOLDER, str(self._folder)):
            kernel = event.slot.kernel if isinstance(event, Failed) else ""
            if isinstance(event, Begun) or kernel in self._failed:
                continue
            if kernel:
                self._failed.add(kernel)
            yield event
        if found.fault is not None:
            self._faults.append(moved(found.fault, FOLDER, str(self._folder)))

    def _send(self, wanted: Lacking) -> None:
        """Bring artefacts into a worker's cache; workers pass them on among themselves."""
        for name in sorted(wanted.names):
            if name not in self._sent:
                content = packed(name, cache_root())
                (self._sent[name],) = self._client.scatter([content], workers=[wanted.worker])
            there = [wanted.worker]
            self._client.submit(install, name, self._sent[name], workers=there, pure=False).result()

    def _first_on_each(self) -> Iterator[Event]:
        """Let each worker do the first part, and leave out those that have other figures."""
        part = self._left.popleft()
        found: dict[str, Done] = {}
        asked = {worker: self._submit(part, [worker]) for worker in self._workers}
        for worker, future in asked.items():
            answer = self._result(future, part)
            while isinstance(answer, Lacking):
                self._send(answer)
                answer = self._result(self._submit(part, [worker]), part)
            found[worker] = answer
        first = next((w for w, done in found.items() if done.fault is None), worker)
        figures = figures_of(found[first])
        for worker, done in found.items():
            if done.fault is not None and worker != first:
                self._leave_out(worker, done.fault.message)
            elif difference := disagreement(figures, figures_of(done)):
                self._leave_out(worker, f"in virtual time {difference}")
        yield from self._accepted(found[first], part)


def figures_of(done: Done) -> dict[tuple[object, ...], float]:
    """Return every figure of a part, by what it is of."""
    return {
        (event.kernel, event.cell, event.trial, name): value
        for event in done.events
        if isinstance(event, Sample)
        for name, value in event.metrics.items()
    }


def disagreement(
    ours: Mapping[tuple[object, ...], float], theirs: Mapping[tuple[object, ...], float]
) -> str:
    """Return in words by what two hosts' figures of the same part differ, or nothing."""
    for of, value in ours.items():
        if of not in theirs or abs(theirs[of] - value) > _AGREE * abs(value):
            name, other = of[-1], theirs.get(of)
            return f"its {name} is {other}, and {value} elsewhere"
    return ""
