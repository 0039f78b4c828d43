"""What a stored result knows of its kernels and of the circumstances that it came about in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linklab.results.model import KernelRecord
from linklab.results.outcomes import KernelFacts


def facts_of(about: Mapping[str, Any], kernel: KernelRecord) -> KernelFacts:
    """Return what a stored result knows of one of its kernels."""
    inputs = kernel.inputs
    tools = inputs.get("tools") or [""]
    patches = about.get("patches") if inputs else None
    return KernelFacts(
        name=kernel.name,
        release=kernel.release,
        sha256=kernel.sha256,
        tree=str(inputs.get("tree", "")),
        commit=str(inputs.get("commit", "")),
        patches=tuple(str(value) for value in (patches or {}).values()),
        compiler=str(tools[0]),
        config=kernel.name if inputs else "",
    )


def circumstances(about: Mapping[str, Any]) -> dict[str, str]:
    """Return under which circumstances a stored result came about, as text."""
    qemu, host = about.get("qemu") or {}, about.get("host") or {}
    found = {
        "accel": about.get("accel"),
        "clock": about.get("clock"),
        "boot": about.get("boot"),
        "machine": about.get("machine"),
        "cpus": about.get("cpus"),
        "memory_mib": about.get("memory"),
        "qemu": qemu.get("version"),
        "host_cpu": host.get("cpu"),
        "host_kernel": host.get("kernel"),
        "command": about.get("command"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}
