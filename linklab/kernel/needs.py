"""What a kernel must have to be tested, and what of it has to be loaded.

What is needed is data, `images/needs.toml`, in groups: one for every boot, one
for each machine type, one for each scenario.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import UsageError
from linklab.kernel.bootable import Kernel
from linklab.kernel.kconfig import parse_config
from linklab.paths import IMAGES

BOOT = "boot"
SHELL = "shell"
_LIST = IMAGES / "needs.toml"


@dataclass(frozen=True)
class Need:
    """An option of the kernel's, the module or the option that it can be instead, and what for."""

    option: str
    module: str | None
    why: str
    other: str | None = None


def needs_of(groups: Sequence[str], path: Path = _LIST) -> tuple[Need, ...]:
    """Return what these groups need; a group that the list does not have needs nothing."""
    data = tomllib.loads(path.read_text())
    found = {
        option: Need(option, entry.get("module"), entry["why"], entry.get("or"))
        for group in groups
        for option, entry in data.get(group, {}).items()
    }
    return tuple(found.values())


def modules_needed(kernel: Kernel, groups: Sequence[str], path: Path = _LIST) -> tuple[str, ...]:
    """Return the names of the modules to load into a kernel for these groups.

    Raises `UsageError`, naming each option that is lacking and what for. Of a
    kernel that tells nothing of itself, neither by a config nor by modules, it
    is taken that all is built in.
    """
    needs = needs_of(groups, path)
    config = parse_config(kernel.config.read_text()) if kernel.config else None
    faults = [(need, fault) for need in needs if (fault := _fault_of(need, kernel, config))]
    if faults:
        lines = [f"  {need.option}, {fault}: {need.why}" for need, fault in faults]
        raise UsageError(
            f"kernel {kernel.name} ({kernel.release}) lacks what it takes:\n" + "\n".join(lines)
        )
    return tuple(need.module for need in needs if need.module and _is_loaded(need, kernel, config))


def _fault_of(need: Need, kernel: Kernel, config: Mapping[str, str] | None) -> str | None:
    """Return how a kernel fails a need, or None where it does not, or does not tell."""
    value = None if config is None else config.get(need.option, "n")
    if value == "y" or (config is not None and config.get(need.other or "") == "y"):
        return None
    has_module = need.module and kernel.modules and kernel.modules.has(need.module)
    if has_module or (value is None and (need.module is None or kernel.modules is None)):
        return None
    if value == "m" and need.module is None:
        return "which is a module and must be built in"
    if value == "m":
        return f"which is a module, and the modules of {kernel.release} were not found"
    return "which is neither built in nor a module" if need.module else "which is not built in"


def _is_loaded(need: Need, kernel: Kernel, config: Mapping[str, str] | None) -> bool:
    """Tell whether it is the module that meets the need, and not the kernel itself."""
    if config is not None and config.get(need.option) == "y":
        return False
    return kernel.modules is not None
