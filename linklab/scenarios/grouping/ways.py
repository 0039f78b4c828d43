"""The arms of the grouping scenario: ways to do the same change to all interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from linklab.scenarios.grouping.change import Operation


class Arm(StrEnum):
    """Who says it to the kernel, and how often."""

    GROUP = "group"
    NETLINK = "netlink"
    BATCH = "batch"
    PROCESS = "process"
    DUMP = "dump"


ARM_HELP: dict[Arm, str] = {
    Arm.GROUP: "one `ip link set group` for all: one process, one request (the paper's Group)",
    Arm.NETLINK: "one process and one socket, a netlink message for each interface",
    Arm.BATCH: "one `ip -batch`, a line for each interface",
    Arm.PROCESS: "one `ip link set` process for each interface (the paper's No group)",
    Arm.DUMP: "as `process`, each dumping all links first, as `ip` did in 2011",
}

_IMPOSSIBLE: dict[tuple[Arm, Operation], str] = {
    (Arm.GROUP, Operation.CREATE): "a group has no members before they are created",
    (Arm.GROUP, Operation.GROUP): (
        "in a request IFLA_GROUP selects the group, so it cannot also be what changes"
    ),
}


def why_not(arm: Arm, operation: Operation) -> str | None:
    """Return why an arm cannot do an operation, or None where it can."""
    return _IMPOSSIBLE.get((arm, operation))


def limits_text(operations: Sequence[Operation] = tuple(Operation)) -> str:
    """Return what which arm cannot do, and why, as sentences for a help text."""
    reasons = [
        f"{arm} cannot do {operation}: {reason}"
        for arm in Arm
        for operation in operations
        if (reason := why_not(arm, operation))
    ]
    return "; ".join(reasons)
