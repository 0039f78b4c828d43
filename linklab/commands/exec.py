"""`invoke exec`: one command in a guest, its streams and its exit status passed on."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from linklab.commands.kernels import (
    ONE_KERNEL,
    KernelOptions,
    tell_notes,
)
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import Interrupted, LinklabError, UsageError
from linklab.events import Event, Listener, StepAdvanced, StepFinished
from linklab.host.cache import Cache
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import resolve_kernel
from linklab.lab.command import Command, CommandEnd, CommandRun, Kept, Passed, Wishes
from linklab.lab.lab import SHELL_MIB, Lab, Subject, choose_memory
from linklab.lab.session import Session
from linklab.machine.spec import Boot, Clock, Share
from linklab.options import JSON, LOG, choose, group, option, seconds, word
from linklab.paths import IMAGES
from linklab.trials.subjects import Requirements, tested_on, with_image

FRAGMENT = IMAGES / "host" / "kernel.config"
HOST = "host"  # the group of what a kernel must have, in images/needs.toml
_SHELL = "/bin/sh"
_MOST_FOLDERS = 6  # `microvm` has eight places for devices; the agent's port and the root take two
_SHARE_LIMIT = 30.0  # s to mount them
_OWN = ("/proc", "/sys", "/dev")
_LIVE_ENVIRONMENT = {"PATH": "/bin:/sbin", "HOME": "/root"}
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "TZ", "VIRTUAL_ENV")  # to the host's programs
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_VIRTUAL = (
    "--clock virtual: the guest would stand still whenever the lab has the word, so its command's "
    "output would not come as it is printed, nor its input as it is typed: use --clock real"
)


class Root(StrEnum):
    """What the guest's root file system is."""

    LIVE = "live"
    HOST = "host"


@dataclass(frozen=True)
class ExecOptions:
    """The options of `invoke exec`, as typed."""

    command: str = word("what to run, as one word: the guest's shell reads it")
    kernels: KernelOptions = group(KernelOptions, {"names": ONE_KERNEL}, names="sysfs")
    machine: MachineOptions = group(
        MachineOptions,
        {"clock": "what the guest's seconds are: real, as for who waits for the output"},
    )
    root: str = option(
        Root.LIVE.value,
        "the guest's root: live (the lab's image), or host (this machine's, read only; what the "
        "guest writes there is in its memory)",
        values=Root,
    )
    writable: tuple[str, ...] = option(
        (), "a folder of this machine that the guest may write; may be repeated", "rw"
    )
    timeout: str = option("0", "seconds after which the command counts as hung; default: never")
    log: str = option("", LOG)
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Request:
    """The same, checked."""

    name: str
    kernels: KernelOptions
    machine: MachineOptions
    shares: tuple[Share, ...]
    command: Command
    memory: int
    limit: float | None


def main(options: ExecOptions) -> int:
    """Run the command and return its exit status. Raises what stands against its being known."""
    request = check(options)
    with _shown_late() as listener:
        lab, subject = _prepare(request, Cache(), listener)
    execution = Execution(request, lab, subject, options.log)
    if options.as_json:
        return _as_document(options, execution)
    return execution.run(Passed(sys.stdout.fileno()), Passed(sys.stderr.fileno())).status


def check(options: ExecOptions) -> Request:
    """Raise `UsageError` for whatever is wrong with the options; build and start nothing."""
    if not options.command.strip():
        raise UsageError("a command is expected: `invoke exec --kernel nosysfs 'ip link'`")
    machine = replace(options.machine, clock=_clock(options.machine.clock).value)
    machine.check(no_iso="a command runs in a guest that the lab boots: take direct")
    shares = _shares(choose("root", options.root, Root), options.writable)
    kernels = options.kernels
    if shares and kernels.names.strip() in flavours():
        kernels = replace(kernels, configs=(*kernels.configs, str(FRAGMENT)))
    name = kernels.check_one("a command runs in a guest with one kernel")
    memory = choose_memory(machine.checked_memory(), kernels.memory(SHELL_MIB), "a command")
    environment = _host_environment() if options.root == Root.HOST else _LIVE_ENVIRONMENT
    environment = {**environment, "TERM": os.environ.get("TERM", "linux")}
    command = Command([_SHELL, "-c", options.command], str(Path.cwd()), environment)
    limit = seconds("timeout", options.timeout)
    return Request(name, kernels, machine, shares, command, memory, limit)


def _clock(text: str) -> Clock:
    if choose("clock", text, Clock) is Clock.VIRTUAL:
        raise UsageError(_VIRTUAL)
    return Clock.REAL


def _shares(root: Root, writable: tuple[str, ...]) -> tuple[Share, ...]:
    """Return the folders that the guest mounts, the root first."""
    folders = [Path(folder).expanduser().resolve() for folder in writable]
    for typed, folder in zip(writable, folders, strict=True):
        if not folder.is_dir():
            raise UsageError(f"--rw {typed}: there is no such folder")
        if folder == Path("/"):
            raise UsageError("--rw /: the root itself stays as it is: --root host, or a folder")
        if any(folder.is_relative_to(own) for own in _OWN):
            raise UsageError(f"--rw {typed}: the guest has a /{folder.parts[1]} of its own")
    if len(folders) > _MOST_FOLDERS:
        raise UsageError(f"--rw: {_MOST_FOLDERS} folders at most, {len(folders)} are given")
    shares = [Share("root", Path("/"))] if root is Root.HOST else []
    distinct = sorted(set(folders))  # one above another first
    return (*shares, *(Share(f"rw{n}", folder, True) for n, folder in enumerate(distinct)))


def _host_environment() -> dict[str, str]:
    """Return what the host's programs find as they would here, as far as it makes sense there."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    folders = [*os.environ.get("PATH", os.defpath).split(":"), *_SYSTEM_FOLDERS]
    return {**kept, "PATH": ":".join(dict.fromkeys(folders))}


def _prepare(request: Request, cache: Cache, listener: Listener) -> tuple[Lab, Subject]:
    tell_notes(request.kernels, listener)
    lab = set_up_lab(request.machine, request.memory, cache, listener)
    lab = replace(lab, shares=request.shares)
    kernel = resolve_kernel(request.name, request.kernels.build_options(), cache, listener)
    needs = (HOST,) if request.shares else ()
    wanted = Requirements(lab.boot, needs, lab.machine, clock=lab.clock)
    subject = with_image(kernel, wanted, request.kernels.modules, cache, listener)
    if lab.boot is Boot.RESUME:
        lab = lab.with_snapshots([subject], cache, listener)
    return lab, subject


@contextmanager
def _shown_late() -> Iterator[Listener]:
    """Yield a listener that brings the progress bar, and its 0.1 s, when there is any progress."""
    shown: list[Listener] = []
    with ExitStack() as stack:

        def listen(event: Event) -> None:
            if not shown:
                if isinstance(event, StepAdvanced | StepFinished):
                    return
                from linklab.report.progress import progress

                shown.append(stack.enter_context(progress()))
            shown[0](event)

        yield listen


@contextmanager
def _console_log(asked: str, subject: Subject) -> Iterator[Path]:
    """Yield the file for the console's log: what was asked for, or one that stays on faults."""
    if asked:
        yield Path(asked).expanduser().absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="linklab-exec-"))
    is_kept = False
    try:
        yield folder / f"console-{subject.label}.log"
    except LinklabError as error:
        is_kept = not isinstance(error, Interrupted)
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Execution:
    """The command in its guest. `end` is how it ended, also where the kernel failed after that."""

    request: Request
    lab: Lab
    subject: Subject
    log: str  # a file for the console, as typed
    end: CommandEnd | None = None

    def run(self, output: Kept | Passed, errors: Kept | Passed) -> CommandEnd:
        """Boot, run, and end the guest. Raises `Interrupted` where a person ended the command."""
        wishes = Wishes()
        with (
            _console_log(self.log, self.subject) as log,
            self.lab.session(self.subject, log) as session,
        ):
            self._share(session)
            run = CommandRun(session, (output, errors), _typing(), wishes, self.request.limit)
            with wishes.taken():
                self.end = run.run(self.request.command)
        if wishes.signal is not None:
            raise Interrupted("interrupted")
        if run.lost is not None:
            raise run.lost
        assert self.end is not None
        return self.end

    def _share(self, session: Session) -> None:
        if self.request.shares:
            folders = [(share.tag, str(share.folder)) for share in self.request.shares]
            session.agent.share(folders, time.monotonic() + _SHARE_LIMIT)


def _typing() -> int | None:
    """Return the descriptor of our standard input, None where Python found it closed."""
    return None if sys.stdin is None else sys.stdin.fileno()


def _as_document(options: ExecOptions, execution: Execution) -> int:
    """Run the command, print one document, and return the status that it names."""
    from linklab.commands.exit_status import print_document, show_fault
    from linklab.errors import Verdict

    output, errors = Kept(), Kept()
    fault: LinklabError | None = None
    try:
        status = execution.run(output, errors).status
    except LinklabError as error:
        fault, status = error, error.verdict.status
        show_fault(error)
    end = execution.end
    print_document(
        {
            "verdict": (fault.verdict if fault else Verdict.PASS).value,
            "status": status,
            "message": fault.message if fault else "",
            "evidence": fault.evidence if fault else "",
            "command": {
                "line": options.command,
                "status": end.status if end else None,
                "signal": end.signal if end else None,
                "seconds": end.seconds if end else None,
                **_printed("stdout", output),
                **_printed("stderr", errors),
            },
            "root": options.root,
            "rw": [str(share.folder) for share in execution.request.shares if share.writable],
            **_without_inputs(tested_on(execution.lab, [execution.subject])),
        }
    )
    return status


def _without_inputs(about: dict[str, Any]) -> dict[str, Any]:
    """Return what was tested without all that it was built from: the hashes tell it apart."""
    kernels = [{**kernel, "inputs": None} for kernel in about["kernels"]]
    return {
        **about,
        "kernels": [{k: v for k, v in each.items() if v is not None} for each in kernels],
    }


def _printed(name: str, kept: Kept) -> Mapping[str, Any]:
    """Return an output as text, or under another name in base64 where it is none."""
    from base64 import b64encode

    try:
        return {name: kept.data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(kept.data).decode()}
