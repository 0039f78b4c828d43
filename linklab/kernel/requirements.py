"""What a kernel must have to be tested, what of it has to be loaded, and what memory it costs.

What is needed is data, `images/needs.toml`, in groups: one for every boot, one
for each machine type, one for each scenario.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.kernel.kconfig import check_command_line, flavours, parse_config
from linklab.kernel.kernel import BuildOptions, Kernel, KernelSpec, wishes_of
from linklab.paths import IMAGES

BOOT = "boot"
SHELL = "shell"
_LIST = IMAGES / "needs.toml"

# Measured with Linux 6.12 and the lab's fragments, rounded up: together 70 MiB
# at boot, and 94 KiB for an interface that is up, instead of 43.
_LOCKDEP_MIB = 16  # its tables, which it has from the start
_KASAN_MIB = 64  # code, stack depot, and what its redzones add to all that is there at boot
# Of all memory: the shadow, an eighth (KASAN_SHADOW_SCALE_SHIFT), and freed
# objects that are held back, a thirty-second (mm/kasan/quarantine.c).
_KASAN_SHARE = 1 / 8 + 1 / 32
_KASAN_GROWTH = 2.25  # redzones and stacks of who allocated: each object takes so much more


@dataclass(frozen=True)
class Requirement:
    """An option of the kernel's, the module or the option that it can be instead, and what for."""

    option: str
    module: str | None
    why: str
    other: str | None = None


def needs_of(groups: Sequence[str], path: Path = _LIST) -> tuple[Requirement, ...]:
    """Return what these groups need; a group that the list does not have needs nothing.

    A group may be a file of a scenario's own: a list in the same form, without
    groups, or a config fragment, whose options are wanted built in.
    """
    data = tomllib.loads(path.read_text())
    found = {
        option: Requirement(option, entry.get("module"), entry["why"], entry.get("or"))
        for group in groups
        for option, entry in _entries(group, data).items()
    }
    return tuple(found.values())


def _entries(group: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    if group.endswith(".toml"):
        return tomllib.loads(Path(group).read_text())
    if "/" in group:
        options = parse_config(Path(group).read_text())
        return {option: {"why": "the scenario"} for option, v in options.items() if v == "y"}
    return dict(data.get(group, {}))


def modules_needed(kernel: Kernel, groups: Sequence[str], path: Path = _LIST) -> tuple[str, ...]:
    """Return the names of the modules to load into a kernel for these groups.

    Raises `UsageError`, naming each option that is lacking and what for, and for
    a kernel that takes no command line. Of a
    kernel that tells nothing of itself, neither by a config nor by modules, it
    is taken that all is built in.
    """
    needs = needs_of(groups, path)
    config = parse_config(kernel.config.read_text()) if kernel.config else None
    check_command_line(config or {}, kernel.name)
    faults = [(need, fault) for need in needs if (fault := _fault_of(need, kernel, config))]
    if faults:
        lines = [f"  {need.option}, {fault}: {need.why}" for need, fault in faults]
        raise UsageError(
            f"kernel {kernel.name} ({kernel.release}) lacks what it takes:\n" + "\n".join(lines)
        )
    if kernel.modules is None:
        return ()
    wanted = (need for need in needs if (config or {}).get(need.option) != "y")
    return tuple(need.module for need in wanted if need.module)


def _fault_of(need: Requirement, kernel: Kernel, config: Mapping[str, str] | None) -> str | None:
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


@dataclass(frozen=True)
class ConfigSize:
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


def config_size_for(name: str, options: BuildOptions) -> ConfigSize:
    """Return what a kernel costs that `--kernel` names, as far as is known before it is built.

    Raises what `wishes_of` does; a kernel that shows no config is a plain one.
    """
    if name in flavours():
        wishes = wishes_of(KernelSpec(name, options))
        return config_size_of({wish.option: wish.value for wish in wishes.values()})
    try:
        return config_size_of(parse_config((Path(name).expanduser() / ".config").read_text()))
    except OSError:
        return ConfigSize()


def config_size_of(options: Mapping[str, str]) -> ConfigSize:
    """Return what options of a kernel's config cost."""

    def has(name: str) -> bool:
        return options.get(f"CONFIG_{name}") == "y"

    fixed = _LOCKDEP_MIB * has("PROVE_LOCKING")
    if not has("KASAN"):
        return ConfigSize(fixed)
    return ConfigSize(fixed + _KASAN_MIB, _KASAN_GROWTH, _KASAN_SHARE)
