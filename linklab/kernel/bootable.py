"""A kernel that can be booted, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linklab.kernel.buildfolder import BuildFolder
from linklab.kernel.compilerwarnings import CompilerWarning
from linklab.kernel.moduletree import ModuleTree


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted. `sha256` is its bzImage's; `vmlinux` has a PVH entry.

    `symbols` is a vmlinux with debug information, where it was built with that;
    `warnings` is what the compiler warned of, of a kernel that the lab built.
    `inputs` names everything that went into it, by content, as JSON can express it.
    `modules` are those that were built with it, where they were found, and
    `build` is what others are compiled against.
    """

    name: str
    release: str
    bzimage: Path
    vmlinux: Path | None
    config: Path | None
    sha256: str
    built_by_lab: bool
    inputs: Mapping[str, Any] = field(default_factory=dict)
    symbols: Path | None = None
    warnings: tuple[CompilerWarning, ...] = ()
    modules: ModuleTree | None = None
    build: BuildFolder | None = None
