"""Whoever submits: parts done by workers that are alike, each counted once."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from linklab.errors import BuildSkipped, LabError, LinklabError, UsageError
from linklab.events import Listener, Note, StepAdvanced, ignore, step
from linklab.fleet.address import RESOURCE, connected, is_local
from linklab.fleet.builds import KERNEL, KernelBuild, build_of
from linklab.fleet.parcel import packed, pickled, unpack
from linklab.fleet.worker import (
    CACHE,
    FOLDER,
    Done,
    HostFacts,
    Lacking,
    Part,
    code_hash,
    host_facts,
    moved,
    work,
)
from linklab.host.cache import Cache, cache_root
from linklab.kernel.compile import BuildPlan
from linklab.machine.spec import Clock
from linklab.results.model import Sample
from linklab.trials.engine import Batch, Begun, Event, Failed
from linklab.trials.guest import Close
from linklab.trials.plan import GuestSlot, Turn

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK = 2.0  # s between two looks whether there are workers
_LOST = 60.0  # s without any
_TRIES = 3  # of a part, on as many hosts
_AHEAD = 2  # parts that are with the scheduler, for each worker
_FETCH = 300.0  # s for a result that is there
_CUT = "scheduler-connection-lost"  # Dask's word where a client had to connect again
_AT_ONCE = 64  # results that are fetched together
_AGREE = 0.005  # by which figures in virtual time may differ on two hosts
_BUILDING = "building kernels on the fleet"


def parts_of(batch: Batch) -> list[Batch]:
    """Cut a batch into parts. What must share a host is in one: kernels that are compared.

    That are guests of one set-up that do trials of the same numbers, each kernel's
    beside the others'.
    """
    turns: dict[GuestSlot, list[tuple[int, Turn]]] = {}
    for place, turn in enumerate(batch.turns):
        turns.setdefault(turn.slot, []).append((place, turn))
    parts: dict[Any, list[tuple[int, Turn]]] = {}
    for slot, own in turns.items():
        numbers = frozenset(turn.number for _, turn in own)
        parts.setdefault((slot.setup, numbers), []).extend(own)
    return [_only(batch, [turn for _, turn in sorted(own, key=_place)]) for own in parts.values()]


def _place(placed: tuple[int, Turn]) -> int:
    return placed[0]


def _only(batch: Batch, turns: Sequence[Turn]) -> Batch:
    slots = dict.fromkeys(turn.slot for turn in turns)
    return replace(
        batch,
        plan=replace(batch.plan, jobs=1),
        subjects={slot.kernel: batch.subjects[slot.kernel] for slot in slots},
        turns=turns,
        counts={slot: batch.counts[slot] for slot in slots if slot in batch.counts},
        consoles={slot: batch.consoles[slot] for slot in slots},
    )


def without(batch: Batch, kernels: frozenset[str]) -> Batch | None:
    """Return a part without kernels that have failed, None where nothing is left."""
    if kernels.isdisjoint(batch.subjects):
        return batch
    left = [turn for turn in batch.turns if turn.slot.kernel not in kernels]
    return _only(batch, left) if left else None


@dataclass
class Fleet:
    """The workers of a scheduler, as a place for batches, self-tests and builds.

    `measured` has the console logs of the guests that each host has run, by its name and CPU.
    """

    address: str
    insecure: bool
    listener: Listener
    measured: dict[str, list[str]] = field(default_factory=dict)
    _client: Client | None = None
    _hosts: dict[str, HostFacts] = field(default_factory=dict)  # by the worker's address
    _unbuilt: dict[str, LinklabError] = field(default_factory=dict)  # by the kernel's key

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

    def there(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what the scheduler says of its workers, by their addresses.

        Raises `LabError` once it is clear that the scheduler is gone.
        """
        if self.client.status not in {"running", "connecting"}:
            raise LabError(f"--fleet {self.address}: the scheduler is gone, and does not come back")
        with suppress(OSError):
            found: Mapping[str, Any] = self.client.scheduler_info(n_workers=-1)
            return dict(found.get("workers", {}))
        return {}

    def hosts(self) -> dict[str, HostFacts]:
        """Return what the workers' hosts are, by the workers' addresses; new ones are asked."""
        known = self.there()
        asked = [address for address in known if address not in self._hosts]
        if asked:
            found = self.client.run(host_facts, workers=asked, on_error="return")
            for address, facts in found.items():
                if isinstance(facts, HostFacts):
                    self._hosts[address] = facts
                else:
                    self.listener(Note(f"worker {address} does not say what it is: {facts}"))
        return {address: self._hosts[address] for address in known if address in self._hosts}

    def fitting(self, part: Part) -> dict[str, HostFacts]:
        """Return the workers that may do parts like one; of trials the largest group that is alike.

        Raises `LabError` where there is none, with what stands against each.
        """
        own, lab = code_hash(), part.lab
        fit: dict[tuple[str, ...], dict[str, HostFacts]] = {}
        refused: dict[str, str] = {}
        known = self.there()
        for address, host in self.hosts().items():
            is_exclusive = bool(known[address]["resources"].get(RESOURCE))
            if why := _unfit(host, part, own, is_exclusive=is_exclusive):
                refused[f"{host.name} ({address})"] = why
            else:
                kind = host.alike(lab.clock) if lab and isinstance(part, Batch) else ()
                fit.setdefault(kind, {})[address] = host
        if not fit:
            each = "; ".join(f"{name} {why}" for name, why in refused.items())
            raise LabError(
                f"--fleet {self.address}: no worker can do this: {each or 'there is none'}"
            )
        for name, why in refused.items():
            self.listener(Note(f"worker {name} is not used: it {why}"))
        chosen = max(fit.values(), key=len)
        if len(fit) > 1:
            self.listener(Note(f"the workers are of {len(fit)} kinds, whose seconds are not "
                               f"compared: {len(chosen)} alike are used"))  # fmt: skip
        return chosen

    def events(self, batch: Batch, folder: Path) -> Iterator[Event]:
        """Do a batch on the workers; what comes of a part is yielded once its files are here.

        Raises the lab's own faults, once all that came of other parts was yielded.
        """
        yield from _Trials(self, batch, folder).events()

    def each(self, parts: Sequence[Part], folder: Path) -> Iterator[tuple[Part, Done]]:
        """Do parts on the workers; each is yielded when it is done and its files are here."""
        if parts:
            for part, done in _Submission(self, parts[0]).all(iter(parts)):
                yield part, self.stored(done, folder)

    def build(self, plans: Sequence[BuildPlan]) -> Mapping[str, LinklabError]:
        """Have kernels built on workers, side by side, and bring them into this host's cache.

        Returns why there are none of some, by their keys. What no worker can build is told of,
        and left to this host; so is all of it where the workers are this host's own.
        """
        if is_local(self.address):
            return {}
        cache, left = Cache(), [each for each in plans if each.key not in self._unbuilt]
        with step(self.listener, _BUILDING, len(left)):
            try:
                parts = [build_of(each, cache, self.listener) for each in left]
                for number, (part, done) in enumerate(self._built(parts), 1):
                    self.listener(StepAdvanced(_BUILDING, number, part.name))
                    self._take(part, done, cache)
            except LabError as error:
                self.listener(Note(f"{error.message}: kernels are built here"))
        return {key: self._unbuilt[key] for key in (p.key for p in plans) if key in self._unbuilt}

    def _built(self, parts: Sequence[KernelBuild]) -> Iterator[tuple[KernelBuild, Done]]:
        if parts:
            yield from _Submission(self, parts[0]).all(iter(parts))

    def _take(self, part: KernelBuild, done: Done, cache: Cache) -> None:
        done = moved(done, CACHE, str(cache.root))
        if done.fault is None:
            host = self._hosts.get(done.worker)
            unpack(done.events[0], done.files[KERNEL], cache, ignore)
            self.listener(Note(f"{part.name} was built on {host.name if host else done.worker}"))
        elif isinstance(done.fault, (BuildSkipped, UsageError)):
            self._unbuilt[part.plan.key] = done.fault
        else:
            self.listener(Note(f"{part.name} is built here: {done.fault.message}"))

    def stored(self, done: Done, folder: Path) -> Done:
        """Put the files of a part into a folder, and return what came of it as it is here."""
        there = self._hosts.get(done.worker)
        name = f"{there.name} ({there.cpu})" if there else done.worker or "nobody"
        logs = sorted(file for file in done.files if file.startswith("console-"))
        self.measured.setdefault(name, []).extend(logs)
        for file, content in done.files.items():
            (folder / Path(file).name).write_bytes(content)
        found: Done = moved(moved(done, FOLDER, str(folder)), CACHE, str(cache_root()))
        return found


def _is_alone(part: Part) -> bool:
    """Whether a part must be the only one that its host is at: a build takes all cores."""
    return part.lab is None or part.lab.clock is not Clock.VIRTUAL


def _unfit(host: HostFacts, part: Part, own: str, *, is_exclusive: bool) -> str:
    """Return why a host cannot do parts like one, or nothing; `own` is this host's linklab."""
    lab, why = part.lab, ""
    if host.linklab != own:
        why = f"has another version of linklab ({host.linklab}, here {own})"
    elif _is_alone(part) and not is_exclusive:
        why = f"does not say that it does one thing at a time (resource {RESOURCE}=1)"
    elif isinstance(part, KernelBuild) and list(host.tools) != part.plan.inputs["tools"]:
        why = f"has another compiler or linker: {', '.join(host.tools) or 'none'}"
    elif lab is not None and host.qemu != lab.qemu.version:
        why = f"has QEMU {host.qemu}, here {lab.qemu.version}"
    elif lab is not None and lab.accel.is_kvm and host.kvm:
        why = f"runs no guest under KVM: {host.kvm}"
    elif lab is not None and host.memory < lab.memory * lab.machines:
        why = f"has {host.memory} MiB, and a guest takes {lab.memory * lab.machines}"
    return why


@dataclass(frozen=True)
class _Task:
    """A part that is with the scheduler, for one worker or for any."""

    future: Future
    part: Part
    worker: str = ""
    is_check: bool = False  # of that worker: nobody else is to do it


class _Submission:
    """Parts on their way through a fleet, to workers that may do such as the first one."""

    def __init__(self, fleet: Fleet, first: Part) -> None:
        self._fleet = fleet
        self._client = fleet.client
        self._workers = fleet.fitting(first)
        self._resources = {RESOURCE: 1} if _is_alone(first) else {}
        self._name, self._numbers = f"linklab-{uuid4().hex}", count()
        self._under_way: dict[Any, _Task] = {}  # by the future's key
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._answers: deque[tuple[_Task, Lacking | Done | None]] = deque()
        self._sent: dict[str, Future] = {}  # artefacts that the fleet has
        self._said: dict[str, list[str]] = {}  # of parts that hosts could not do
        self._lost: Counter[str] = Counter()
        self._lost_since: float | None = None

    def all(self, parts: Iterator[Any]) -> Iterator[tuple[Any, Done]]:
        """Yield each part with what came of it, in the order in which they are done.

        Raises `LabError` where no worker is left.
        """
        for part in islice(parts, _AHEAD * len(self._workers)):
            self._give(part)
        while found := self._next():
            yield found
            if (part := next(parts, None)) is not None:
                self._give(part)

    def _give(
        self,
        part: Part,
        worker: str = "",
        contents: Mapping[str, Future] | None = None,
        *,
        is_check: bool = False,
    ) -> None:
        """Bring a part to the scheduler, with artefacts that its worker lacks."""
        scenario = Path(part.plan.scenario) if isinstance(part, Batch) else Path()
        own = scenario.read_bytes() if scenario.suffix == ".py" else None
        future = self._client.submit(
            work,
            *pickled(part),
            dict(contents or {}),
            own,
            workers=[worker] if worker else list(self._workers),
            resources=self._resources,
            key=self._key_of(part, contents or {}),
            pure=False,
        )
        self._watch(_Task(future, part, worker, is_check))

    def _key_of(self, part: Part, contents: Mapping[str, Future]) -> str | tuple[str, int]:
        """Return what the scheduler calls a part: a build alike, so that two commands share one.

        The others are one group: it remembers something of each group for ever.
        """
        if isinstance(part, KernelBuild):
            return f"linklab-{part.name}-{len(contents)}"
        return self._name, next(self._numbers)

    def _next(self) -> tuple[Any, Done] | None:
        """Return the next part that is done; None where none is under way."""
        while self._under_way or self._answers:
            if not self._answers:
                self._gather()
                continue
            if self._client.status != "running":  # nothing can be given to it
                self._look()
                time.sleep(_LOOK)
                continue
            task, found = self._answers.popleft()
            if found is None:
                found = self._lost_with(task)
            if found is None:
                self._give(task.part, task.worker if task.is_check else "", is_check=task.is_check)
            elif isinstance(found, Lacking):
                contents = self._contents(found)
                self._give(task.part, found.worker, contents, is_check=task.is_check)
            elif task.is_check or not self._goes_elsewhere(found, task.part):
                return task.part, found
        return None

    def _gather(self) -> None:
        """Fetch what came of the parts that are done by now; where none is, look why.

        All in one go: to fetch one takes a way to the scheduler and back.
        """
        from distributed.utils import sync

        keys: list[Any] = []
        with suppress(Empty):
            keys.append(self._done.get(timeout=_LOOK))
            while len(keys) < _AT_ONCE:
                keys.append(self._done.get_nowait())
        if not keys:
            self._look()
        # One that is not there any more was given to another worker.
        tasks = [self._under_way.pop(key) for key in keys if key in self._under_way]
        futures, client = [task.future for task in tasks], self._client
        try:
            found = sync(
                client.loop, client.gather, futures, asynchronous=True, callback_timeout=_FETCH
            )
        except TimeoutError:  # a result was lost with its worker, and nobody does it again
            for task in tasks:
                self._watch(task)
            self._look()
        except Exception:  # of one of them: see which
            self._answers += ((task, self._result(task)) for task in tasks)
        else:
            self._answers += zip(tasks, found, strict=True)
            for future in futures:
                future.release()

    def _watch(self, task: _Task) -> None:
        self._under_way[task.future.key] = task
        task.future.add_done_callback(lambda done: self._done.put(done.key))

    def _result(self, task: _Task) -> Lacking | Done | None:
        """Return what came of a part, None where the scheduler lost it or what it rests on."""
        from distributed import KilledWorker
        from distributed.utils import CancelledError

        try:
            found: Lacking | Done = task.future.result(timeout=_FETCH)
        except KilledWorker as error:
            text = "a part of the batch ended each worker that took it, the last one"
            return Done(fault=LabError(f"{text} {error.last_worker.address}: {task.part.name}"))
        except (CancelledError, TimeoutError) as error:
            if getattr(error, "reason", "") != _CUT:  # else no worker is to blame
                self._lost[task.part.name] += 1
            return None
        finally:
            task.future.release()
        return found

    def _lost_with(self, task: _Task) -> Done | None:
        """Return what stands for a part that was lost once too often, with who had it."""
        times, last = self._lost[task.part.name], task.worker and f", the last one {task.worker}"
        if times <= _TRIES:
            return None
        text = f"a part of the batch was lost {times} times with the worker that took it{last}"
        return Done(fault=LabError(f"{text}: {task.part.name}"))

    def _contents(self, wanted: Lacking) -> dict[str, Future]:
        """Bring artefacts to a worker that lacks them; workers pass them on among themselves."""
        for name in sorted(wanted.names):
            if name not in self._sent or self._sent[name].status != "finished":
                (self._sent[name],) = self._client.scatter([packed(name, cache_root())])
        return {name: self._sent[name] for name in wanted.names}

    def _look(self) -> None:
        """See that those who are waited for are there. Raises `LabError` where nobody is."""
        there = self._fleet.there()
        for key, task in list(self._under_way.items()):
            if task.worker and task.worker not in there:
                del self._under_way[key]
                task.future.cancel()
                if not task.is_check:
                    self._lost[task.part.name] += 1
                    self._answers.append((task, None))
        if any(worker in there for worker in self._workers):
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = time.monotonic()
        elif time.monotonic() - self._lost_since > _LOST:
            raise LabError(
                f"--fleet {self._fleet.address}: all {len(self._workers)} workers are gone, "
                f"and none came back within {_LOST:.0f} s"
            )

    def _goes_elsewhere(self, found: Done, part: Part) -> bool:
        """Give a part that a host could not do to another one, unless two failed alike."""
        if not isinstance(found.fault, LabError) or not found.worker:
            return False  # it is the kernel's, or nobody was left to say more
        said = self._said.setdefault(part.name, [])
        said.append(found.fault.message)
        is_over = len(said) >= _TRIES or said.count(said[-1]) > 1
        if is_over or not self._workers.keys() - {found.worker}:
            return False
        if found.worker in self._workers:
            self._leave_out(found.worker, found.fault.message)
        self._give(part)
        return True

    def _leave_out(self, worker: str, why: str) -> None:
        name = self._workers.pop(worker).name
        self._fleet.listener(Note(f"worker {name} ({worker}) is not used: {why}"))


class _Trials(_Submission):
    """A batch on its way through a fleet."""

    def __init__(self, fleet: Fleet, batch: Batch, folder: Path) -> None:
        super().__init__(fleet, batch)
        self._folder = folder
        self._is_virtual = batch.lab.clock is Clock.VIRTUAL
        self._left = deque(parts_of(batch))
        self._failed: set[str] = set()  # kernels
        self._faults: list[LinklabError] = []
        self._cost = 0  # of what is done

    def events(self) -> Iterator[Event]:
        """Do all parts. Raises the first of the lab's own faults, at the end."""
        if self._is_virtual and len(self._workers) > 1:
            yield from self._first_on_each()
        for part, done in self.all(self._parts()):
            yield from self._accepted(done, part)
        if self._faults:
            raise self._faults[0]

    def _parts(self) -> Iterator[Batch]:
        """Yield what is left to do, without kernels that have failed by then."""
        while self._left:
            if part := without(self._left.popleft(), frozenset(self._failed)):
                yield part

    def _first_on_each(self) -> Iterator[Event]:
        """Let each worker do the first part that is done, and leave out who has other figures."""
        for part in self._parts():
            self._give(part)
            if (found := self._next()) is None:
                return
            yield from self._accepted(found[1], part)
            if found[1].fault is None:
                break
        else:
            return
        figures = figures_of(found[1])
        for worker in self._workers.keys() - {found[1].worker}:
            self._give(part, worker, is_check=True)
        while other := self._next():
            done = other[1]
            why = done.fault.message if done.fault else disagreement(figures, figures_of(done))
            if why and done.worker in self._workers:
                self._leave_out(done.worker, why)

    def _accepted(self, found: Done, part: Batch) -> Iterator[Event]:
        """Put a part's files into the folder, and yield its events."""
        done = self._fleet.stored(found, self._folder)
        self._cost += part.total_cost(part.turns)
        yield Begun(part.turns[-1].slot, Close(), self._cost)
        for event in done.events:
            kernel = event.slot.kernel if isinstance(event, Failed) else ""
            if isinstance(event, Begun) or kernel in self._failed:
                continue
            if kernel:
                self._failed.add(kernel)
            yield event
        if done.fault is not None:
            self._faults.append(done.fault)


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
            return f"in virtual time its {name} is {other}, and {value} elsewhere"
    return ""
