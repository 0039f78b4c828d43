"""Faults of the kernel under test, each the real thing in a real guest."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from faults import IN_GUEST, Fault, Scene, fault
from guests import never_ends, soon

from linklab.agent import line as agent_line
from linklab.errors import Verdict
from linklab.lab.session import Session
from linklab.machine.spec import Clock, DirectBoot
from linklab.scenarios.grouping.change import NEW
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.scenario import GUEST, Host

_DEBUGFS = "/tmp/debug"
CRASH, HANG = Verdict.CRASH, Verdict.HANG
_FLOOD_LINES = 100_000
_SMALL = 96  # MiB, of which the kernel and the image take two thirds


@fault("the kernel is told to crash", "`c` to sysrq", CRASH, "sysrq triggered crash")
def sysrq_crash(scene: Scene) -> None:
    with scene.guest() as session:
        session.agent.write_file("/proc/sysrq-trigger", b"c", scene.deadline())


@fault(
    "a peer's kernel crashes",
    "`c` to sysrq, while its peer is at work",
    CRASH,
    "guest b: .*sysrq triggered crash",
    clocks=(Clock.REAL,),  # each guest would count its own instructions
)
def peer_crashes(scene: Scene) -> None:
    with scene.network("a -- b") as joined:
        a, b = (joined.sessions[host].agent for host in "ab")
        crash = "sleep 1; echo c >/proc/sysrq-trigger"
        b.start_job(["/bin/sh", "-c", crash], soon())
        never_ends(a, scene.deadline())


@fault("the guest resets without a word", "`b` to sysrq", CRASH, "reset without a word")
def silent_reset(scene: Scene) -> None:
    with scene.guest() as session:
        due = scene.deadline()
        session.agent.write_file("/proc/sysrq-trigger", b"b", due)
        never_ends(session.agent, due)


@fault("init is killed", "its code is overwritten", CRASH, "Attempted to kill init")
def init_killed(scene: Scene) -> None:
    with scene.guest() as session:
        agent, due = session.agent, scene.deadline()
        script = (IN_GUEST / "kill-init").read_bytes()
        agent.write_file("/tmp/kill-init", script, due, mode=0o755)
        agent.run(["/tmp/kill-init"], due)
        never_ends(agent, due)


@fault("init ends at once", "it is `/bin/false`", CRASH, "Attempted to kill init", limit=30.0)
def init_ends(scene: Scene) -> None:
    spec = scene.lab.spec_for(scene.subject)
    assert isinstance(spec.boot, DirectBoot)
    words = [word for word in spec.boot.command_line if not word.startswith("rdinit=")]
    boot = replace(spec.boot, command_line=(*words, "rdinit=/bin/false"))
    due = scene.deadline()
    with scene.guest_on(replace(spec, boot=boot)) as session:
        never_ends(session.agent, due)


@fault("a program never ends", "`cat` of a pipe", HANG, "no answer to `run`", limit=2.0)
def no_answer(scene: Scene) -> None:
    with scene.guest() as session:
        never_ends(session.agent, scene.deadline())


@fault("the report is torn between two reads", "three bytes a read", CRASH, "sysrq triggered crash")
def torn_report(scene: Scene) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_line, "_READ_BYTES", 3)
        sysrq_crash.act(scene)


@fault(
    "a crash in a flood of 100,000 lines", "`/dev/kmsg`, then `c` to sysrq",
    CRASH, "sysrq triggered crash",
)  # fmt: skip
def crash_in_flood(scene: Scene) -> None:
    with scene.guest() as session:
        _flood(session)
        session.agent.write_file("/proc/sysrq-trigger", b"c", scene.deadline())


@fault(
    "a silence behind a flood of 100,000 lines", "`/dev/kmsg`, and `cat` of a pipe",
    HANG, "no answer to `run`", limit=3.0,
)  # fmt: skip
def silence_in_flood(scene: Scene) -> None:
    with scene.guest() as session:
        _flood(session)
        never_ends(session.agent, scene.deadline())


def _flood(session: Session) -> None:
    """Begin a flood: messages of the kernel's, as fast as it takes them."""
    agent, due = session.agent, soon()
    agent.write_file("/proc/sys/kernel/printk_devkmsg", b"on\n", due)
    lines = f'i=0; while [ $i -lt {_FLOOD_LINES} ]; do i=$((i+1)); echo "<3>flood $i"; done'
    agent.run(["/bin/sh", "-c", f"{{ {lines}; }} >/dev/kmsg &"], due)


@fault("a program takes all memory", "`tail /dev/zero`", CRASH, "[Oo]ut of memory")
def program_takes_memory(scene: Scene) -> None:
    with scene.guest(memory=_SMALL) as session:
        session.agent.run(["/bin/tail", "/dev/zero"], scene.deadline())


@fault(
    "the kernel takes all memory", "4000 interfaces in a small guest",
    CRASH, "[Oo]ut of memory", limit=30.0,
)  # fmt: skip
def kernel_takes_memory(scene: Scene) -> None:
    with scene.guest(memory=_SMALL) as session:
        due = scene.deadline()
        host = Host(GUEST, session.agent, lambda _cell: due - time.monotonic())
        Links(host, 4000).bring_to(NEW)


STOCK_FAULTS: tuple[Fault, ...] = (
    sysrq_crash,
    peer_crashes,
    silent_reset,
    init_killed,
    init_ends,
    no_answer,
    torn_report,
    crash_in_flood,
    silence_in_flood,
    program_takes_memory,
    kernel_takes_memory,
)


def ordered(
    name: str,
    word: str,
    expected: Verdict,
    says: str,
    limit: float = 20.0,
    clocks: tuple[Clock, ...] = (Clock.REAL, Clock.VIRTUAL),
) -> Fault:
    """Return a fault that LKDTM makes when a word is written to it.

    See Documentation/fault-injection/provoke-crashes.rst of the kernel.
    """

    def act(scene: Scene) -> None:
        with scene.guest() as session:
            _hurry_watchdogs(session)
            agent = session.agent
            agent.run(["/bin/mkdir", _DEBUGFS], soon())
            agent.run(["/bin/mount", "-t", "debugfs", "debugfs", _DEBUGFS], soon())
            due = scene.deadline()
            agent.write_file(f"{_DEBUGFS}/provoke-crash/DIRECT", word.encode(), due)
            never_ends(agent, due)

    return Fault(name, f"LKDTM `{word}`", expected, says, limit, act, clocks)


def _hurry_watchdogs(session: Session) -> None:
    """Let the kernel say within seconds that it stands still."""
    for name, seconds in (("watchdog_thresh", 1), ("hung_task_timeout_secs", 1)):
        session.agent.write_file(f"/proc/sys/kernel/{name}", b"%d\n" % seconds, soon())


ORDERED_FAULTS: tuple[Fault, ...] = (
    ordered("panic", "PANIC", CRASH, "dumptest"),
    ordered("BUG()", "BUG", CRASH, r"kernel BUG|BUG in lkdtm"),
    ordered("WARN()", "WARNING", CRASH, "WARNING"),
    ordered("a NULL pointer", "ACCESS_NULL", CRASH, "NULL pointer|null-ptr"),
    # For the watchdog's two seconds of it QEMU takes minutes, where it counts instructions.
    ordered("a loop", "SOFTLOCKUP", HANG, "soft lockup", clocks=(Clock.REAL,)),
    ordered("a loop without interrupts", "HARDLOCKUP", HANG, "no answer", limit=4.0),
    ordered("a lock that is never given back", "SPINLOCKUP", CRASH, "while atomic|lock held"),
    ordered("a task that waits for ever", "HUNG_TASK", HANG, "blocked|hung|HUNG"),
    ordered("the stack overflows", "EXHAUST_STACK", CRASH, "stack guard page|stack"),
    ordered("the stack is overwritten", "CORRUPT_STACK", CRASH, "stack"),
    ordered("an index out of bounds", "ARRAY_BOUNDS", CRASH, "out-of-bounds|UBSAN"),
    ordered("a heap overflow", "SLAB_LINEAR_OVERFLOW", CRASH, "KASAN"),
    ordered("a read after free", "READ_AFTER_FREE", CRASH, "KASAN"),
    ordered("a write after free", "WRITE_AFTER_FREE", CRASH, "KASAN"),
    ordered("a double free", "SLAB_FREE_DOUBLE", CRASH, "KASAN"),
    ordered("a list that is corrupt", "CORRUPT_LIST_ADD", CRASH, "list"),
    ordered("a counter that overflows", "REFCOUNT_INC_OVERFLOW", CRASH, "refcount"),
    ordered("a write to what is read-only", "WRITE_RO", CRASH, ""),
)
