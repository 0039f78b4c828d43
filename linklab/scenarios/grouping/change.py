"""The operations of the grouping scenario, as values.

An operation takes the interfaces from one known state to another. How that is
said to `ip` and to netlink stands here once; the arms only choose who says it
and how often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

GROUP = 42  # the interfaces' group: any but 0, where all others are
OTHER_GROUP = 43
NAME_PREFIX = "ll"
FIRST_NUMBER = 10000  # all names have the same length, so one message fits all
NAME = NAME_PREFIX + "{}"
_ADDRESS_BEFORE = "02:00:00:00:00:00"
_ADDRESS_AFTER = "02:00:00:00:00:01"


class Operation(StrEnum):
    """What is done to the interfaces."""

    CREATE = "create"
    MTU = "mtu"
    UP = "up"
    DOWN = "down"
    ADDRESS = "address"
    GROUP = "group"
    DELETE = "delete"


@dataclass(frozen=True)
class LinkState:
    """What is true of each interface. `address` is None where it does not matter."""

    mtu: int = 1500
    up: bool = False
    group: int = GROUP
    address: str | None = None


NEW = LinkState()  # as the kernel makes a dummy interface


@dataclass(frozen=True)
class Change:
    """An operation: the state before and after (None: no interfaces), and its words.

    `words` are what `ip link set` takes for it; creating and deleting have
    verbs of their own.
    """

    operation: Operation
    before: LinkState | None
    after: LinkState | None
    words: tuple[str, ...] = ()

    def ip_words(self) -> tuple[str, ...]:
        """Return what follows `ip` to do it to one interface, `{}` for its number."""
        match self.operation:
            case Operation.CREATE:
                return ("link", "add", NAME, "group", str(GROUP), "type", "dummy")
            case Operation.DELETE:
                return ("link", "delete", "dev", NAME)
            case _:
                return ("link", "set", "dev", NAME, *self.words)

    def ip_group_words(self) -> tuple[str, ...]:
        """Return what follows `ip` to do it to the whole group."""
        if self.operation is Operation.DELETE:
            return ("link", "delete", "group", str(GROUP))
        return ("link", "set", "group", str(GROUP), *self.words)


CHANGES: dict[Operation, Change] = {
    change.operation: change
    for change in (
        Change(Operation.CREATE, None, NEW),
        Change(Operation.MTU, NEW, replace(NEW, mtu=1400), ("mtu", "1400")),
        Change(Operation.UP, NEW, replace(NEW, up=True), ("up",)),
        Change(Operation.DOWN, replace(NEW, up=True), NEW, ("down",)),
        Change(
            Operation.ADDRESS,
            replace(NEW, address=_ADDRESS_BEFORE),
            replace(NEW, address=_ADDRESS_AFTER),
            ("address", _ADDRESS_AFTER),
        ),
        Change(Operation.GROUP, NEW, replace(NEW, group=OTHER_GROUP), ("group", str(OTHER_GROUP))),
        Change(Operation.DELETE, NEW, None),
    )
}
