"""The kernel's command line for a direct boot, as a pure function."""

from __future__ import annotations

AGENT_PATH = "/bin/linklab-agent"


DISTRIBUTION: tuple[str, ...] = (
    # Half a second under TCG in which a kernel tests its ciphers, which nobody here uses.
    "cryptomgr.notests=1",
)
"""Parameters that spare a distribution's kernel work at boot; others do not know them."""


RECORDING: tuple[str, ...] = (
    # Code is where vmlinux says.
    "nokaslr",
    # A wait in a loop is expensive to record: each `pause` leaves the loop of the CPU's
    # thread in QEMU, which then notes its look at the clock, 6 bytes.  The APIC timer
    # is calibrated in such a wait, of 100 ms; the PIT needs none.
    "nolapic_timer",
    # 10 ms to see whether its interrupts come.
    "no_timer_check",
    # What comes in reaches a guest that is idle with its next tick (linklab/machine/pipes.py).
    "nohz=off",
)
"""Parameters of a guest that is recorded, to be replayed with gdb."""


def measuring_command_line(
    agent_device: str, tsc_khz: int | None, *, stays: bool = False, takes_turns: bool = False
) -> tuple[str, ...]:
    """Return the parameters of a guest that measures.

    `tsc_khz` is the counter's frequency where the guest cannot find it out by
    itself (TCG), else None. One that `stays` does not end when its kernel
    fails: somebody wants to look at it. One that `takes_turns` stands still
    while its agent has nothing to do (virtual time).
    """
    return (
        *_common(tsc_khz),
        # A kernel that oopsed has failed; a panic ends QEMU at once (-no-reboot).
        *(("panic=0",) if stays else ("oops=panic", "panic=-1")),
        # "<N>" in front of each line: what a program says through /dev/kmsg has
        # N >= 8, and only the kernel's own words have less (devkmsg_write in
        # kernel/printk/printk.c).
        "console_msg_format=syslog",
        # The driver makes one interface unasked; the lab counts its own.
        "dummy.numdummies=0",
        f"rdinit={AGENT_PATH}",
        f"linklab.port={agent_device}",
        *(("linklab.turns",) if takes_turns else ()),
    )


def shell_command_line(agent_device: str, tsc_khz: int | None) -> tuple[str, ...]:
    """Return the parameters of a guest with a person's shell on its console.

    Its agent tells the console the size of the window.
    """
    return (*_common(tsc_khz), "panic=-1", f"linklab.port={agent_device}")


def debugging_command_line(tsc_khz: int | None) -> tuple[str, ...]:
    """Return the parameters of a guest with a person's shell, to be looked at with gdb.

    A kernel that panics stays, and code is where vmlinux says.
    """
    return (*_common(tsc_khz), "panic=0", "nokaslr")


def _common(tsc_khz: int | None) -> tuple[str, ...]:
    return (
        "console=ttyS0",
        # Warnings and worse: each line of a full boot log costs 1 ms of UART.
        "loglevel=5",
        # The watch takes only lines with a time stamp for the kernel's own.
        "printk.time=1",
        *_emulation(tsc_khz),
    )


def _emulation(tsc_khz: int | None) -> tuple[str, ...]:
    if tsc_khz is None:
        return ()
    return (
        f"tsc_early_khz={tsc_khz}",
        "tsc=reliable",
        # Each program at the same addresses each time. QEMU before 8.0 keeps what it
        # translated by virtual address: with random ones it translates libc anew for
        # every process, which cost four times as much as the process itself.
        "norandmaps",
    )
