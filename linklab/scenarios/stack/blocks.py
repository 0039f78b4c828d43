"""Requests to the module lana, built with pyroute2, and what `fbctl list` says, read.

The numbers are those of guest/lana/lana_uapi.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import ClassVar

from pyroute2.netlink import NLM_F_ACK, NLM_F_REPLACE, NLM_F_REQUEST, genlmsg

from linklab.errors import LabError

FBCTL = "/usr/lib/linklab/fbctl"
_VERSION = 1


class Command(IntEnum):
    """What is asked for."""

    ADD = 1
    RM = 2
    SET = 3
    BIND = 4
    UNBIND = 5
    REPLACE = 6
    SUBSCRIBE = 7
    UNSUBSCRIBE = 8


class BlockMessage(genlmsg):  # type: ignore[misc]
    """A message of the family LANA."""

    nla_map: ClassVar = (
        ("LANA_A_UNSPEC", "none"),
        ("LANA_A_NAME", "asciiz"),
        ("LANA_A_TYPE", "asciiz"),
        ("LANA_A_OTHER", "asciiz"),
        ("LANA_A_PORT", "uint8"),
        ("LANA_A_KEY", "asciiz"),
        ("LANA_A_VALUE", "asciiz"),
    )


def _request(command: Command, flags: int = 0, **attributes: object) -> bytes:
    message = BlockMessage()
    message["cmd"] = command
    message["version"] = _VERSION
    message["attrs"] = [(f"LANA_A_{name.upper()}", value) for name, value in attributes.items()]
    # The type is the family's number, which only the guest's kernel knows: fbctl writes it.
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    message.encode()
    return bytes(message.data)


def add(kind: str, name: str) -> bytes:
    """Return the request for a new block."""
    return _request(Command.ADD, type=kind, name=name)


def remove(name: str) -> bytes:
    """Return the request that removes a block."""
    return _request(Command.RM, name=name)


def set_to(name: str, key: str, value: str) -> bytes:
    """Return the request that changes a block's setting."""
    return _request(Command.SET, name=name, key=key, value=value)


def bind(lower: str, upper: str, *, again: bool = False, port: int = 0) -> bytes:
    """Return the request that has a block's port lead to another one; `again`: in place of one."""
    return _request(Command.BIND, NLM_F_REPLACE if again else 0, name=lower, other=upper, port=port)


def of_two(command: Command, name: str, other: str) -> bytes:
    """Return a request about two blocks: UNBIND, REPLACE, SUBSCRIBE, UNSUBSCRIBE."""
    return _request(command, name=name, other=other)


def chained(kinds: Sequence[tuple[str, str]]) -> list[bytes]:
    """Return the requests that make blocks, each a type and a name, and bind them upwards."""
    made = [add(kind, name) for kind, name in kinds]
    names = [name for _, name in kinds]
    return [*made, *(bind(low, up) for low, up in pairwise(names))]


def taken_apart(names: Sequence[str]) -> list[bytes]:
    """Return the requests that unbind a chain and remove its blocks."""
    pairs = pairwise(names)
    return [*(of_two(Command.UNBIND, low, up) for low, up in pairs), *map(remove, names)]


def undone(found: Mapping[str, Block]) -> list[bytes]:
    """Return the requests that unbind and remove all blocks of a list."""
    bound = [
        of_two(Command.UNBIND, name, block.said[port])
        for name, block in found.items()
        for port in ("up", "side")
        if port in block.said
    ]
    return [*bound, *map(remove, found)]


@dataclass(frozen=True)
class Block:
    """A block as it is listed: `said` has its counters, who it is bound to, and its state."""

    name: str
    said: dict[str, str]

    def number(self, key: str) -> int:
        """Return a number that it says. Raises `LabError`."""
        try:
            return int(self.said[key])
        except (KeyError, ValueError):
            raise LabError(f"the block {self.name} does not say {key}: {self.said}") from None


def listed(output: str) -> dict[str, Block]:
    """Return the blocks that `fbctl list` printed, by name."""
    return {block.name: block for block in _blocks(output.splitlines())}


def _blocks(lines: Iterable[str]) -> Iterable[Block]:
    for line in lines:
        name, *words = line.split()
        pairs = (word.partition("=") for word in words)
        yield Block(name, {key: value for key, _, value in pairs})
