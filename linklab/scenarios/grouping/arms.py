"""What each arm of the grouping scenario does, through the agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from linklab.agent.client import Agent
from linklab.agent.replies import Measure, ProgramEnd
from linklab.errors import KernelFault, LabError, RequestRefused
from linklab.scenarios.grouping.change import FIRST_NUMBER, Change
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.grouping.ways import Arm

IP = "/bin/ip"  # by its path: busybox has an `ip` of its own, without groups
BATCH_FILE = "/tmp/linklab.batch"
_NO_GROUP = 0xFFFF_FFFE  # one that no interface is in
_EXEC_FAILED = 127


@dataclass(frozen=True)
class Work:
    """One change to do: to which interfaces, by when (monotonic, s)."""

    links: Links
    change: Change
    deadline: float

    @property
    def agent(self) -> Agent:
        """The agent that does it."""
        return self.links.agent


def prepare(arm: Arm, work: Work) -> None:
    """Do what an arm needs and what is not timed."""
    if arm is Arm.BATCH:
        words = " ".join(work.change.ip_words())
        numbers = range(FIRST_NUMBER, FIRST_NUMBER + work.links.count)
        text = "".join(words.replace("{}", str(number)) + "\n" for number in numbers)
        work.agent.write_file(BATCH_FILE, text.encode(), work.links.deadline())


def start_once(links: Links) -> None:
    """Start `ip` for a change of no interface: the first start reads it into memory.

    That takes several times as long as a change of 128 interfaces by their
    group, and would be charged to whichever arm happens to come first. What
    the kernel answers is no trial's business.
    """
    words = ("link", "set", "group", str(_NO_GROUP), "mtu", "1500")
    links.agent.run([IP, *words], links.deadline())


def perform(arm: Arm, work: Work) -> Measure:
    """Do the change and return what it took. The state afterwards is not checked here.

    Raises `RequestRefused` when the kernel refuses a request, `LabError` when
    a program cannot be run.
    """
    return _PERFORM[arm](work)


def _by_group(work: Work) -> Measure:
    end = work.agent.run([IP, *work.change.ip_group_words()], work.deadline)
    return replace(_checked(end, 1), messages=1)


def _by_netlink(work: Work) -> Measure:
    return work.links.each(work.change, work.deadline)


def _by_batch(work: Work) -> Measure:
    end = work.agent.run([IP, "-batch", BATCH_FILE], work.deadline)
    return replace(_checked(end, 1), messages=work.links.count)


def _by_process(work: Work) -> Measure:
    return _one_each(work, dump_first=False)


def _by_dump(work: Work) -> Measure:
    return _one_each(work, dump_first=True)


def _one_each(work: Work, *, dump_first: bool) -> Measure:
    count = work.links.count
    end = work.agent.run_each(
        [IP, *work.change.ip_words()], FIRST_NUMBER, count, work.deadline, dump_first=dump_first
    )
    requests = 2 if dump_first else 1
    return replace(_checked(end, count), messages=count * requests)


def _checked(end: ProgramEnd, expected: int) -> Measure:
    """Return the measure of programs that all succeeded; raise what a failure means."""
    if end.done == expected and end.wait_status == 0:
        return end.measure
    said = end.output.decode(errors="replace").strip()
    which = f"process {end.done + 1} of {expected}"
    if end.exit_code == _EXEC_FAILED:
        raise LabError(f"{IP} cannot be run in the guest ({which})", said)
    if end.exit_code < 0:
        raise KernelFault(f"{IP} was killed by signal {-end.exit_code} ({which})", said)
    raise RequestRefused(f"{IP} failed with status {end.exit_code} ({which}): {said}")


_PERFORM: dict[Arm, Callable[[Work], Measure]] = {
    Arm.GROUP: _by_group,
    Arm.NETLINK: _by_netlink,
    Arm.BATCH: _by_batch,
    Arm.PROCESS: _by_process,
    Arm.DUMP: _by_dump,
}
