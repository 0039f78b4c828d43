"""What an author of an experiment writes against: a scenario, its hosts, its claims.

A scenario is a class that declares what it varies and measures, and says what
happens in a guest. The lab does the rest: kernels, images, guests, order,
deadlines, verdicts, statistics, tables. `docs/scenarios.md` is the author's guide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, ClassVar, Protocol

from linklab.agent.client import Agent, TracedAgent
from linklab.agent.replies import JobNews, Measure, ProgramEnd, SyscallCount
from linklab.errors import KernelFault, LabError, RequestRefused, UsageError
from linklab.lab.spaces import NETWORKS, TRAFFIC
from linklab.lab.topology import Topology, parse
from linklab.results.shape import Cell, Course, Shape, Value

Metrics = Mapping[str, float]
IP = "/bin/ip"  # by its path: busybox has an `ip` of its own, without half of what this one does
GROUPS = "/bin/linklab-group"
"""The grouping agent, which every image has (`guest/group`)."""
_BATCH_FILE = "/tmp/linklab.batch"
_EXEC_FAILED = 127
_NEAR = 0.1  # of a published ratio: reproduced
_MISUSED = 2  # of `traffic`, whose words are wrong
_LOOK, _PATIENCE = 0.01, 1.0  # s of the guest between two looks at a program's output


@dataclass(frozen=True)
class Parameter:
    """Something that is the same for a whole run: `--param NAME=VALUE`.

    Its default says what it is: a number, then from `least` to `most`, or a
    word, then one of `among` where there are any.
    """

    name: str
    default: Value
    help: str
    least: float = 0
    most: float = 1_000_000
    among: tuple[str, ...] = ()
    reader: Callable[[str], object] | None = None
    """Reads a word that has a form of its own, and says so in its usual words: `str()` of it."""

    def parse(self, text: str) -> Value:
        """Return what was typed, checked. Raises `UsageError`."""
        if self.reader is not None:
            return str(self.reader(text))
        if isinstance(self.default, str):
            if self.among and text not in self.among:
                valid = ", ".join(filter(None, self.among))
                raise UsageError(f"--param {self.name}={text}: unknown; valid are {valid}")
            return text
        try:
            value = type(self.default)(text)
        except ValueError:
            raise UsageError(f"--param {self.name}={text}: a number is expected") from None
        if not self.least <= value <= self.most:
            raise UsageError(
                f"--param {self.name}={text}: a number from {self.least:g} to {self.most:g} "
                "is expected"
            )
        return value


@dataclass(frozen=True)
class Preset:
    """An experiment that has a name: what axes and parameters are where a user gives none."""

    about: str
    axes: Mapping[str, tuple[Value, ...]]
    given: Mapping[str, Value] = field(default_factory=dict)


class Finding(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    IN_PART = "in part"
    NOT_REPRODUCED = "not reproduced"
    NOT_MEASURED = "not measured"

    @classmethod
    def of(cls, holds: Iterable[bool]) -> Finding:
        """Return it of a claim that holds in each of some places, in some of them, or in none."""
        found = set(holds)
        if len(found) > 1:
            return cls.IN_PART
        return cls.REPRODUCED if True in found else cls.NOT_REPRODUCED

    @classmethod
    def of_ratio(cls, ours: float, theirs: float, alike: float) -> Finding:
        """Return it of a ratio: within 10 %, or `alike` times as much at most, on one side of 1."""
        if abs(ours / theirs - 1) <= _NEAR:
            return cls.REPRODUCED
        is_alike = (ours < 1) == (theirs < 1) and 1 / alike <= ours / theirs <= alike
        return cls.IN_PART if is_alike else cls.NOT_REPRODUCED


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, its figure, ours, and what to say of them."""

    text: str
    theirs: str
    ours: str
    finding: Finding
    why: str = ""

    @classmethod
    def unmeasured(cls, text: str, theirs: str, why: str = "") -> Claim:
        """Return a claim that a run cannot judge, and what it would need."""
        return cls(text, theirs, "-", Finding.NOT_MEASURED, why)

    def to_json(self) -> dict[str, str]:
        """Return it as JSON takes it."""
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Reference:
    """What others measured, shown beside the run: values of the first metric.

    `title` stands over their table, `label` behind a name in a plot, and
    `source` says whose they are.
    """

    title: str
    label: str
    source: str
    points: Mapping[tuple[str, Cell], float]  # by kernel and cell

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        points = [{"kernel": k, **cell, "value": v} for (k, cell), v in self.points.items()]
        return {**asdict(replace(self, points={})), "points": points}


@dataclass(frozen=True)
class Slower:
    """What makes a scenario's kernel slower by a known amount, for `invoke calibrate`.

    The patch reads `parameter` from the kernel's command line: how often to
    loop for each piece of the work of `cell`.
    """

    patch: Path
    parameter: str
    cell: Cell
    first: int = 4000  # loops to begin with


class Links(Protocol):
    """The links of a topology, counted from 0, which can be cut while their hosts run.

    One stays as it is until something else is asked for. Each raises `LabError` where nothing
    in the link's middle could do it.
    """

    @property
    def cut(self) -> set[int]:
        """The links that are down or dark now."""

    def pull(self, link: int) -> None:
        """Take a link down: neither end has a carrier, and what is on it is lost."""

    def darken(self, link: int) -> None:
        """Let all vanish that is on a link and comes to it; its carrier stays."""

    def plug(self, link: int) -> None:
        """Let a link be as it was before."""


@dataclass(frozen=True)
class Host:
    """A host of the topology, driven through its agent. Every time is the guest's own."""

    name: str
    agent: Agent
    limit: Callable[[Cell | None], float]
    """Seconds until work counts as hung; of None, until a step of upkeep does."""
    emulated: bool = True
    inside: tuple[str, ...] = ()
    """The words before a command that is to run on it, where it shares a guest with others."""
    network: Topology | None = None
    wires: Links | None = None
    outside: Callable[[], Mapping[str, float]] = dict
    """What this machine knows of a host that is a guest of its own: `Session.outside`."""

    @property
    def links(self) -> Links:
        """Return the links of its topology, which can be cut."""
        assert self.wires is not None, "a scenario without a topology has no links"
        return self.wires

    def address(self, link: int | None = None, family: int = 4) -> str:
        """Return its address: on its first link, or on one that it has an end of."""
        assert self.network is not None, "a scenario without a topology has no addresses"
        return self.network.address(self.name, link, family)

    @property
    def interface(self) -> str:
        """Return its first interface."""
        assert self.network is not None, "a scenario without a topology has no interfaces"
        return self.network.ports_of(self.name)[0].interface

    def until(self, cell: Cell | None = None) -> float:
        """Return when work that begins now must be done (monotonic, s)."""
        return time.monotonic() + self.limit(cell)

    def run(self, argv: Sequence[str], cell: Cell | None = None) -> Measure:
        """Run a program; raise where it fails: `RequestRefused`, `KernelFault`, `LabError`."""
        return succeeded(argv[0], self.agent.run([*self.inside, *argv], self.until(cell)), 1)

    def said(self, argv: Sequence[str], cell: Cell | None = None) -> Said:
        """Run a program that prints `name value value` lines; return what it said."""
        return Said(self.printed(argv, cell))

    def printed(self, argv: Sequence[str], cell: Cell | None = None) -> str:
        """Run a program; return what it printed, of more than 1 MiB the end."""
        end = self.agent.run([*self.inside, *argv], self.until(cell))
        succeeded(argv[0], end, 1)
        return end.output.decode(errors="replace")

    def write(self, path: str, content: bytes) -> None:
        """Write a file."""
        self.agent.write_file(path, content, self.until())

    def start(self, argv: Sequence[str], ready: str, cell: Cell | None = None) -> Running:
        """Start a program that runs beside others; return once it is `ready`.

        That is a line that it prints. Raises as `run` where it ends before.
        """
        deadline = self.until(cell)
        job = self.agent.start_job([*self.inside, *argv], deadline)
        running = Running(self, argv[0], deadline, job)
        running.wait_for(ready)
        return running

    def ip(self, words: str, cell: Cell | None = None) -> Measure:
        """Run `ip` with some words."""
        return self.run([IP, *words.split()], cell)

    def write_batch(self, lines: Iterable[str]) -> None:
        """Write the lines that `ip_batch` then reads."""
        text = "".join(f"{line}\n" for line in lines)
        self.write(_BATCH_FILE, text.encode())

    def ip_batch(self, cell: Cell | None = None) -> Measure:
        """Run `ip -batch` with the lines written before."""
        return self.run([IP, "-batch", _BATCH_FILE], cell)

    def ip_each(
        self, words: Sequence[str], first: int, count: int, cell: Cell | None = None,
        *, dump_first: bool = False,
    ) -> Measure:  # fmt: skip
        """Run `ip` once for each number from `first`, `{}` in its words replaced by it."""
        end = self.agent.run_each(
            [*self.inside, IP, *words], first, count, self.until(cell), dump_first=dump_first
        )
        return succeeded(IP, end, count)

    @contextmanager
    def traced(self) -> Iterator[tuple[Host, Callable[[], SyscallCount]]]:
        """Yield the same host, watched, and what tells what its last work asked of the kernel."""
        agent = TracedAgent(self.agent)
        yield replace(self, agent=agent), lambda: agent.counted


class Said(dict[str, tuple[float, ...]]):
    """What a program said in `name value value` lines, by name. Raises `LabError`."""

    def __init__(self, output: str) -> None:
        super().__init__()
        for line in output.splitlines():
            name, *values = line.split()
            try:
                self[name] = tuple(map(float, values))
            except ValueError:
                raise LabError(f"{line!r} is no figure: `name value value` expected") from None

    def __missing__(self, name: str) -> tuple[float, ...]:
        raise LabError(f"a program in the guest did not say {name}: it said {', '.join(self)}")

    def number(self, name: str) -> float:
        """Return the one value of a name."""
        (value,) = self[name]
        return value


@dataclass
class Running:
    """A program that runs beside others."""

    host: Host
    program: str
    deadline: float  # monotonic, s
    job: int
    output: bytes = b""

    def wait_for(self, line: str) -> None:
        """Return once it has printed a line."""
        while f"{line}\n".encode() not in self.output:
            if self._read(_LOOK) is not None:
                raise LabError(f"{self.program} ended before it said {line}")

    def end(self) -> Said:
        """Return what it said, once it has ended. Raises as `Host.run`."""
        while (end := self._read(_PATIENCE)) is None:
            pass
        succeeded(self.program, end, 1)
        return Said(self.output.decode(errors="replace"))

    def finish(self) -> Said:
        """Tell it to end; return what it said. Raises as `Host.run`."""
        self.host.agent.signal_job(SIGTERM, self.deadline, self.job)
        return self.end()

    def stop(self) -> None:
        """End it, if it has not ended by itself."""
        self.host.agent.signal_job(SIGKILL, self.deadline, self.job)
        while self._news(_PATIENCE).wait_status is None:
            pass

    def _news(self, seconds: float) -> JobNews:
        return self.host.agent.job_news(seconds, self.deadline, self.job)

    def _read(self, seconds: float) -> ProgramEnd | None:
        news = self._news(seconds)
        self.output += news.output
        if news.wait_status is None:
            return None
        end = ProgramEnd(int(news.wait_status == 0), news.wait_status, news.measure, self.output)
        succeeded(self.program, end, 1)
        return end


Hosts = Mapping[str, Host]
GUEST = "guest"
"""The name of the host where there is one."""


def succeeded(program: str, end: ProgramEnd, expected: int) -> Measure:
    """Return the measure of programs that all succeeded; raise what a failure means."""
    if end.done == expected and end.wait_status == 0:
        return end.measure
    said = end.output.decode(errors="replace").strip()
    which = f"process {end.done + 1} of {expected}"
    if end.exit_code == _EXEC_FAILED:
        raise LabError(f"{program} cannot be run in the guest ({which})", said)
    if end.exit_code == _MISUSED and program == TRAFFIC:
        raise LabError(f"what was asked of the lab's own program cannot be done: {said}")
    if end.exit_code < 0:
        raise KernelFault(f"{program} was killed by signal {-end.exit_code} ({which})", said)
    raise RequestRefused(f"{program} failed with status {end.exit_code} ({which}): {said}")


def measured(measure: Measure) -> dict[str, float]:
    """Return what the agent's stopwatch says as metrics, under the names of its fields."""
    return asdict(measure)


class Scenario:
    """An experiment. One object of the class lives as long as the guests that it works in.

    An author overrides `trial`, and what else differs from the defaults here.
    What a guest is found at before and after is the scenario's: every trial
    begins in the same state (`prepare`), and is checked (`check`).
    """

    name: ClassVar[str]
    about: ClassVar[str]
    shape: ClassVar[Shape]
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    presets: ClassVar[Mapping[str, Preset]] = {}
    """Experiments with names of their own; `preset` is a parameter then."""
    compared: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    """The axes' values where kernels are compared and none are named."""
    judged: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    """The same where a kernel is only to be found good or bad: everything, and little of it."""
    profiled: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    """The same for a profile, which is of one cell."""
    fragment: ClassVar[Path | tuple[Path, ...] | None] = None
    """Kernel options that it needs: a config fragment, or several, none beyond a flavour's."""
    needs: ClassVar[Path | None] = None
    """What kernels that the lab does not build are checked against, with the modules to
    load: a list as `images/needs.toml`, without groups. Without one the fragment is."""
    image: ClassVar[Path | None] = None
    """The folder of an image manifest, where the live image lacks a program."""
    modules: ClassVar[tuple[Path, ...]] = ()
    """Folders of out-of-tree modules that it needs: built and loaded before those of `--module`."""
    nic_axis: ClassVar[str] = ""
    """The axis, `per_guest`, whose values are models of network interfaces, as `--nic` has them:
    its hosts are guests of their own, each a `pc`, and have those of the cell."""
    stands_in: ClassVar[bool] = False
    """Whether folders of `--module` stand in for those: they are what it is to measure."""
    kernels: ClassVar[str] = "sysfs,nosysfs"
    """What a run tests where no kernel is named, as `--kernel` takes it.

    With a topology one kernel, the one that `invoke shell --topology` boots: with or without
    sysfs is no question of such an experiment, and each kernel takes minutes to build."""
    slower: ClassVar[Slower | None] = None
    topology: ClassVar[str] = ""
    """Hosts and the links between them, where one guest alone is not enough; a parameter then.

    What networks need of a kernel and an image comes with it, where none is named."""
    apart: ClassVar[bool] = False
    """Whether in virtual time each cell has a guest of its own: of trials that take a host
    seconds, so that all of its CPUs are at work, and none is changed by those before it."""
    weighs_iso: ClassVar[bool] = False
    """Whether its claims are about the size of the live ISO, which is then made."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.presets and "preset" not in {each.name for each in cls.parameters}:
            about = "; ".join(f"{name}: {each.about}" for name, each in cls.presets.items())
            preset = Parameter("preset", "", about, among=("", *cls.presets))
            cls.parameters = (*cls.parameters, preset)
        if cls.topology and "topology" not in {each.name for each in cls.parameters}:
            text = str(parse(cls.topology))
            about = "hosts and links, as docs/networks.md has them"
            cls.parameters = (Parameter("topology", text, about, reader=parse), *cls.parameters)
            if cls.kernels == Scenario.kernels:
                cls.kernels = "sysfs"
            cls.fragment = cls.fragment or NETWORKS / "kernel.config"
            cls.needs = cls.needs or NETWORKS / "needs.toml"
            cls.image = cls.image or NETWORKS

    def __init__(self, given: Mapping[str, Value]) -> None:
        self.given = given

    @cached_property
    def drawn(self) -> Topology:
        """The topology of this run."""
        return parse(str(self.given["topology"]))

    @classmethod
    def network(cls, given: Mapping[str, Value]) -> Topology | None:
        """Return the topology of a run, if there is one."""
        return parse(str(given["topology"])) if cls.topology else None

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why it cannot stand on a topology; nothing where it can.

        Hosts are all `in_one_guest`, or each is a guest of its own.
        """
        return "" if len(network.hosts) > 1 else "two hosts are needed, as in `a -- b`"

    @classmethod
    def fragments(cls) -> tuple[Path, ...]:
        """Return the fragments of kernel options that it needs, in their order."""
        found = cls.fragment or ()
        return found if isinstance(found, tuple) else (found,)

    @classmethod
    def all_needs(cls) -> tuple[str, ...]:
        """Return the files that say what a kernel must have."""
        return (str(cls.needs),) if cls.needs else tuple(map(str, cls.fragments()))

    @classmethod
    def modules_with(cls, words: Sequence[str]) -> tuple[str, ...]:
        """Return what is built and loaded where these are the words of `--module`."""
        ousted = cls.stands_in and any("/" in word or Path(word).is_dir() for word in words)
        own = () if ousted else map(str, cls.modules)
        return tuple(dict.fromkeys((*own, *words)))

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why a cell cannot be measured, or nothing where it can."""
        return ""

    @classmethod
    def conflict(cls, cell: Cell, given: Mapping[str, Value]) -> str:
        """Return why a cell cannot be measured with a run's parameters, or nothing."""
        return ""

    @classmethod
    def misplaced(cls, cell: Cell, given: Mapping[str, Value], *, in_one_guest: bool) -> str:
        """Return why a cell cannot be measured where the hosts are, or nothing.

        They are all `in_one_guest`, or each is a guest of its own.
        """
        return ""

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB that a guest needs for a cell; with hosts in it, for their sockets too.

        The cell has the values of the parameters beside those of the axes.
        """
        return 512 if cls.topology else 128

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds after which a cell's work counts as hung.

        A cell with the axes of a guest's set-up alone is a step of upkeep. Where hosts
        speak for some seconds, an emulator needs several for each of them.
        """
        return 600.0 if emulated and cls.topology else 120.0

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """Return how long a trial takes against others, for the progress bar."""
        return 50

    @classmethod
    def load(cls) -> None:
        """Import what takes long: once, before guests and the processes that drive them start."""

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Bring a new guest to where trials begin. What is yielded is kept as trial 0."""
        return ()

    def warm_up(self, hosts: Hosts) -> None:
        """Do what the first trial would otherwise pay for, where that one is kept."""

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Bring the hosts into the state that a trial begins in. Not timed."""

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Do a cell's work once and return what it took."""
        raise NotImplementedError

    def courses(self, cell: Cell) -> Sequence[Course]:
        """Return how the last trial went, for the page's plots over time. Not timed."""
        return ()

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Raise `WrongState` where the work did not do what it says. Not timed."""

    def count(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Return what the work asks of the kernel, in a repetition that is not timed.

        Called at the end of a guest's life, where `shape.counted` is not empty.
        """
        return {}

    def tear_down(self, hosts: Hosts) -> None:
        """Take away what the lab does not, at the end of a guest's life. Not timed.

        The lab ends its own jobs and listeners, and deletes all links and named
        namespaces; what then stays is the kernel's fault.
        """

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what a stored run says of the claims of a paper, if there is one."""
        return ()

    @classmethod
    def reference(cls) -> Reference | None:
        """Return what others measured, if there is something."""
        return None
