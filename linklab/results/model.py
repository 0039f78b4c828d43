"""Samples and runs, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

SCHEMA = 1


class SchemaError(ValueError):
    """A stored result that this version cannot read."""


def _known(kind: type, what: str, data: object) -> dict[str, Any]:
    """Return what `data` has for the fields of a dataclass; what is not known is ignored.

    A field with a default came later than the first results, and may be missing.
    """
    if not isinstance(data, Mapping):
        raise SchemaError(f"{what} is not a JSON object")
    known = fields(kind)
    missing = [f.name for f in known if f.name not in data and f.default is MISSING]
    if missing:
        raise SchemaError(f"{what} lacks {', '.join(missing)}")
    return {f.name: data[f.name] for f in known if f.name in data}


@dataclass(frozen=True)
class Sample:
    """One measured value with everything needed to interpret it.

    `seconds` is the guest's time for the operation alone; `order` counts the
    samples of a run as they were taken. A sample that is not `verified` left
    the interfaces in a wrong state: its time says nothing. `listeners` sockets
    were told of link changes meanwhile: `notifications` messages reached them
    in total, `notifications_lost` were dropped because their buffers were full.
    `clock` says what the seconds are: `real`; `virtual`, an instruction each ns;
    or `recorded`, which compares with nothing.
    `block` is the round that it was taken in, which has each kernel once: what
    kernels took is compared within blocks. Set-up has 0.
    """

    scenario: str
    kernel: str
    boot: str
    accel: str
    operation: str
    arm: str
    interfaces: int
    trial: int
    seconds: float
    user_seconds: float
    system_seconds: float
    context_switches: int
    messages: int
    processes: int
    order: int
    verified: bool
    listeners: int = 0
    notifications: int = 0
    notifications_lost: int = 0
    block: int = 0
    clock: str = "real"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Return the sample in `data`; what is not known is ignored.

        Raises `SchemaError` when something is missing.
        """
        return cls(**_known(cls, "a sample", data))


@dataclass(frozen=True)
class BootRecord:
    """One boot of a guest: the host's seconds from QEMU's start to the agent's hello."""

    kernel: str
    interfaces: int
    seconds: float
    clocksource: str
    clock_resolution: float


@dataclass(frozen=True)
class TallyRecord:
    """What an operation by an arm asks of the kernel, of all processes that take part.

    Counted in a repetition of its own, which is not timed: being watched
    takes time.
    """

    kernel: str
    operation: str
    arm: str
    interfaces: int
    system_calls: int
    messages: int  # netlink messages sent


@dataclass(frozen=True)
class KernelRecord:
    """A kernel that was tested, and what went into it."""

    name: str
    release: str
    sha256: str
    inputs: Mapping[str, Any]
    image_bytes: int | None  # of the whole live ISO, where it was made


@dataclass(frozen=True)
class Run:
    """A run as stored: `about` is run.json, with the samples beside it."""

    about: Mapping[str, Any]
    samples: Sequence[Sample]

    def check(self) -> None:
        """Raise `SchemaError` when `about` lacks what reports are made of."""
        _ = self.kernels, self.boots, self.tallies

    @property
    def kernels(self) -> list[KernelRecord]:
        """The kernels tested."""
        entries = _known_list(self.about, "kernels")
        return [KernelRecord(**_known(KernelRecord, "a kernel", entry)) for entry in entries]

    @property
    def boots(self) -> list[BootRecord]:
        """The boots of guests, in the order they happened."""
        entries = _known_list(self.about, "boots")
        return [BootRecord(**_known(BootRecord, "a boot", entry)) for entry in entries]

    @property
    def tallies(self) -> list[TallyRecord]:
        """What was counted; nothing in a run from before that was done."""
        if "tallies" not in self.about:
            return []
        entries = _known_list(self.about, "tallies")
        return [TallyRecord(**_known(TallyRecord, "a tally", entry)) for entry in entries]


def _known_list(about: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(about.get(name), list):
        raise SchemaError(f"the run lacks {name}")
    return list(about[name])
