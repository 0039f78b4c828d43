"""What a kernel's config costs in guest memory, beyond what the work itself needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from linklab.kernel.flavours import flavours
from linklab.kernel.kconfig import parse_config
from linklab.kernel.kernel import BuildOptions, KernelSpec, wishes_of

# Measured with Linux 6.12 and the lab's fragments, rounded up: together 70 MiB
# at boot, and 94 KiB for an interface that is up, instead of 43.
_LOCKDEP_MIB = 16  # its tables, which it has from the start
_KASAN_MIB = 64  # code, stack depot, and what its redzones add to all that is there at boot
# Of all memory: the shadow, an eighth (KASAN_SHADOW_SCALE_SHIFT), and freed
# objects that are held back, a thirty-second (mm/kasan/quarantine.c).
_KASAN_SHARE = 1 / 8 + 1 / 32
_KASAN_GROWTH = 2.25  # redzones and stacks of who allocated: each object takes so much more


@dataclass(frozen=True)
class Footprint:
    """`fixed` MiB, `growth` times what the work needs, and a `share` of all memory."""

    fixed: int = 0
    growth: float = 1.0
    share: float = 0.0

    def needed(self, work: int) -> int:
        """Return the MiB of a guest whose work needs `work` MiB on a plain kernel."""
        return -int(-(work * self.growth + self.fixed) // (1 - self.share))

    def left(self, memory: int) -> int:
        """Return the MiB for the work, as a plain kernel counts, of a guest with `memory`."""
        return max(0, int((memory * (1 - self.share) - self.fixed) / self.growth))


def footprint_for(name: str, options: BuildOptions) -> Footprint:
    """Return what a kernel costs that `--kernel` names, as far as is known before it is built.

    Raises what `wishes_of` does; a kernel that shows no config is a plain one.
    """
    if name in flavours():
        wishes = wishes_of(KernelSpec(name, options))
        return footprint_of({wish.option: wish.value for wish in wishes.values()})
    try:
        return footprint_of(parse_config((Path(name).expanduser() / ".config").read_text()))
    except OSError:
        return Footprint()


def footprint_of(options: Mapping[str, str]) -> Footprint:
    """Return what options of a kernel's config cost."""

    def has(name: str) -> bool:
        return options.get(f"CONFIG_{name}") == "y"

    fixed = _LOCKDEP_MIB * has("PROVE_LOCKING")
    if not has("KASAN"):
        return Footprint(fixed)
    return Footprint(fixed + _KASAN_MIB, _KASAN_GROWTH, _KASAN_SHARE)
