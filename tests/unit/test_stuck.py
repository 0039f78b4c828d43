"""Where a silent guest stands still, from what QEMU and the kernel say."""

from __future__ import annotations

from pathlib import Path

from linklab.lab.stuck import StuckState, _functions_at, read_stuck_state

KEY = """\
[    2.166463] sysrq: Show backtrace of all active CPUs
[    2.166826] NMI backtrace for cpu 0
[    2.167073] CPU: 0 UID: 0 PID: {pid} Comm: {name} Not tainted 6.12.117 #1
[    2.167234] Call Trace:
[    2.167450]  <IRQ>
[    2.167477]  {sure}nmi_cpu_backtrace+0xb3/0xf0
[    2.167809]  {sure}__handle_sysrq+0x94/0x180
[    2.167863]  {sure}common_interrupt+0x74/0xa0
[    2.167876]  </IRQ>
[    2.167891]  <TASK>
[    2.167894]  {sure}asm_common_interrupt+0x22/0x40
{task}[    2.167991]  </TASK>
[    2.485426] sysrq: Show Blocked State
"""
IDLE = """\
[    2.167903]  ? pv_native_safe_halt+0xb/0x10
[    2.167921]  ? default_idle_call+0x20/0x40
[    2.167926]  ? do_idle+0x1d2/0x1f0
"""
AT_WORK = """\
[    2.167903] RIP: 0010:rtnl_group_changelink+0x55/0x110
[    2.167921]  rtnl_newlink+0x20/0x40
"""
BLOCKED = """\
[    2.485430] task:ip              state:D stack:0     pid:51    tgid:51    flags:0x00004002
[    2.485431] Call Trace:
[    2.485432]  <TASK>
[    2.485433]  __schedule+0x3f5/0xa30
[    2.485434]  schedule+0x27/0xf0
[    2.485435]  __mutex_lock.constprop.0+0x2f8/0x5a0
[    2.485436]  dev_ioctl+0x2b/0x60
[    2.485437]  </TASK>
"""
USER, KERNEL = 0x7F91851F6B43, 0xFFFFFFFF813DFAEB


def said(task: str, sure: str = "? ") -> str:
    return KEY.format(task=task, sure=sure, pid=31, name="sh")


def test_a_cpu_that_works_says_at_what() -> None:
    found = read_stuck_state(said(AT_WORK, sure=""), [KERNEL])
    assert found.function == "rtnl_group_changelink"
    assert found.in_words == "the kernel is in rtnl_group_changelink"
    assert [frame.name for frame in found.stack] == ["rtnl_group_changelink", "rtnl_newlink"]


def test_a_task_that_waits_comes_before_a_cpu_that_idles() -> None:
    found = read_stuck_state(said(IDLE) + BLOCKED, [KERNEL])
    assert found.in_words == "the kernel is in dev_ioctl"


def test_idle_cpus_are_said_to_be_so() -> None:
    found = read_stuck_state(said(IDLE), [KERNEL])
    assert found.function is None
    assert found.in_words == "its CPUs are idle"


def test_a_program_that_runs_is_not_the_kernel() -> None:
    found = read_stuck_state(said(""), [USER])
    assert found.in_words == "its CPUs run programs, not the kernel"


def test_who_interrupts_is_not_who_was_interrupted() -> None:
    assert read_stuck_state(said("", sure=""), [KERNEL]).function is None


def test_nothing_is_said_where_nobody_answers() -> None:
    assert StuckState().in_words == ""
    assert read_stuck_state("", []).in_words == ""


class TestAKernelThatTakesNoInterrupts:
    def test_is_where_its_pointer_is(self) -> None:
        found = read_stuck_state("", [KERNEL], ("dev_spin",))
        assert found.in_words == "the kernel is in dev_spin"

    def test_is_not_where_a_cpu_waits(self) -> None:
        assert read_stuck_state("", [KERNEL], ("pv_native_safe_halt",)).function is None

    def test_is_believed_before_its_pointer_where_it_answers(self) -> None:
        found = read_stuck_state(said(IDLE), [KERNEL], ("dev_spin",))
        assert found.in_words == "its CPUs are idle"

    def test_is_found_in_the_map_of_its_kernel(self, tmp_path: Path) -> None:
        system_map = tmp_path / "System.map"
        system_map.write_text(
            "ffffffff81000000 T _text\n"
            "ffffffff81000100 t dev_spin.isra.0\n"
            "ffffffff81000200 D not_code\n"
            "ffffffff81000300 T next\n"
            "ffffffff81000400 T _etext\n"
        )
        inside, outside = 0xFFFFFFFF81000123, 0x7F0000000000
        assert _functions_at([inside, outside], system_map) == {inside: "dev_spin"}
        assert _functions_at([inside], None) == {}
