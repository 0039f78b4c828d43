"""Where a guest that does not answer stands still: what its CPUs and tasks are at.

Two ways that need nothing of the agent: the CPUs' registers, from QEMU, and
the kernel's own key for emergencies, a BREAK and a letter on its console
(Documentation/admin-guide/sysrq.rst). A kernel that takes no interrupts any
more does not answer the second; its instruction pointer says where it spins.
"""

from __future__ import annotations

import re
import select
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.agent.line import ConsoleLine
from linklab.console.frames import Frame, blamed_function, frame_in, reliable, source_name
from linklab.console.lines import read_line
from linklab.console.skipped_frames import STANDSTILL
from linklab.errors import LabError
from linklab.machine.process import Machine
from linklab.machine.qmp import registers, send_break
from linklab.machine.spec import DirectBoot

# A verdict must not be late for the sake of its evidence.
_CONTROL_LIMIT = 0.5  # s for QEMU to answer; a stopped one does not
_KERNEL_LIMIT = 1.5  # s for the kernel, all in all
_HEARING_LIMIT = 0.8  # s of that for the answer to a key to begin
_QUIET = 0.1  # s without a byte: the kernel has answered
_PORT = "console"  # what `machine.spec` calls it
_MOST_LINES = 400

# First the level, or most of the answers would not be printed.
_KEYS = (b"9", b"l", b"w")  # all messages; CPUs that work; tasks that wait

_POINTER = re.compile(r"^[RE]IP=([0-9a-f]+)", re.MULTILINE)
_KERNEL_HALF = 1 << 63  # of the addresses; programs have the other one
_CPU = re.compile(r"NMI backtrace for cpu \d+|CPU: \d+ ")
_TASK = re.compile(r"task:(?P<name>\S+)\s+state:D")
_MACHINE_WAITS = re.compile(r"halt|idle|cpu_relax|delay")
_IDLE = {"do_idle", "cpu_startup_entry", "default_idle_call"}

Stack = tuple[Frame, ...]


@dataclass(frozen=True)
class StuckState:
    """What could be found out. `text` is evidence, empty where nobody answered."""

    text: str = ""
    pointers: tuple[int, ...] = ()  # the CPUs' instruction pointers
    waiting: tuple[Stack, ...] = ()  # tasks that wait
    working: tuple[Stack, ...] = ()  # what the key interrupted, on each CPU
    spinning: tuple[str, ...] = ()  # the functions that the pointers are in, where that is known

    @property
    def stack(self) -> Stack:
        """The stack at which the guest stands still, empty where none was found."""
        busy = [stack for stack in self.working if not _is_idle(stack)]
        stacks = [*self.waiting, *busy]
        return next((stack for stack in stacks if blamed_function(stack, STANDSTILL)), ())

    @property
    def function(self) -> str | None:
        """The function at which the guest stands still, None where none was found."""
        if self.stack or self.working:
            return blamed_function(self.stack, STANDSTILL)
        # No interrupt gets through: the pointers are all there is.
        return next((name for name in self.spinning if not _MACHINE_WAITS.search(name)), None)

    @property
    def in_words(self) -> str:
        """Where the guest is, as the end of a sentence; empty where that is unknown."""
        if self.function:
            return f"the kernel is in {self.function}"
        if self.pointers and all(pointer < _KERNEL_HALF for pointer in self.pointers):
            return "its CPUs run programs, not the kernel"
        if self.working and all(_is_idle(stack) for stack in self.working):
            return "its CPUs are idle"
        return ""


def _is_idle(stack: Stack) -> bool:
    return any(frame.name in _IDLE for frame in stack)


def find_stuck_state(machine: Machine, console: ConsoleLine) -> StuckState:
    """Ask QEMU and the kernel. Never raises for what they do not answer."""
    try:
        cpus = registers(machine.control, _CONTROL_LIMIT)
    except LabError:
        return StuckState()  # QEMU is stopped or gone
    pointers = tuple(int(pointer, 16) for pointer in _POINTER.findall(cpus))
    named = _functions_at(pointers, _system_map(machine))
    # A kernel in a flood of messages would answer behind them, too late.
    said = "" if speaks(console, 0) else _ask_kernel(machine, console)
    shown = ", ".join(f"{pointer:#x} {named.get(pointer, '')}".rstrip() for pointer in pointers)
    text = f"instruction pointers: {shown}\n{said}"
    return read_stuck_state(text, pointers, tuple(named.values()))


def _system_map(machine: Machine) -> Path | None:
    """Return the map that was made with the machine's vmlinux, which runs where it was linked.

    A bzImage may move its kernel (KASLR), and has no map beside it.
    """
    boot = machine.spec.boot
    if not isinstance(boot, DirectBoot):
        return None
    path = boot.kernel.with_name("System.map")
    return path if path.is_file() else None


def _functions_at(pointers: Sequence[int], system_map: Path | None) -> dict[int, str]:
    """Return the functions that addresses are in, by a System.map, which is sorted."""
    if system_map is None:
        return {}
    lines = [line.split() for line in system_map.read_text().splitlines()]
    code = [(int(line[0], 16), line[2]) for line in lines if len(line) == 3 and line[1] in "tT"]
    starts = [address for address, _ in code]
    found = {}
    for pointer in pointers:
        at = bisect_right(starts, pointer) - 1
        if 0 <= at < len(code) - 1:
            found[pointer] = source_name(code[at][1])
    return found


def read_stuck_state(
    text: str, pointers: Sequence[int] = (), spinning: tuple[str, ...] = ()
) -> StuckState:
    """Return what the answers say."""
    lines = [read_line(raw).text for raw in text.splitlines()]
    working = [_interrupted(_frames(part)) for part in _parts(lines, _CPU)]
    waiting = [_frames(part) for part in _parts(lines, _TASK)]
    return StuckState(
        text.strip(),
        tuple(pointers),
        tuple(stack for stack in waiting if stack),
        tuple(stack for stack in working if stack),
        spinning,
    )


def _parts(lines: Sequence[str], start: re.Pattern[str]) -> list[list[str]]:
    """Return the lines from each that begins like `start` to the end of its stack."""
    parts: list[list[str]] = []
    going = False
    for line in lines:
        if start.match(line):
            going = True
            parts.append([])
        if going:
            parts[-1].append(line)
            going = line.strip() != "</TASK>"
    return parts


def _frames(lines: Sequence[str]) -> Stack:
    return reliable([frame for line in lines if (frame := frame_in(line))])


def _interrupted(stack: Stack) -> Stack:
    """Return what a CPU was at before the interrupt that answers: what the entry code stands on."""
    entry = next((i for i, frame in enumerate(stack) if frame.name.startswith("asm_")), None)
    return stack[entry + 1 :] if entry is not None else ()


def _ask_kernel(machine: Machine, console: ConsoleLine) -> str:
    """Return what the kernel prints of its CPUs and tasks, empty where it does not hear."""
    log = console.log_path
    before = log.stat().st_size
    until = time.monotonic() + _KERNEL_LIMIT
    for key in _KEYS:
        try:
            send_break(machine.control, _PORT, _CONTROL_LIMIT)
        except LabError:
            break
        console.type(key)
        if not speaks(console, min(_HEARING_LIMIT, until - time.monotonic())):
            break  # interrupts are off: it hears nothing
        listen_until_quiet(console, _QUIET, until - time.monotonic())
        if time.monotonic() >= until:
            break
    console.read_available()
    with log.open("rb") as file:
        file.seek(before)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(read_line(line.rstrip("\r")).shown for line in lines[:_MOST_LINES])


def speaks(console: ConsoleLine, seconds: float) -> bool:
    """Whether the console has something to say, or will within so many seconds."""
    poller = select.poll()
    poller.register(console.fileno(), select.POLLIN)
    return bool(poller.poll(max(0.0, seconds) * 1000))


def listen_until_quiet(console: ConsoleLine, quiet: float, limit: float) -> None:
    """Read the console until it has said nothing for `quiet` s, at most for `limit` s."""
    until = time.monotonic() + limit
    while not console.closed and time.monotonic() < until and speaks(console, quiet):
        console.read_available()
