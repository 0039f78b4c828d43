"""`invoke gdb` on a real kernel, with symbols and sources."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from guests import Invoke

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed"),
]


def test_gdb_stops_where_the_guests_shell_leads_and_shows_files_and_lines(
    invoke: Invoke, debug_kernel: object, tmp_path: Path
) -> None:
    log = tmp_path / "console.log"
    # gdb shows files as they lie in the source's tree, and another kernel may be built of it
    # meanwhile, with a patch: then once more.
    for _ in range(5):
        done = invoke(
            *("gdb", "--kernel", "debug", "--log", str(log), "--type", "ip link add d7 type dummy"),
            *("--command", "break dummy_validate", "--command", "continue"),
            *(
                "--command",
                "backtrace",
                "--command",
                "print sizeof(struct rtnl_link_stats64) > 0",
                "--command",
                "list",
            ),
        )
        if "static int dummy_validate" in done.stdout:
            break
        time.sleep(20)
    assert done.status == 0, done.stderr
    assert "Breakpoint 1, dummy_validate (tb=0x" in done.stdout
    assert "rtnl_newlink" in done.stdout
    assert "net/core/rtnetlink.c:" in done.stdout
    assert "$1 = 1" in done.stdout
    assert "static int dummy_validate(struct nlattr *tb[]" in done.stdout
    assert b"ip link add d7" in log.read_bytes()


def test_a_command_that_gdb_cannot_do_ends_it(invoke: Invoke, debug_kernel: object) -> None:
    done = invoke(
        *("gdb", "--command", "break no_such_function_at_all", "--command", "continue"),
    )
    assert done.status == 3
    assert "no_such_function_at_all" in done.stderr
    assert "gdb ended with status 1" in done.stderr
