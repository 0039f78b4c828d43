"""Setting up, and building kernels and ISOs."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.errors import Verdict
from linklab.tasks.help import KERNEL_HELP, MODULE_HELP


@task(auto_shortflags=False)
@command
def setup(_context: Context) -> None:
    """Install the Debian packages that are missing."""
    from linklab.commands.host import set_up

    set_up()


@task(auto_shortflags=False)
@command
def doctor(_context: Context) -> Verdict:
    """Say what works on this machine and what to do about the rest."""
    from linklab.commands.host import examine

    return examine()


@task(auto_shortflags=False, iterable=["patch", "config"], help={**KERNEL_HELP})
@command
def build_kernel(
    _context: Context,
    kernel: str = "sysfs,nosysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
) -> None:
    """Build kernels if their inputs changed, and say where they are."""
    from linklab.commands.build import kernels
    from linklab.commands.prepare import KernelOptions

    kernels(KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range))


@task(
    auto_shortflags=False,
    iterable=["patch", "config", "module"],
    help={
        **KERNEL_HELP,
        **MODULE_HELP,
        "output": "the ISO's path; default out/linklab-<kernels>.iso",
    },
)
@command
def build_iso(
    _context: Context,
    kernel: str = "sysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    module: list[str] | None = None,
    output: str = "",
) -> None:
    """Build the live ISO and print what is in it and what each part weighs."""
    from linklab.commands.build import iso
    from linklab.commands.prepare import KernelOptions

    iso(
        KernelOptions(
            kernel,
            source,
            tuple(patch or ()),
            tuple(config or ()),
            range,
            modules=tuple(module or ()),
        ),
        output,
    )
