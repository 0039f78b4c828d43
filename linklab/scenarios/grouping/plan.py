"""What to measure, how much memory it needs, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

from linklab.host.accel import Accel
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.ways import Arm, why_not

NAME = "grouping"
DEFAULT_COUNTS = (128, 256, 512, 1024, 2048)
DEFAULT_OPERATIONS = (Operation.MTU,)
DEFAULT_ARMS = (Arm.GROUP, Arm.PROCESS)
MAX_COUNT = 32768  # what the names and a kernel's `dummy` are good for

# Memory, measured with Linux 6.12 and sysfs: 37 KiB for an interface that is
# down, 41 for one that is up (53 with Debian's config), of which some are per
# CPU; the kernel and the image take less than 64 MiB (Debian's 80).  Rounded
# up: too little ends in an OOM kill.
_BASE_MIB = 96
_LINK_KIB = 56
_LINK_KIB_PER_CPU = 4

# A bound on one interface's share of an operation, in seconds, several times
# what a loaded host took: for deadlines only, never for results.
_SECONDS_PER_PROCESS = {Accel.KVM: 0.1, Accel.TCG: 0.5}
_SECONDS_PER_LINK = {Accel.KVM: 0.02, Accel.TCG: 0.1}
_SECONDS_PER_DUMPED_LINK = {Accel.KVM: 0.0001, Accel.TCG: 0.0005}
_BASE_LIMIT = 60.0


def memory_needed(count: int, cpus: int) -> int:
    """Return the MiB that a guest with `count` interfaces needs."""
    kib = count * (_LINK_KIB + _LINK_KIB_PER_CPU * cpus)
    return _BASE_MIB - (-kib // 1024)


def largest_count(memory: int, cpus: int) -> int:
    """Return how many interfaces fit into a guest with `memory` MiB."""
    return max(0, (memory - _BASE_MIB) * 1024 // (_LINK_KIB + _LINK_KIB_PER_CPU * cpus))


def time_limit(arm: Arm | None, count: int, accel: Accel) -> float:
    """Return the seconds after which an operation (or, for None, upkeep) counts as hung."""
    limit = _BASE_LIMIT + count * _SECONDS_PER_LINK[accel]
    if arm in (Arm.PROCESS, Arm.DUMP):
        limit += count * _SECONDS_PER_PROCESS[accel]
    if arm is Arm.DUMP:
        limit += count * count * _SECONDS_PER_DUMPED_LINK[accel]
    return limit


@dataclass(frozen=True)
class Plan:
    """What to measure, how often, and in what guests.

    Of each operation, arm, kernel and count there are `warmup` rounds that are
    thrown away and `repeat` that are kept, in an order drawn with `seed`. In a
    round a guest does `settling` trials that are thrown away and `trials` that
    are kept, one after the other.
    """

    counts: tuple[int, ...] = DEFAULT_COUNTS
    operations: tuple[Operation, ...] = DEFAULT_OPERATIONS
    arms: tuple[Arm, ...] = DEFAULT_ARMS
    repeat: int = 1
    limit: float | None = None  # seconds for one operation, instead of `time_limit`
    warmup: int = 0
    seed: int = 0
    fresh_guest: bool = False  # a guest for each trial, not for each kernel and count
    jobs: int = 1  # guests at work at the same time
    listeners: int = 0  # who listen for link changes meanwhile
    trials: int = 1
    settling: int = 0

    @property
    def begins_cold(self) -> bool:
        """Whether the first trial in a guest that several share is one that is kept."""
        return not (self.warmup or self.settling or self.fresh_guest)

    def pairs(self) -> list[tuple[Operation, Arm]]:
        """Return what is measured, leaving out what an arm cannot do."""
        return [
            (operation, arm)
            for operation in self.operations
            for arm in self.arms
            if why_not(arm, operation) is None
        ]
