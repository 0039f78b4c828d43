"""What goes wrong in a real guest gets the right verdict, with its evidence."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from guests import LIMIT, Opener, never_ends, soon

from linklab.agent.client import Agent
from linklab.agent.line import AgentLine
from linklab.agent.links import group_delete
from linklab.errors import (
    GuestHung,
    GuestIncomplete,
    Interrupted,
    KernelCrashed,
    LabError,
    MachineLost,
    RequestRefused,
)
from linklab.host.accel import Accel
from linklab.lab.lab import Lab, Subject
from linklab.machine.process import Machine
from linklab.machine.spec import Boot, DirectBoot, MachineType
from linklab.scenarios.grouping.change import CHANGES, NEW, Operation
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.scenario import GUEST, Host

pytestmark = pytest.mark.vm


def test_panic_is_a_crash_with_the_consoles_last_lines(guest: Opener, tmp_path: Path) -> None:
    with pytest.raises(KernelCrashed, match="sysrq triggered crash") as caught, guest() as session:
        session.agent.write_file("/proc/sysrq-trigger", b"c", soon())
    assert "Call Trace" in caught.value.evidence
    assert str(tmp_path / "console.log") in caught.value.evidence
    assert b"sysrq triggered crash" in (tmp_path / "console.log").read_bytes()


LOOK_ALIKE = b"<0>[    1.500000] Kernel panic - not syncing: says a program\n"


@pytest.mark.parametrize("where", ["/dev/kmsg", "/dev/console", "/dev/ttyS0"])
def test_a_program_that_says_that_the_kernel_crashed_is_not_believed(
    guest: Opener, tmp_path: Path, where: str
) -> None:
    text = LOOK_ALIKE.partition(b"] ")[2] if where == "/dev/kmsg" else LOOK_ALIKE
    with guest() as session:
        session.agent.write_file(where, b"<0>" + text.removeprefix(b"<0>"), soon())
        session.agent.run(["/bin/ip", "link"], soon())
    assert session.reports.decisive == ()
    said = b"says a program" in (tmp_path / "console.log").read_bytes()
    assert said == (where == "/dev/kmsg"), "what /dev/kmsg takes is printed, as a program's word"


def test_on_an_iso_the_kernels_own_log_says_what_is_true(
    real_lab: Lab, guest: Opener, tmp_path: Path
) -> None:
    """Persons have shells on its console, so programs can write there, too."""
    with guest("nosysfs", replace(real_lab, boot=Boot.ISO)) as session:
        session.agent.write_file("/dev/ttyS0", LOOK_ALIKE, soon())
        session.agent.run(["/bin/ip", "link"], soon())
        assert [report.title for report in session.reports.look_alikes] == [
            "kernel panic: says a program"
        ]
    assert b"says a program" in (tmp_path / "console.log").read_bytes()


def test_death_of_the_agent_is_the_labs_fault(guest: Opener) -> None:
    with pytest.raises(LabError, match="agent in the guest died"), guest() as session:
        session.agent.run(["/bin/sh", "-c", "kill -9 $PPID; sleep 60"], soon())


def test_standstill_of_the_agent_is_the_labs_fault(guest: Opener) -> None:
    with pytest.raises(LabError, match="agent in the guest was stopped"), guest() as session:
        session.agent.run(["/bin/sh", "-c", "kill -STOP $PPID; sleep 60"], soon())


def test_guest_that_a_person_ends_is_no_kernels_fault(guest: Opener) -> None:
    with pytest.raises(Interrupted, match="at its console"), guest() as session:
        session.console.type(b"\n")
        session.console.type(b"poweroff\n")
        never_ends(session.agent, soon())


def test_guest_that_does_not_answer_is_a_hang(guest: Opener) -> None:
    began = time.monotonic()
    with pytest.raises(GuestHung, match="run"), guest() as session:
        never_ends(session.agent, soon(1.0))
    assert time.monotonic() - began < LIMIT


def test_killed_qemu_is_a_lost_machine(guest: Opener) -> None:
    with pytest.raises(MachineLost, match="signal 9"), guest() as session:
        os.kill(session.machine.pid, signal.SIGKILL)
        session.agent.run(["/bin/ip", "link"], soon())


def test_stopped_qemu_is_not_the_kernels_fault(guest: Opener) -> None:
    with pytest.raises(MachineLost, match="stopped"), guest() as session:
        os.kill(session.machine.pid, signal.SIGSTOP)
        session.agent.run(["/bin/ip", "link"], soon(0.5))


def test_reset_without_a_word_is_a_crash(guest: Opener) -> None:
    with pytest.raises(KernelCrashed, match="reset without a word"), guest() as session:
        session.agent.write_file("/proc/sysrq-trigger", b"b", soon())
        session.agent.run(["/bin/ip", "link"], soon())


def test_missing_program_is_named(guest: Opener) -> None:
    with pytest.raises(GuestIncomplete, match="/bin/no-such"), guest() as session:
        session.agent.run(["/bin/no-such", "word"], soon())


def test_refused_request_carries_the_kernels_words(guest: Opener) -> None:
    with pytest.raises(RequestRefused, match="Operation not permitted"), guest() as session:
        session.agent.netlink([group_delete(0)], soon())


@pytest.mark.parametrize("kernel", ["sysfs", "nosysfs"])
def test_flood_on_the_console_during_work_loses_nothing(
    guest: Opener, tmp_path: Path, kernel: str
) -> None:
    with guest(kernel) as session:
        agent = session.agent
        agent.write_file("/proc/sys/kernel/printk_devkmsg", b"on\n", soon())
        flood = 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "<3>flood $i"; done > /dev/kmsg &'
        agent.run(["/bin/sh", "-c", flood], soon())
        links = Links(Host(GUEST, agent, lambda _cell: LIMIT), 200)
        links.bring_to(NEW)
        for operation in (Operation.MTU, Operation.UP, Operation.DOWN):
            change = CHANGES[operation]
            links.bring_to(change.before)
            measure = links.each(change, soon())
            links.check(change.after)
            assert measure.messages == 200
        _wait_for_flood(agent)
    assert (tmp_path / "console.log").read_bytes().count(b"flood ") == 3000


def _wait_for_flood(agent: Agent) -> None:
    while agent.run(["/bin/pidof", "sh"], soon()).exit_code == 0:
        time.sleep(0.05)


def test_agent_shares_the_consoles_line_with_a_kernel_that_prints(
    real_lab: Lab, subjects: dict[str, Subject]
) -> None:
    """On a machine with one port, every frame may be torn by a kernel message."""
    spec = real_lab.spec_for(subjects["nosysfs"])
    assert isinstance(spec.boot, DirectBoot)
    words = [
        w.replace("linklab.port=vport0p1", "linklab.port=ttyS0") for w in spec.boot.command_line
    ]
    boot = replace(spec.boot, command_line=tuple(words))
    with Machine(real_lab.qemu.path, replace(spec, boot=boot)) as machine:
        agent = Agent(AgentLine(machine.console))
        agent.wait_for_hello(soon())
        agent.write_file("/proc/sys/kernel/printk_devkmsg", b"on\n", soon())
        flood = 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo "<3>flood $i"; done > /dev/kmsg &'
        agent.run(["/bin/sh", "-c", flood], soon())
        for number in range(30):
            content = b"%d " % number * 2000
            agent.write_file("/tmp/file", content, soon())
            assert agent.read_file("/tmp/file", soon()) == content
        agent.power_off(soon())
        end = None
        while end is None:
            end = machine.poll()
            time.sleep(0.01)
        assert end.orderly


@pytest.mark.parametrize("machine", list(MachineType))
@pytest.mark.parametrize("cpus", [1, 2])
def test_guest_has_the_cpus_and_the_clock_that_it_should(
    lab: Lab, guest: Opener, machine: MachineType, cpus: int
) -> None:
    with guest("sysfs", replace(lab, machine=machine, cpus=cpus)) as session:
        hello = session.hello
        assert hello.cpus == cpus
        assert hello.clock_resolution == pytest.approx(1e-9), "no high-resolution timers"
        expected = "kvm-clock" if lab.accel is Accel.KVM else "tsc"
        assert hello.clocksource.startswith(expected)


def test_in_real_time_the_guests_clock_agrees_with_the_hosts(guest: Opener, real_lab: Lab) -> None:
    with guest(with_lab=real_lab) as session:
        began = time.monotonic()
        end = session.agent.run(["/bin/sleep", "2"], soon())
        host = time.monotonic() - began
    assert 2.0 <= end.measure.seconds <= host
