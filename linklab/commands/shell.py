"""`invoke shell`: a person's shell in a guest."""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from linklab.agent.client import Agent
from linklab.agent.line import AgentLine, LineClosed, PollHandler
from linklab.commands.guests import visit_guest
from linklab.commands.kernels import ONE_KERNEL, KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import LabError, LinklabError, MachineLost, UsageError
from linklab.host.cache import Cache
from linklab.kernel.requirements import SHELL
from linklab.lab import spaces
from linklab.lab.console_access import TERMINAL, lent_terminal
from linklab.lab.lab import SHELL_MIB, Lab, Subject, choose_memory
from linklab.lab.topology import Topology, parse
from linklab.machine.commandline import DISTRIBUTION, shell_command_line
from linklab.machine.process import Machine
from linklab.machine.spec import DirectBoot, MachineSpec, TerminalPort
from linklab.options import group, option
from linklab.paths import LIVE
from linklab.report.progress import progress
from linklab.scenarios.scenario import GUEST, Host
from linklab.trials.subjects import Requirements

_EVER = 1e6  # s: a person may wait at the boot prompt
_LIMIT = 60.0  # s for a request
_LEAVES = "/run/shell-leaves"  # templates/profile
_STTY = ("/bin/stty", "-F", "/dev/ttyS0")
_HOSTS = "/run/hosts"  # last in a person's PATH, templates/profile
_ENTER = "#!/bin/sh\nLINKLAB_HOST={} exec {} ${{@:-sh}}\n"


@dataclass(frozen=True)
class ShellOptions:
    """The options of `invoke shell`, as typed."""

    kernels: KernelOptions = group(KernelOptions, {"names": ONE_KERNEL}, names="sysfs")
    machine: MachineOptions = group(
        MachineOptions, without=("boot_timeout", "noise", "clock"), clock="real"
    )
    topology: str = option(
        "", "hosts and links in the guest, `a -- r -- b: 10mbit 20ms`: docs/networks.md"
    )
    guest: str = option("", "a guest that runs: `last`, its name, or a part of its run's folder")


def main(options: ShellOptions) -> None:
    """Boot one guest with its console on this terminal; return when it ends.

    With `guest`, visit one that runs instead; return when the person leaves.
    """
    if options.guest:
        visit_guest(options.guest)
        return
    network = parse(options.topology) if options.topology else None
    kernels, machine = options.kernels, options.machine
    image, needs = LIVE, [SHELL]
    if network:
        spaces.check(network)
        kernels = replace(kernels, needed=(str(spaces.NETWORKS / "kernel.config"),))
        image, needs = spaces.NETWORKS, [SHELL, str(spaces.NETWORKS / "needs.toml"), spaces.NEEDS]
    kernels.check_one("a shell needs exactly one kernel")
    machine.check()
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal on standard input")
    needed = SHELL_MIB + (spaces.memory(network) if network else 0)
    what = f"{len(network.everyone)} hosts" if network and network.behind else "a shell"
    memory = choose_memory(machine.checked_memory(), kernels.memory(needed), what)
    with progress() as listener:
        cache = Cache()
        lab = set_up_lab(machine, memory, cache, listener, image)
        wanted = Requirements(lab.boot, tuple(needs), lab.machine, image)
        (subject,) = prepare_subjects(kernels, wanted, cache, listener)
    if network:
        print(network.drawing(), file=sys.stderr)
    print("leave with `exit`, or end the machine with Ctrl-A x", file=sys.stderr, flush=True)
    sys.stdout.flush()
    attend(lab.qemu.path, shell_spec(lab, subject), network)


def shell_spec(lab: Lab, subject: Subject) -> MachineSpec:
    """Return the machine for a person: its console on the terminal."""
    spec = lab.spec_for(subject)
    boot = spec.boot
    if isinstance(boot, DirectBoot):
        spared = () if subject.known else DISTRIBUTION
        words = shell_command_line(spec.agent_device, lab.tsc_khz)
        boot = replace(boot, command_line=(*words, *spared))
    return replace(spec, boot=boot, console=TerminalPort())


def attend(qemu: Path | str, spec: MachineSpec, network: Topology | None = None) -> None:
    """Start the machine on this terminal; return when it ends, the terminal as it was.

    Raises `MachineLost` when QEMU fails.
    """
    with lent_terminal(), Machine(qemu, spec) as machine, _Window() as window:
        with suppress(LineClosed):
            _tend(machine, window, network)
        while (end := machine.poll()) is None:
            select.select([machine.pidfd], [], [])
    if end.returncode:
        raise MachineLost(end.text)


class _Window:
    """Our terminal's window. `fileno` is ready when its size has changed."""

    def __init__(self) -> None:
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)

    def __enter__(self) -> _Window:
        self._before = signal.signal(signal.SIGWINCH, self._changed)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGWINCH, self._before)
        self._heard.close()
        self._told.close()

    def _changed(self, _number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # told often enough
            self._told.send(b"!")

    def fileno(self) -> int:
        """Return a descriptor that is ready when the size has changed."""
        return self._heard.fileno()

    def heard(self) -> None:
        """Note that the change is known."""
        self._heard.recv(4096)

    @property
    def words(self) -> list[str]:
        """Its size, as stty takes it."""
        size = os.get_terminal_size(TERMINAL)
        return ["rows", str(size.lines), "cols", str(size.columns)]


def _tend(machine: Machine, window: _Window, network: Topology | None) -> None:
    """Keep the guest's console as large as the window, by its agent, until the machine ends.

    Before that the agent is asked to let `exit` end the guest, and to make the hosts. Raises
    `LineClosed` when the machine ends. A guest without an agent, a kernel that
    lacks its port, goes without.
    """

    def ended() -> None:
        raise LineClosed("QEMU ended")

    agent = Agent(AgentLine(machine.agent, (PollHandler(machine.pidfd, ended),)))
    with suppress(LinklabError):
        agent.wait_for_hello(time.monotonic() + _EVER)
        agent.write_file(_LEAVES, b"", time.monotonic() + _LIMIT)
        if network:
            _make_hosts(agent, network)
        while True:
            argv = [*_STTY, *window.words]
            agent.run(argv, time.monotonic() + _LIMIT)
            ready, _, _ = select.select([window.fileno(), machine.pidfd], [], [])
            if machine.pidfd in ready:
                return
            window.heard()


def link_script(network: Topology, link: int) -> str:
    """Return the command that brings a link into a state."""
    try:
        cases = "".join(
            f"{state}) {' && '.join(map(shlex.join, argvs))} ;;\n"
            for state in ("up", "down", "dark")
            if (argvs := spaces.link_commands(network, 0, link, state))
        )
    except LabError as error:
        return f"#!/bin/sh\necho {shlex.quote(error.message)} >&2\nexit 1\n"
    usage = f"usage: {spaces.middle(link)} up|down|dark"
    return f'#!/bin/sh\ncase "$1" in\n{cases}*) echo "{usage}" >&2; exit 2 ;;\nesac\n'


def _make_hosts(agent: Agent, network: Topology) -> None:
    """Make the hosts and links, and for each host a command of its name: a shell there."""

    guest = Host(GUEST, agent, lambda _cell: _LIMIT)
    try:
        spaces.build(network, 0, guest.run, guest.write)
        guest.run(["/bin/mkdir", "-p", _HOSTS])
        commands = {
            host: _ENTER.format(host, " ".join(spaces.inside(host))) for host in network.everyone
        }
        commands |= {spaces.middle(k): link_script(network, k) for k in range(len(network.links))}
        for name, script in commands.items():
            agent.write_file(f"{_HOSTS}/{name}", script.encode(), guest.until(), mode=0o755)
        inside = {host: replace(guest, inside=spaces.inside(host)) for host in network.everyone}
        spaces.await_answers(network, inside)
        first = network.hosts[0]
        said = (
            f"the hosts are there: {' '.join(network.roll)}. `{first}` is a shell on {first}, "
            f"`{first} ip address` a command there."
        )
        if network.links:
            said += f" `{spaces.middle(0)} down` cuts the first link; `dark`, `up`."
    except LinklabError as error:
        said = error.message
    guest.write("/dev/console", f"\n{said}\n".encode())
