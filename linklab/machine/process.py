"""A machine's life: QEMU as a process, from its start to its certain end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from linklab.errors import printable
from linklab.host.run import start
from linklab.machine.pipes import Pipes
from linklab.machine.qmp import Control
from linklab.machine.spec import FdPort, MachineSpec, NullPort, Port, TerminalPort, qemu_argv

_RECORDING_LIMIT = 10.0  # s for QEMU to write the rest of a recording


def _is_replayed(spec: MachineSpec) -> bool:
    return spec.recording is not None and spec.recording.replayed


def _is_recorded(spec: MachineSpec) -> bool:
    return spec.recording is not None and not spec.recording.replayed


@dataclass(frozen=True)
class MachineEnd:
    """How QEMU ended: its exit status, or minus the signal; and its last words."""

    returncode: int
    stderr: str

    @property
    def orderly(self) -> bool:
        """Whether the guest ended the machine: it reset or powered off."""
        return self.returncode == 0 and not self._was_told

    @property
    def _was_told(self) -> bool:
        # QEMU takes SIGTERM, SIGINT and SIGHUP for a wish, and ends with status
        # 0 (qemu_kill_report in QEMU's softmmu/runstate.c).
        return "terminating on signal" in self.stderr

    @property
    def text(self) -> str:
        """Say how it ended, in words."""
        if self.returncode < 0:
            how = f"QEMU was killed by signal {-self.returncode}"
        elif self._was_told:
            how = "QEMU was told to end by a signal"
        elif self.returncode == 0:
            how = "QEMU ended because the guest reset or powered off"
        else:
            how = f"QEMU ended with status {self.returncode}"
        return f"{how}: {self.stderr}" if self.stderr else how


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its threads.

    The clock is the one that clock_getcpuclockid(3) names (CPUCLOCK_SCHED in the kernel's
    include/linux/posix-timers.h).
    """
    return time.clock_gettime((~pid << 3) | 2)


class Machine:
    """A running QEMU. A context manager: whatever the way out, QEMU is gone.

    `console` and `agent` are our ends of its serial ports, `control` that of
    QMP where the machine is `controlled`. They are socket pairs made before
    QEMU starts, so there is nothing to connect to, no name that two runs could
    share, and nothing to clean up. A console on our own terminal stays there;
    who starts the machine gives the terminal back (`lent_terminal`). QEMU
    inherits `pass_fds`, too, and the sockets of its network interfaces.
    """

    def __init__(
        self,
        qemu: Path | str,
        spec: MachineSpec,
        *,
        controlled: bool = False,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self._qemu = qemu
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the machine
        self.console, console_far = socket.socketpair()
        self.agent, agent_far = socket.socketpair()
        control, control_far = socket.socketpair()
        self.control = Control(control)
        with console_far, agent_far, control_far:
            far = [end.fileno() for end in (console_far, agent_far, control_far)]
            self._pipes = Pipes() if _is_recorded(spec) else None
            on_terminal = isinstance(spec.console, TerminalPort)
            console_port: Port = spec.console if on_terminal and spec.console else FdPort(far[0])
            agent_port: Port = NullPort() if _is_replayed(spec) else FdPort(far[1])
            if self._pipes is not None:
                console_port = self._pipes.port("console", console_far)
                agent_port = self._pipes.port("agent", agent_far)
            self.spec = replace(
                spec,
                console=console_port,
                agent=agent_port,
                control=FdPort(far[2]) if controlled else None,
            )
            nics = (nic.fd for nic in spec.nics)
            self.started = time.monotonic()
            try:
                self._process = start(
                    qemu_argv(qemu, self.spec),
                    stdin=None if on_terminal else subprocess.DEVNULL,
                    stdout=None if on_terminal else subprocess.DEVNULL,
                    stderr=self._stderr,
                    # Told to end, QEMU gives the terminal back; we may be killed outright.
                    death_signal=signal.SIGTERM if on_terminal else signal.SIGKILL,
                    pass_fds=(*far, *pass_fds, *nics, *(self._pipes.fds if self._pipes else ())),
                    # Ctrl-C is for the lab, which says what was interrupted.
                    new_session=True,
                )
            except BaseException:
                self._close_ports()
                self._stderr.close()
                raise
            finally:
                if self._pipes is not None:
                    self._pipes.let_go()
        self.pidfd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of QEMU and all its threads, the guest's in it."""
        return cpu_seconds(self.pid)

    def denied(self) -> float:
        """Return the share of its life in which QEMU wanted a CPU of the host and got none.

        Of its thread that waited most; 0 where the host's kernel does not count that
        (fields of `schedstat`: Documentation/scheduler/sched-stats.rst).
        """
        waited = 0
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with suppress(OSError, ValueError, IndexError):  # a thread may end meanwhile
                waited = max(waited, int(path.read_text().split()[1]))
        return min(1.0, waited / 1e9 / max(1e-9, time.monotonic() - self.started))

    def poll(self) -> MachineEnd | None:
        """Return how it ended, or None while it runs."""
        returncode = self._process.poll()
        return None if returncode is None else MachineEnd(returncode, self.last_words)

    def kill(self) -> None:
        """End it now, whatever it does; a recording is written to its end first."""
        if _is_recorded(self.spec) and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_RECORDING_LIMIT)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it and give back everything it held."""
        self.kill()
        self._close_ports()
        os.close(self.pidfd)
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _close_ports(self) -> None:
        if self._pipes is not None:
            self._pipes.close()
        self.console.close()
        self.agent.close()
        self.control.close()

    @property
    def last_words(self) -> str:
        """The end of what QEMU wrote on its standard error."""
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), 2000, max(0, size - 2000))
        return printable(tail.decode(errors="replace").strip())
