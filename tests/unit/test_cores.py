"""Which CPUs guests get, and that they get those alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linklab.host.cpus import own_cores, parse_cpu_list, pin, share_out

PAIRS = [frozenset({0, 4}), frozenset({1, 5}), frozenset({2, 6}), frozenset({3, 7})]


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", {0}), ("0,4\n", {0, 4}), ("0-3", {0, 1, 2, 3}), ("0-1,8-9,12", {0, 1, 8, 9, 12})],
)
def test_lists_are_read_as_the_kernel_writes_them(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


def test_cpus_of_one_core_are_one_core(tmp_path: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    for cpu in allowed:
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(",".join(map(str, allowed)) + "\n")
    assert own_cores(tmp_path) == [frozenset(allowed)]


def test_where_the_host_does_not_say_each_cpu_is_a_core(tmp_path: Path) -> None:
    assert own_cores(tmp_path) == [frozenset({cpu}) for cpu in sorted(os.sched_getaffinity(0))]


def test_the_cores_of_this_host_are_those_we_may_use() -> None:
    assert frozenset().union(*own_cores()) == os.sched_getaffinity(0)


def test_no_core_is_given_twice() -> None:
    assert share_out(2, 2, PAIRS) == [frozenset({0, 1}), frozenset({2, 3})]
    assert share_out(4, 1, PAIRS) == [frozenset({cpu}) for cpu in range(4)]


def test_too_few_cores_are_not_shared_out() -> None:
    assert share_out(5, 1, PAIRS) is None
    assert share_out(2, 3, PAIRS) is None


def test_a_process_is_pinned_with_all_its_threads() -> None:
    code = "import threading; threading.Thread(target=input).start(); print(1, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout and child.stdin
        child.stdout.readline()
        wanted = {min(os.sched_getaffinity(0))}
        pin(child.pid, wanted)
        threads = [int(path.name) for path in Path(f"/proc/{child.pid}/task").iterdir()]
        assert len(threads) == 2
        assert all(os.sched_getaffinity(thread) == wanted for thread in threads)
        child.stdin.close()


def test_a_process_that_ended_is_none_to_pin() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        pin(child.pid, {0})
