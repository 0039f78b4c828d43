"""What samples say: each symbol's share of the work, and how well it is known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from linklab.profile.stacks import Stacks, frame_name, is_kernel

_Z = 1.959964  # of the normal distribution, for 95 %
LEAST = 1000  # samples: a symbol with a share of 1 % is known to about 0.6 points then
WIDTH = 0.02  # of the work, to either side


@dataclass(frozen=True)
class Share:
    """A part of the work, with its 95 % interval. All but `samples` from 0 to 1."""

    samples: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class SymbolShare:
    """One symbol: `own` is when it ran itself, `total` when it or what it called ran."""

    symbol: str
    space: str  # "kernel" or "user"
    own: Share
    total: Share

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def share_of(samples: int, among: int) -> Share:
    """Return `samples` as a part of `among`, with its 95 % interval.

    The interval is Wilson's (Journal of the American Statistical Association
    22, 1927): unlike the common one it holds for shares near 0 and 1.
    """
    if among <= 0:
        return Share(0, 0.0, 0.0, 1.0)
    part = samples / among
    scale = 1 + _Z**2 / among
    middle = (part + _Z**2 / (2 * among)) / scale
    reach = _Z / scale * math.sqrt(part * (1 - part) / among + _Z**2 / (4 * among**2))
    low = max(0.0, middle - reach) if samples else 0.0
    high = min(1.0, middle + reach) if samples < among else 1.0
    return Share(samples, part, low, high)


def symbol_shares(stacks: Stacks) -> list[SymbolShare]:
    """Return every symbol's share, the one that ran most first."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, count in stacks.items():
        frames = stack[1:]  # behind the process's name
        own[frames[-1]] += count
        for frame in set(frames):
            total[frame] += count
    among = own.total()
    return [
        SymbolShare(
            frame_name(frame),
            "kernel" if is_kernel(frame) else "user",
            share_of(own[frame], among),
            share_of(total[frame], among),
        )
        for frame in sorted(total, key=lambda frame: (-own[frame], -total[frame], frame))
    ]


def kernel_share(stacks: Stacks) -> Share:
    """Return the part of the work that ran in the kernel."""
    kernel = sum(count for stack, count in stacks.items() if is_kernel(stack[-1]))
    return share_of(kernel, sum(stacks.values()))


@dataclass(frozen=True)
class Rule:
    """When there are enough samples of the work.

    With `samples`: that many. Without: `LEAST`, and until the share of the top
    symbol is known within `WIDTH` to either side at 95 %.
    """

    samples: int | None = None

    @property
    def text(self) -> str:
        """The rule, in words."""
        if self.samples is not None:
            return f"at least {self.samples} samples"
        return (
            f"at least {LEAST} samples, and until the top symbol's share is known "
            f"within {WIDTH * 100:g} points to either side at 95 %"
        )

    def missing(self, stacks: Stacks) -> int:
        """Return how many more samples it takes, as far as these can tell; 0 when it is met."""
        have = sum(stacks.values())
        if self.samples is not None:
            return max(0, self.samples - have)
        top = max((symbol.own for symbol in symbol_shares(stacks)), key=_samples, default=None)
        if top is None or have < LEAST:
            return LEAST - have
        if (top.high - top.low) / 2 <= WIDTH:
            return 0
        needed = math.ceil(top.share * (1 - top.share) * (_Z / WIDTH) ** 2)
        return max(needed - have, have // 20 + 1)


def _samples(share: Share) -> int:
    return share.samples
