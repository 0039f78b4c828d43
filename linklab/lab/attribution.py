"""What the early end of a session says, and of whom.

Decided from what both sides know: the console's reports, the agent's silence,
QEMU's end.
"""

from __future__ import annotations

import os
import re
import select
import time
from pathlib import Path

from linklab.agent.client import AgentNotStarted, AgentRestarted
from linklab.agent.line import ConsoleLine, LineClosed
from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import (
    GuestHung,
    Interrupted,
    KernelCrashed,
    KernelFault,
    LabError,
    Leaked,
    LinklabError,
    MachineLost,
    ModuleRefused,
    Verdict,
)
from linklab.lab.kernel_reports import NO_DEBUG_INFORMATION, KernelReports, file_reports
from linklab.lab.stuck import StuckState, find_stuck_state, listen_until_quiet, speaks
from linklab.machine.process import Machine, MachineEnd
from linklab.paths import EXTERNAL_MODULES

SETTLE_QUIET = 0.3  # s without a byte: the kernel has said what it had to say
SETTLE_FLOOD = 0.3  # s at most for a console that says anything but a report
SETTLE_LIMIT = 3.0  # s at most for a report, or for QEMU to follow its lines
_AGENT_ENDED = re.compile(r"linklab-init: the agent ended: wait status (0x[0-9a-f]+)")
_WITHOUT_WORDS = (Fault.SILENCE, Fault.TAINT)  # the lab's reports, not the kernel's
_TOLD_TO_END = "linklab-init: told to end"
_STILL_TALKS = (
    "; its console still talks, so it may be no more than slow: --boot-timeout gives it longer"
)
_DOING = re.compile(r"no answer to `[^`]+`|did not start its agent|did not end")
_MODULE_REFUSED = re.compile(r"linklab-init: module (\S+) did not load: (.*)")


def attribute(
    machine: Machine,
    console: ConsoleLine,
    reports: KernelReports,
    error: Exception,
    symbols: Path | None = None,
) -> LinklabError:
    """Return what a session's early end says, and of whom.

    A kernel's fault has its reports on file beside the console's log, decoded
    by `symbols`, a vmlinux with debug information.
    """
    talks = isinstance(error, AgentNotStarted) and speaks(console, SETTLE_QUIET)
    end = wait_for_exit(machine, console, isinstance(error, LineClosed), SETTLE_LIMIT)
    tail = console.watch.tail.strip()
    verdict = _verdict_on(machine, console, reports, error, end)
    if isinstance(verdict, KernelFault):
        verdict.reports = verdict.reports or reports.decisive
        if end is None and _wants_place(verdict):
            _find_place(verdict, machine, console)
            verdict.message += _STILL_TALKS if talks else ""
        verdict.filed = file_reports(verdict.reports, console.log_path, symbols)
    said = machine.last_words
    qemu = f"QEMU said:\n{said}\n" if said and said not in verdict.message else ""
    verdict.evidence = "\n".join(
        filter(None, (verdict.evidence, qemu, _evidence(console, verdict, tail)))
    )
    return verdict


def _verdict_on(  # noqa: PLR0911 - a list of cases, the first that holds counts
    machine: Machine,
    console: ConsoleLine,
    reports: KernelReports,
    error: Exception,
    end: MachineEnd | None,
) -> LinklabError:
    if isinstance(error, Interrupted):
        return error
    if decisive := reports.decisive:
        return _fault_of(decisive[0])
    if isinstance(error, LinklabError) and not isinstance(error, GuestHung | AgentRestarted):
        return error  # it was found out before the machine ended, if it did
    if word := _word_of_init(console.watch.tail):
        return word
    if end is not None and not end.orderly:
        return MachineLost(end.text)
    if end is not None or isinstance(error, AgentRestarted):
        return KernelCrashed("the guest reset without a word on its console")
    if _is_stopped(machine.pid):
        return MachineLost(f"QEMU (process {machine.pid}) is stopped: somebody sent it a signal")
    if isinstance(error, GuestHung):
        return error
    return MachineLost(f"QEMU closed its lines and still runs ({error})")


def _word_of_init(tail: str) -> LinklabError | None:
    """Return what the guest's first process says, with its last words, of its end."""
    if _TOLD_TO_END in tail:
        return Interrupted("somebody ended the guest at its console")
    if ended := _AGENT_ENDED.search(tail):
        how = "was stopped" if os.WIFSTOPPED(int(ended[1], 16)) else "died"
        return LabError(f"the agent in the guest {how}, the kernel did not")
    if refused := _MODULE_REFUSED.search(tail):
        return _module_fault(refused[1], refused[2].strip())
    return None


def has_refused_module(console: ConsoleLine) -> bool:
    """Whether a module that the guest was to load did not load."""
    return _MODULE_REFUSED.search(console.watch.tail) is not None


def _module_fault(file: str, why: str) -> LinklabError:
    """Return what it says when a module does not load: one of --module is under test itself."""
    folder, _, name = file.rpartition("/")
    name = name.removesuffix(".ko")
    if folder == EXTERNAL_MODULES:
        return ModuleRefused(f"the module {name} did not load: {why}")
    return LabError(
        f"{name}, a module of the kernel's own, did not load: {why}. "
        "Do the modules belong to this kernel?"
    )


def _fault_of(report: Report) -> KernelFault:
    if report.verdict is Verdict.HANG:
        return GuestHung(f"the kernel reports that it stands still: {report.title}")
    if report.verdict is Verdict.FAIL:
        return Leaked(f"the kernel reports: {report.title}")
    return KernelCrashed(f"the kernel reports: {report.title}")


def _wants_place(fault: KernelFault) -> bool:
    """Whether nobody has said yet where the guest stands still."""
    return isinstance(fault, GuestHung) and not any(report.function for report in fault.reports)


def _find_place(fault: KernelFault, machine: Machine, console: ConsoleLine) -> None:
    """Add to a hang where the guest stands still, as far as that can be found out."""
    found = find_stuck_state(machine, console)
    if not fault.reports:
        if found.in_words:
            fault.message += f": {found.in_words}"
        fault.reports = (_silence(fault.message, found),)
    elif found.function:
        first, *others = fault.reports
        # At the console's usual level a hung task's stack is not printed.
        first = first.placed(found.function, found.stack, found.text)
        fault.reports = (first, *others)
        fault.message = _fault_of(first).message


def _silence(message: str, found: StuckState) -> Report:
    """Return a report for a kernel that made none."""
    what = _DOING.search(message)
    where = f" in {found.function}" if found.function else ""
    return Report(
        Fault.SILENCE,
        f"{what[0] if what else 'no answer'}{where}",
        found.function,
        found.stack,
        found.text or message,
        stack_key=(found.function,) if found.function else (),
    )


def wait_for_exit(
    machine: Machine, console: ConsoleLine, expect_end: bool, limit: float
) -> MachineEnd | None:
    """Read the console to the end of what it has to say; return QEMU's end, if it ended.

    Takes at most `limit` seconds. Unless its end is expected, no longer than
    the console speaks, and soon no longer than it reports: it may be flooded.
    """
    began = time.monotonic()
    until = began + limit
    poller = select.poll()
    poller.register(console.fileno(), select.POLLIN)
    while not console.closed and time.monotonic() < until:
        if not poller.poll(SETTLE_QUIET * 1000) and not expect_end:
            break
        console.read_available()
        is_awaited = expect_end or console.watch.is_in_report
        if not is_awaited and time.monotonic() > began + SETTLE_FLOOD:
            break
    while (end := machine.poll()) is None and console.closed and time.monotonic() < until:
        time.sleep(0.01)
    console.watch.settle()
    return end


def drain(console: ConsoleLine) -> None:
    """Read the report that the kernel is at to its end."""
    listen_until_quiet(console, SETTLE_QUIET, SETTLE_LIMIT)
    console.watch.settle()


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in "Tt"


def _evidence(console: ConsoleLine, verdict: LinklabError, tail: str) -> str:
    """Return what proves a verdict: the kernel's report, or else its console's last lines."""
    parts: list[str] = []
    filed = verdict.filed if isinstance(verdict, KernelFault) else ()
    if filed:
        first, *others = filed
        parts.append(first.shown)
        if first.report.frames and not first.is_decoded:
            parts.append(NO_DEBUG_INFORMATION)
        parts += [f"also: {other.report.title} ({other.path})" for other in others]
    if not filed or filed[0].report.fault in _WITHOUT_WORDS:
        parts.append(f"the console's last lines:\n{tail}\n" if tail else "the console is empty\n")
    parts += [f"the report: {each.path}" for each in filed[:1]]
    return "\n".join([*parts, f"the console's log: {console.log_path}"])
