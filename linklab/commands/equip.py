"""What a kernel gets so that it can do what it is wanted for: an image with its modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linklab.build.bootable import Kernel
from linklab.build.initramfs import build_initramfs
from linklab.build.moduleimage import with_modules
from linklab.build.needs import BOOT, modules_needed
from linklab.build.userland import LIVE
from linklab.events import Listener
from linklab.host.cache import Artefact, Cache
from linklab.machine.spec import Boot, MachineType


@dataclass(frozen=True)
class Purpose:
    """What kernels are wanted for: `needs` are groups of `images/needs.toml`.

    `image` is the folder of the image that boots them; `machine` a type that
    was asked for.
    """

    boot: Boot
    needs: tuple[str, ...] = ()
    machine: MachineType | None = None
    image: Path = LIVE

    @property
    def all_needs(self) -> tuple[str, ...]:
        """The groups of what a kernel must have."""
        machine = self.machine.value if self.machine else ""
        return (BOOT, self.boot.value, machine, *self.needs)


def image_for(
    kernel: Kernel, purpose: Purpose, cache: Cache, listener: Listener
) -> Artefact | None:
    """Return the image with the modules that a kernel needs, None where it needs none.

    Raises `UsageError` for a kernel that lacks something.
    """
    wanted = modules_needed(kernel, purpose.all_needs)
    if not wanted or kernel.modules is None:
        return None
    modules = kernel.modules.in_order(wanted)
    if not modules:
        return None
    image = build_initramfs(cache, listener, image=purpose.image)
    return with_modules(image, kernel.release, modules, cache, listener)
