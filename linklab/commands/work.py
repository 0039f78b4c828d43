"""What is measured and how often, as options: what every command that measures has in common."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from linklab.commands.guests import check_keep, hold_here
from linklab.commands.prepare import KernelOptions, MachineOptions
from linklab.errors import UsageError
from linklab.events import Listener
from linklab.lab.lab import Lab, choose_memory
from linklab.machine.spec import Clock
from linklab.options import choose, choose_list, number, numbers, option, seconds, single
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import MAX_COUNT, NAME, Plan, largest_count, memory_needed
from linklab.scenarios.grouping.ways import ARM_HELP, Arm, limits_text, why_not

SCENARIOS = (NAME,)
MAX_BLOCKS = 10_000
MAX_TRIALS = 1000
MAX_JOBS = 256
_MAX_LISTENERS = 256  # what the agent takes
_SEEDS = 1 << 32
ARMS = f"{'; '.join(f'{arm}: {text}' for arm, text in ARM_HELP.items())}. Left out: {limits_text()}"
SCENARIO = "what to measure: grouping"


@dataclass(frozen=True)
class WorkOptions:
    """What is done to interfaces, as typed."""

    counts: str = option("128,256,512,1024,2048", "numbers of interfaces, comma-separated")
    operations: str = option(
        "mtu",
        "create, mtu, up, down, address, group, delete, or all; comma-separated",
        values=("all", *Operation),
    )
    arms: str = option(
        "process,group", f"ways to do it, comma-separated, or all. {ARMS}", values=("all", *Arm)
    )

    def plan(self, **more: Any) -> Plan:
        """Return the plan of the work; raise `UsageError` where there would be none."""
        plan = Plan(
            counts=numbers("counts", self.counts, 1, MAX_COUNT),
            operations=choose_list("operations", self.operations, Operation),
            arms=choose_list("arms", self.arms, Arm),
            **more,
        )
        if not plan.pairs():
            raise UsageError(f"none of the arms can do any of the operations: {limits_text()}")
        return plan

    def one(self) -> tuple[Operation, Arm, int]:
        """Return the work where it is one operation, by one arm, on one number of interfaces."""
        operation = choose("operations", single("operations", self.operations), Operation)
        arm = choose("arms", single("arms", self.arms), Arm)
        if reason := why_not(arm, operation):
            raise UsageError(f"--arms {arm} cannot do --operations {operation}: {reason}")
        return operation, arm, number("counts", single("counts", self.counts), 1, MAX_COUNT)


@dataclass(frozen=True)
class LimitedOptions(WorkOptions):
    """The same, with a limit for each operation."""

    timeout: str = option("0", "seconds after which one operation counts as hung; default: by size")

    def plan(self, **more: Any) -> Plan:
        """Return the plan of the work; raise `UsageError` where there would be none."""
        return super().plan(limit=seconds("timeout", self.timeout), **more)


@dataclass(frozen=True)
class ScheduleOptions:
    """In what order work is done, and how much of it at the same time, as typed."""

    seed: str = option(
        "",
        "the number that the order is drawn with, and in virtual time the guests' random "
        "numbers; default: a new one, recorded in run.json; in virtual time 0",
    )
    jobs: str = option(
        "",
        "guests at work side by side, each on cores of its own where there are enough; "
        "default 1, in virtual time one for each of the host's CPUs",
    )


@dataclass(frozen=True)
class TrialOptions(ScheduleOptions, LimitedOptions):
    """Work that is measured, in what order and in what guests."""

    listeners: str = option(
        "0", "processes in the guest that listen for link changes during the operation"
    )
    keep: bool = option(
        False, "keep a guest that failed, its console on this terminal, until you leave it"
    )

    def trials_plan(self, clock: Clock, **more: Any) -> Plan:
        """Return the plan of the work with its order; raise `UsageError` for what is wrong."""
        plan = self.plan(
            seed=seed_of(self.seed, clock),
            jobs=1 if self.keep and not self.jobs else jobs_of(self.jobs, clock),
            listeners=number("listeners", self.listeners, 0, _MAX_LISTENERS),
            **more,
        )
        if self.keep:
            check_keep(plan.jobs)
        return plan

    def with_keeper(self, lab: Lab, listener: Listener) -> Lab:
        """Return a lab that leaves a guest that failed to a person, where that is asked for."""
        return replace(lab, hold=hold_here(listener)) if self.keep else lab


def check_scenario(name: str) -> None:
    """Raise `UsageError` for a scenario that there is not."""
    if name not in SCENARIOS:
        raise UsageError(f"--scenario {name}: unknown; valid are {', '.join(SCENARIOS)}")


def seed_of(text: str, clock: Clock) -> int:
    """Return the seed of `--seed`; without one a new one, or 0 in virtual time.

    There the same command is to give the same figures.
    """
    drawn = 0 if clock is Clock.VIRTUAL else int.from_bytes(os.urandom(4))
    return number("seed", text or drawn, 0, _SEEDS - 1)


def jobs_of(text: str, clock: Clock) -> int:
    """Return the guests at work side by side; in virtual time as many as the host has CPUs.

    In real time they would disturb each other where nobody asked for it.
    """
    default = len(os.sched_getaffinity(0)) if clock is Clock.VIRTUAL else 1
    return number("jobs", text or min(default, MAX_JOBS), 1, MAX_JOBS)


def memory_for(machine: MachineOptions, plan: Plan, kernels: KernelOptions) -> int:
    """Return the guest's memory in MiB for a plan; raise `UsageError` if that cannot be."""
    most, cpus = max(plan.counts), machine.checked_cpus()
    asked = machine.checked_memory()
    what = f"{most} interfaces"
    if asked is not None:
        what = (
            f"--counts {most}: {what} (at most "
            f"{largest_count(kernels.memory_left(asked), cpus)} fit into {asked} MiB)"
        )
    return choose_memory(asked, kernels.memory(memory_needed(most, cpus)), what)
