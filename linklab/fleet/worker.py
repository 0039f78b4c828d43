"""A worker's side: what its host is, and a part of a batch, in a process of its own.

Dask runs `work` in a thread of the worker. The guests are another process's,
started anew for each part, which ends with the worker, and at once where
nobody waits for the part any more.
"""

from __future__ import annotations

import os
import pickle
import platform
import selectors
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, cast

from linklab.errors import LabError, LinklabError, os_errors_as
from linklab.events import ignore
from linklab.fleet.parcel import lacking, unpack
from linklab.host.accel import ORDINARY_SPEED, Accel, decide, speed
from linklab.host.cache import MANIFEST, Cache, cache_root, load_json
from linklab.host.cpus import own_cores, tsc_khz
from linklab.host.qemu import find_qemu
from linklab.host.run import ending, start
from linklab.image.programs import PROGRAM, build_agent
from linklab.kernel.kernel import KIND, tool_versions
from linklab.lab.lab import Lab, host_cpu, host_memory_available
from linklab.machine.spec import Clock
from linklab.paths import ROOT

_TOLD = 4000  # characters of what a process said that died
_LOOK = 1.0  # s between two looks whether anybody still waits for a part


@dataclass(frozen=True)
class HostFacts:
    """What a worker's host is, as far as figures depend on it. `linklab` is a hash of the code."""

    name: str
    linklab: str
    qemu: str
    cpu: str
    cores: int
    memory: int  # MiB available
    kvm: str  # why it runs no guest, or nothing
    kernels: tuple[str, ...] = ()  # in its cache
    tools: tuple[str, ...] = ()  # compiler and linker, where it has them

    def alike(self, clock: Clock) -> tuple[str, ...]:
        """Return what two hosts must have in common for their figures to be one table's."""
        return (self.qemu,) if clock is Clock.VIRTUAL else (self.qemu, self.cpu, self.kvm)


class Part(Protocol):
    """What must be done on one host: it can be sent, and names what it rests on as `Cached`.

    One with a `lab` boots guests, and finds out there what of it depends on the host.
    """

    @property
    def lab(self) -> Lab | None:
        """Where its guests are, if it boots any."""

    @property
    def name(self) -> str:
        """What it is called where it cannot be done."""

    def events(self, folder: Path) -> Iterator[Any]:
        """Do it, and yield what comes of it; files go into the folder."""


@dataclass(frozen=True)
class Lacking:
    """The cache of `worker` lacks these artefacts: send them, and the part again."""

    names: frozenset[str]
    worker: str


@dataclass(frozen=True)
class Done:
    """What came of a part: its events, the files beside them by name, and what ended it early.

    Paths in it begin with `FOLDER` where the files were, and with `CACHE` where the cache was.
    `worker` is the address of who did it.
    """

    events: Sequence[Any] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    fault: LinklabError | None = None
    worker: str = ""


FOLDER, CACHE = "<the folder of a part>", "<the cache of a worker>"


def code_hash() -> str:
    """Return a hash of all code that a part runs through; two hosts must have the same."""
    digest = sha256()
    for file in sorted((ROOT / "linklab").rglob("*.py")):
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def host_facts() -> HostFacts:
    """Return what this host is."""
    qemu = find_qemu()
    accel = decide(Accel.AUTO, qemu.path, ignore)
    return HostFacts(
        name=platform.node(),
        linklab=code_hash(),
        qemu=qemu.version,
        cpu=host_cpu(),
        cores=len(own_cores()),
        memory=host_memory_available() or 0,
        kvm="" if accel.accel is Accel.KVM else accel.reason,
        kernels=tuple(_kernels(cache_root() / KIND)),
        tools=_tools(),
    )


def _tools() -> tuple[str, ...]:
    try:
        return tuple(tool_versions())
    except LabError:
        return ()


def _kernels(folder: Path) -> Iterator[str]:
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        about = load_json(manifest)
        yield f"{about.get('flavour')} {about.get('release')}"


def work(
    part: bytes, names: frozenset[str], contents: Mapping[str, bytes], scenario: bytes | None
) -> Lacking | Done:
    """Do a part here, unless the cache lacks what it rests on and was not sent in `contents`."""
    from distributed import get_worker

    worker = get_worker()
    try:
        with os_errors_as(LabError, f"on {platform.node()}"):
            for name, content in contents.items():
                unpack(name, content, Cache(), ignore)
            if missing := lacking(names, Cache(), ignore):
                return Lacking(missing, worker.address)
            done = _done_apart(part, scenario, _is_wanted(worker))
    except LabError as error:
        done = Done(fault=error)
    return replace(done, worker=worker.address)


def _done_apart(part: bytes, scenario: bytes | None, is_wanted: Callable[[], bool]) -> Done:
    """Do a part in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="linklab-part-") as name:
        folder = Path(name)
        (folder / "part").write_bytes(part)
        if scenario is not None:
            (folder / "scenario.py").write_bytes(scenario)
        with (folder / "errors").open("wb") as errors:
            argv = [sys.executable, "-m", __package__, str(folder)]
            child = start(argv, cwd=ROOT, stderr=errors)
            with ending(child):
                wait_for(child.pid, is_wanted)
                child.kill()
                child.wait()
        try:
            return cast(Done, pickle.loads((folder / "done").read_bytes()))
        except (OSError, EOFError, pickle.UnpicklingError):
            said = (folder / "errors").read_text(errors="replace")[-_TOLD:]
            ended = f"the process that did it ended with status {child.returncode}"
            return Done(fault=LabError(f"on {platform.node()} {ended}", said))


def wait_for(pid: int, is_wanted: Callable[[], bool]) -> None:
    """Return when a process has ended, or nobody wants what it does."""
    with selectors.DefaultSelector() as selector:
        handle = os.pidfd_open(pid)
        try:
            selector.register(handle, selectors.EVENT_READ)
            while is_wanted() and not selector.select(_LOOK):
                pass
        finally:
            os.close(handle)


def _is_wanted(worker: Any) -> Callable[[], bool]:
    """Return what tells whether the scheduler still waits for the task of this thread.

    It does not where whoever submitted it is gone, or the scheduler is.
    """
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    return is_wanted


def localised(lab: Lab) -> Lab:
    """Return a lab with what depends on the host found out on this one."""
    if lab.clock is Clock.VIRTUAL or lab.accel is Accel.KVM:
        return replace(lab, slowness=max(1.0, ORDINARY_SPEED / speed(lab.qemu.path, lab.accel)))
    agent = build_agent(Cache(), ignore)
    return replace(lab, tsc_khz=tsc_khz(agent.file(PROGRAM), Cache().root))


def do_part(folder: Path) -> Done:
    """Do the part that lies in a folder; logs and reports go beside it."""
    part: Any = pickle.loads((folder / "part").read_bytes())
    if (folder / "scenario.py").exists():
        plan = replace(part.plan, scenario=str(folder / "scenario.py"))
        part = replace(part, plan=plan)
    out = folder / "out"
    out.mkdir()
    events: list[Any] = []
    fault = None
    try:
        if part.lab is not None:
            part = replace(part, lab=localised(part.lab))
        for event in part.events(out):
            events.append(event)  # one by one: what comes before a fault counts
    except LinklabError as error:
        fault = error
    files = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    return Done(events, files, fault)


def moved(thing: Any, there: str, here: str) -> Any:
    """Return what came from another host with the paths of its folder there as they are here."""
    if isinstance(thing, (str, Path)):
        return type(thing)(str(thing).replace(there, here))
    if isinstance(thing, (list, tuple)):
        return type(thing)(moved(each, there, here) for each in thing)
    if isinstance(thing, LinklabError):
        for name, value in vars(thing).items():
            setattr(thing, name, moved(value, there, here))
    elif is_dataclass(thing) and not isinstance(thing, type):
        own = {each.name: getattr(thing, each.name) for each in fields(thing) if each.init}
        return replace(thing, **{name: moved(value, there, here) for name, value in own.items()})
    return thing


def main(folder: Path) -> None:
    """Do the part; what came of it is there whole, or not at all."""
    done = do_part(folder)
    draft = folder / "draft"
    done = moved(moved(done, str(folder / "out"), FOLDER), str(cache_root()), CACHE)
    draft.write_bytes(pickle.dumps(done))
    shutil.move(draft, folder / "done")
