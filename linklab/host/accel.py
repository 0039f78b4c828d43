"""Does KVM really run a guest here?

/dev/kvm can be there, open, even create a machine, and still not run a guest:
QEMU aborts because a model-specific register cannot be set, or the guest
never executes an instruction and nothing says so. So the question is answered
by booting something tiny, once for each boot of the host, and remembered.
"""

from __future__ import annotations

import grp
import os
import shutil
import signal
import stat
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from linklab.errors import LabError, UsageError
from linklab.events import Listener, Note
from linklab.host.cache import cache_root, host_fact, key_of, load_json, save_json
from linklab.host.run import CommandFailed, CommandMissing, run

DEV_KVM = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

PROBE_DEADLINE = 3.0
"""Seconds for the probe; where a guest runs at all it takes 0.2, under TCG too."""

PATIENCE = 10.0
"""How many times as long as under TCG the probe may take under KVM before it counts as hung.

Where KVM itself is emulated, each of its exits costs what an emulated CPU takes
for it; TCG knows no exits.
"""

ORDINARY_SPEED = 1e8
"""Instructions a second, as `speed` has it, that the lab's deadlines are made for."""

_SPEED_INSTRUCTIONS = 40_000_000
_SPEED_DEADLINE = 120.0  # s

_EXIT_PORT = 0xF4
_EXIT_VALUE = 0x2A
PROBE_STATUS = _EXIT_VALUE << 1 | 1
"""How QEMU ends when the probe ran: isa-debug-exit's (value << 1) | 1. QEMU's
own ends are 0 (a guest that resets itself), 1 (an error) and signals."""


class Accel(StrEnum):
    """What executes the guest's instructions. `KVM_ANYWAY` asks for KVM without a probe."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"
    KVM_ANYWAY = "kvm!"

    @property
    def is_kvm(self) -> bool:
        """Whether KVM is asked for, with a probe or without."""
        return self in {Accel.KVM, Accel.KVM_ANYWAY}


@dataclass(frozen=True)
class Decision:
    """The accelerator to use, `KVM` or `TCG`, and why, in words for the user."""

    accel: Accel
    reason: str


def decide(
    requested: Accel,
    qemu: Path,
    listener: Listener,
    *,
    fresh: bool = False,
    dev_kvm: Path = DEV_KVM,
    deadline: float = PROBE_DEADLINE,
) -> Decision:
    """Return the accelerator to use with `qemu`, a path or a name in PATH.

    `AUTO` takes KVM if it runs a guest, and TCG otherwise; then a `Note` says
    why, once, when it was found out. `fresh` asks again instead of using what
    is remembered. Raises `CommandMissing` without QEMU and `UsageError` where
    KVM is asked for and does not work.
    """
    binary = _located(qemu)
    if requested is Accel.TCG:
        return Decision(Accel.TCG, "TCG was asked for")
    if requested is Accel.KVM_ANYWAY:
        return Decision(Accel.KVM, "KVM was asked for, and not tried before")
    host = _host_state(binary, dev_kvm)
    store = cache_root() / "host" / f"kvm-{key_of({'qemu': str(binary)})}.json"
    kept = load_json(store)
    answer = kept.get("answer") if kept.get("host") == host and not fresh else None
    if not isinstance(answer, dict) or not {"works", "reason"} <= answer.keys():
        version = run([binary, "--version"], deadline=10, check=False).text.partition("\n")[0]
        fault = _closed_door(dev_kvm) or probe(binary, Accel.KVM, deadline)
        reason = fault or "KVM runs a guest here"
        answer = {"works": fault is None, "reason": reason, "version": version}
        # A cache that cannot be written costs another probe; whoever builds into it says why.
        with suppress(OSError):
            save_json(store, {"host": host, "answer": answer})
        if requested is Accel.AUTO and fault:
            listener(Note(f"KVM does not run a guest here, so TCG does: {fault}"))
    if answer["works"]:
        return Decision(Accel.KVM, answer["reason"])
    if requested is Accel.KVM:
        raise UsageError(
            f"--accel kvm: KVM does not run a guest here ({answer['reason']}); use tcg or auto "
            f"(`invoke doctor` tries KVM again, --accel {Accel.KVM_ANYWAY.value} takes it untried)"
        )
    return Decision(Accel.TCG, answer["reason"])


def probe_kernel(instructions: int = 0) -> bytes:
    """Return the smallest kernel that says that it ran, after so many instructions.

    It has the form of a bzImage (Documentation/arch/x86/boot.rst in the
    kernel's source), so QEMU loads it as it loads a real one: through the
    firmware, which brings the CPU into protected mode and back, to the
    16-bit set-up code. That is a jump over the header and a few instructions;
    the protected-mode part, one sector, is never entered. Bytes instead of an
    assembler's output, because the probe is also run where no compiler is yet.
    """
    sectors = bytearray(2 * 512)
    struct.pack_into("<B", sectors, 0x1F1, 1)  # setup_sects
    struct.pack_into("<H", sectors, 0x1FE, 0xAA55)  # boot_flag
    struct.pack_into("<2s4sH", sectors, 0x200, b"\xeb\x3e", b"HdrS", 0x0200)  # jmp 0x240
    struct.pack_into("<B", sectors, 0x211, 1)  # loadflags: LOADED_HIGH
    spin = b"\x66\xb9" + struct.pack("<I", instructions) + b"\x67\xe2\xfd"  # mov ecx, n; loop $
    code = (
        (spin if instructions else b"")
        + struct.pack("<BH", 0xBA, _EXIT_PORT)  # mov dx, port
        + struct.pack("<BH", 0xB8, _EXIT_VALUE)  # mov ax, value
        + b"\xef"  # out dx, ax
        + b"\xf4\xeb\xfd"  # hlt; jmp back to it
    )
    sectors[0x240 : 0x240 + len(code)] = code
    return bytes(sectors) + bytes(512)


def probe_argv(qemu: Path, kernel: Path, accel: Accel, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command line that runs the probe as the lab runs its guests."""
    return (
        str(qemu),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "pc", "-accel", accel.value),
        *("-cpu", "host" if accel is Accel.KVM else "qemu64"),
        *("-m", "32M"),
        *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=0x4"),
        *("-kernel", str(kernel)),
        *more,
    )


def speed(qemu: Path, accel: Accel, root: Path | None = None) -> float:
    """Return the instructions a second that a guest executes here, QEMU's start with them.

    Under TCG they are counted, as in virtual time. Measured once for each boot of
    the host and QEMU (0.3 s), to scale deadlines by: other work of the host makes
    it a bound, and no figure. Raises `LabError`.
    """
    binary = _located(qemu)

    def ask() -> str:
        began = time.monotonic()
        counted = ("-icount", "shift=0,sleep=off") if accel is Accel.TCG else ()
        kernel = probe_kernel(_SPEED_INSTRUCTIONS)
        ended, said = _boot(binary, accel, _SPEED_DEADLINE, kernel, counted)
        seconds = time.monotonic() - began
        if ended != PROBE_STATUS:
            raise LabError(f"QEMU runs no instructions under {accel} (status {ended}{said})")
        return f"{_SPEED_INSTRUCTIONS / seconds:.0f}"

    state = {**_host_state(binary, DEV_KVM), "accel": accel.value}
    return host_fact(f"speed-{key_of(state)}", float, ask, root)


def probe(qemu: Path, accel: Accel, deadline: float = PROBE_DEADLINE) -> str | None:
    """Boot the probe; return None if it ran, and else what happened, in words.

    A host that is slow with KVM is slow without it: where nothing came within
    `deadline` the probe is timed under TCG, and has `PATIENCE` times as long.
    """
    for limit in _deadlines(qemu, accel, deadline):
        try:
            status, said = _boot(qemu, accel, limit, probe_kernel())
            break
        except CommandFailed as error:
            hung = f"the guest hangs, no sign of it in {limit:.3g} s{_said(error.evidence, qemu)}"
    else:
        return hung
    if status == PROBE_STATUS:
        return None
    if status < 0:
        return f"QEMU was ended by {signal.Signals(-status).name}{said}"
    return f"QEMU ended with status {status}{said}"


def _deadlines(qemu: Path, accel: Accel, deadline: float) -> Iterator[float]:
    yield deadline
    if accel is Accel.KVM:
        began = time.monotonic()
        with suppress(CommandFailed):  # what hangs under TCG tells nothing of KVM
            _boot(qemu, Accel.TCG, PATIENCE * deadline, probe_kernel())
            longer = PATIENCE * (time.monotonic() - began)
            if longer > deadline:
                yield longer


def _boot(
    qemu: Path, accel: Accel, deadline: float, kernel: bytes, more: Sequence[str] = ()
) -> tuple[int, str]:
    """Boot a probe; return how QEMU ended, and what it said for the end of a sentence.

    It runs in a folder that goes away, so that an abort leaves no core file behind.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-probe-") as folder:
        file = Path(folder) / "probe"
        file.write_bytes(kernel)
        argv = probe_argv(qemu, file, accel, more)
        ended = run(argv, cwd=Path(folder), deadline=deadline, check=False)
    return ended.returncode, _said(ended.stderr.decode(errors="replace"), qemu)


def _located(qemu: Path) -> Path:
    found = shutil.which(qemu)
    if found is None:
        raise CommandMissing(f"{qemu} is not installed: `invoke setup` installs what is missing")
    return Path(found).resolve()


def _host_state(qemu: Path, dev_kvm: Path) -> dict[str, Any]:
    """Return what an answer depends on: another state, another answer.

    The node's change time stands for a module that was loaded again and for
    permissions that were given; QEMU's version stands behind its size and time.
    """
    binary = qemu.stat()
    state: dict[str, Any] = {
        "boot": BOOT_ID.read_text().strip(),
        "qemu": [str(qemu), binary.st_size, binary.st_mtime_ns],
        "kvm": None,
    }
    with suppress(OSError):
        state["kvm"] = [dev_kvm.stat().st_ctime_ns, os.access(dev_kvm, os.R_OK | os.W_OK)]
    return state


def _closed_door(dev_kvm: Path) -> str | None:
    """Return why /dev/kvm cannot be opened, or None."""
    try:
        node = dev_kvm.stat()
    except FileNotFoundError:
        return (
            f"there is no {dev_kvm}: virtualization is switched off in the firmware, missing "
            "in this (virtual) machine, or the module kvm_intel or kvm_amd is not loaded"
        )
    if os.access(dev_kvm, os.R_OK | os.W_OK):
        return None
    if stat.S_IMODE(node.st_mode) & 0o060 == 0o060:
        group = str(node.st_gid)
        with suppress(KeyError):
            group = grp.getgrgid(node.st_gid).gr_name
        return (
            f"no permission for {dev_kvm}: add yourself to the group {group} "
            f"(sudo usermod -aG {group} $USER) and log in again"
        )
    mode = stat.filemode(node.st_mode)
    return f"no permission for {dev_kvm}: it is its owner's alone ({mode}); root can change that"


def _said(text: str, qemu: Path) -> str:
    """Return QEMU's first line that is no mere warning, for the end of a sentence."""
    lines = [line.removeprefix(f"{qemu.name}: ") for line in text.strip().splitlines()]
    errors = [line for line in lines if not line.startswith("warning: ")]
    return f": {(errors or lines)[0]}" if lines else ", without a word"
