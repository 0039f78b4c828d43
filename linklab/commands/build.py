"""`invoke build-kernel` and `invoke build-iso`."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from linklab.commands.exit_status import print_shown
from linklab.commands.kernels import KernelOptions, iso_of, tell_notes
from linklab.errors import UsageError
from linklab.host.cache import Cache
from linklab.image.iso import IMAGE, iso_contents
from linklab.kernel.kernel import resolve_kernel
from linklab.lab.lab import file_label
from linklab.options import group, option
from linklab.report.progress import progress


@dataclass(frozen=True)
class BuildKernelOptions:
    """The options of `invoke build-kernel`, as typed."""

    kernels: KernelOptions = group(KernelOptions, without=("modules",))


@dataclass(frozen=True)
class BuildIsoOptions:
    """The options of `invoke build-iso`, as typed."""

    kernels: KernelOptions = group(KernelOptions, names="sysfs")
    output: str = option("", "the ISO's path; default out/linklab-<kernels>.iso")


def kernels(command: BuildKernelOptions) -> None:
    """Build kernels and print where each is and what it weighs."""
    options = command.kernels
    wanted = options.check()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("kernel", "release", "bzImage", "seconds", "where"):
        table.add_column(title, justify="right" if title in {"bzImage", "seconds"} else "left")
    with progress() as listener:
        tell_notes(options, listener)
        for name in wanted:
            began = time.monotonic()
            kernel = resolve_kernel(name, options.build_options(), Cache(), listener)
            table.add_row(
                escape(name),
                kernel.release,
                f"{kernel.bzimage.stat().st_size / 1e6:.2f} MB",
                f"{time.monotonic() - began:.1f}",
                escape(str(kernel.bzimage.parent)),
            )
    Console(highlight=False, soft_wrap=True).print(table)


def iso(command: BuildIsoOptions) -> None:
    """Build the ISO, put it where it was asked for, and print what is in it."""
    options = command.kernels
    words = options.check()
    target = Path(
        command.output or f"out/linklab-{'-'.join(file_label(word) for word in words)}.iso"
    )
    _check_target(target)
    with progress() as listener:
        tell_notes(options, listener)
        cache = Cache()
        built = [resolve_kernel(n, options.build_options(), cache, listener) for n in words]
        artefact = iso_of(built, options, cache, listener)
    _copy(artefact.file(IMAGE), target)
    table = Table(
        title=escape(f"{target}: what is in it"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for title in ("", "part", "bytes", "on the ISO"):
        table.add_column(title, justify="right" if "b" in title or "on " in title else "left")
    for part in iso_contents(artefact):
        packed = f"{part.packed:,}" if part.packed else ""
        table.add_row(part.group, escape(part.name), f"{part.size:,}", packed)
    print_shown(table)
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


def _check_target(target: Path) -> None:
    """Make the folder; refuse a target that cannot be written, before anything is built."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UsageError(f"--output {target} is a folder: a file's path is expected")
        probe = target.with_name(f".{target.name}.part")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--output {target} cannot be written: {error.strerror}") from error


def _copy(source: Path, target: Path) -> None:
    """Copy so that the target is never half there."""
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"--output {target} cannot be written: {error.strerror}") from error
