"""A fleet of real workers and a real scheduler on this host: what is lost is done again, once."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fleet_batches import KERNELS, made_of
from fleet_workers import PATH, Taken, Workers, child_of
from processes import is_gone, wait_until_gone

from linklab.errors import LabError, UsageError
from linklab.fleet.address import check_address, worker_argv
from linklab.fleet.parcel import artefact_of, packed, pickled, unpack
from linklab.fleet.submitter import parts_of
from linklab.host.cache import Cache
from linklab.machine.spec import Clock
from linklab.paths import ROOT

pytest.importorskip("distributed")
pytestmark = pytest.mark.process


def once_each(blocks: int) -> Counter[tuple[str, int]]:
    return Counter((kernel, block) for kernel in KERNELS for block in range(1, blocks + 1))


def test_all_is_done_once_and_the_kernels_of_a_block_meet_on_one_worker(
    workers: Workers, taken: Taken
) -> None:
    workers.start(2)
    taken.of(made_of(8, 0.2))
    assert taken.counted == once_each(8)
    done_by = [(taken.folder / f"console-{n:03}.log").read_text().split() for n in range(2, 18)]
    for (first, there), (second, here) in zip(done_by[::2], done_by[1::2], strict=True):
        assert (first, second, there) == ("a", "b", here)
    assert len({pid for _, pid in done_by}) == 2
    (logs,) = taken.fleet.measured.values()
    assert sorted(logs) == [f"console-{n:03}.log" for n in range(2, 18)]


def test_a_worker_that_is_killed_loses_nothing_but_time(workers: Workers, taken: Taken) -> None:
    workers.start(3)
    taken.of(made_of(12, 0.3), workers.processes[1].kill)
    assert taken.counted == once_each(12)


def test_a_worker_that_stands_still_is_not_waited_for(workers: Workers, taken: Taken) -> None:
    workers.start(2)
    pid = workers.processes[0].pid
    taken.of(made_of(6, 0.3), lambda: os.kill(pid, signal.SIGSTOP))
    assert taken.counted == once_each(6)


def test_a_part_that_ends_each_worker_is_named_and_stops_nothing_else(
    workers: Workers, taken: Taken
) -> None:
    workers.start(6)
    with pytest.raises(LabError, match=r"ended each worker that took it.*console-00[67]\.log"):
        taken.of(made_of(5, 0.1, frozenset({3})))
    assert taken.counted == once_each(5) - Counter({(kernel, 3): 1 for kernel in KERNELS})


def test_without_any_worker_left_it_ends(
    workers: Workers, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linklab.fleet.submitter._LOST", 3.0)
    workers.start(1)
    with pytest.raises(LabError, match="all 1 workers are gone"):
        taken.of(made_of(5, 0.5), workers.processes[0].kill)
    assert taken.samples


def test_another_version_of_linklab_is_refused(
    workers: Workers, taken: Taken, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for folder in ("linklab", "guest", "images", "templates"):
        shutil.copytree(ROOT / folder, other / folder)
    with (other / "linklab" / "events.py").open("a") as file:
        file.write("# another\n")
    workers.start(1, other)
    with pytest.raises(LabError, match="has another version of linklab"):
        taken.of(made_of(2))
    workers.start(1)
    with taken.fleet:
        assert len(taken.fleet.fitting(made_of(2))) == 1


def test_a_worker_with_other_figures_in_virtual_time_is_left_out(
    workers: Workers, taken: Taken
) -> None:
    workers.start(2)
    workers.start(1, SKEWED="yes")
    taken.of(made_of(6, 0.05, skewed="SKEWED"))
    assert "is not used: in virtual time its seconds is" in taken.notes
    values = {sample.block: sample.metrics["seconds"] for sample in taken.samples}
    skews = {round(value / (0.001 * block)) for block, value in values.items()}
    assert len(skews) == 1, "figures of both kinds are in one table"


def test_a_worker_whose_disk_is_full_is_left_out_and_its_part_done_elsewhere(
    workers: Workers, taken: Taken
) -> None:
    workers.start(2)
    limited = workers.processes[0].pid  # no file of it can grow beyond that
    resource.prlimit(limited, resource.RLIMIT_FSIZE, (100_000, 100_000))
    taken.of(made_of(6, 0.1, bulk=200_000, clock=Clock.REAL))
    assert taken.counted == once_each(6)
    assert "is not used: on " in taken.notes


def test_what_every_host_fails_at_is_a_fault(workers: Workers, taken: Taken) -> None:
    workers.start(2)
    for process in workers.processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(LabError, match="the process that did it ended with status 1") as caught:
        taken.of(made_of(3, 0.1, bulk=200_000, clock=Clock.REAL))
    assert "File too large" in caught.value.evidence


def test_in_real_time_a_worker_does_one_part_at_a_time_or_is_refused(
    workers: Workers, taken: Taken
) -> None:
    workers.start(1)
    argv = [word for word in worker_argv(workers.address) if "=1" not in word]
    argv.remove("--resources")
    assert "--resources" not in argv
    taken.of(made_of(2, clock=Clock.REAL))
    assert taken.counted == once_each(2)


SUBMITTER = """
import sys
import time
from pathlib import Path
from fleet_batches import made_of
from linklab.fleet.submitter import Fleet
with Fleet(sys.argv[1], False, print) as fleet:
    for event in fleet.events(made_of(4, 300.0), Path(sys.argv[2])):
        pass
"""


def test_workers_end_their_work_when_the_submitter_is_killed(
    workers: Workers, tmp_path: Path
) -> None:
    workers.start(1)
    argv = [sys.executable, "-c", SUBMITTER, workers.address, str(tmp_path)]
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": PATH}) as submitter:
        _, child = child_of(workers.processes[0].pid)
        submitter.kill()
    wait_until_gone(child, 10.0)
    assert not is_gone(workers.processes[0].pid)


# What is sent


def test_a_worker_gets_what_it_lacks(workers: Workers, taken: Taken, tmp_path: Path) -> None:
    workers.start(1)
    taken.of(made_of(2))
    there = tmp_path / "worker-0" / "cache" / "initramfs" / "0" / "initramfs.cpio"
    assert there.read_bytes() == b"an image" * 1000


def test_a_part_names_all_that_it_rests_on(workers: Workers) -> None:
    assert pickled(made_of(2))[1] == {"initramfs/0"}


def test_holes_stay_holes_and_what_was_altered_is_refused(workers: Workers, tmp_path: Path) -> None:
    def memory(folder: Path) -> dict[str, str]:
        with (folder / "ram").open("wb") as file:
            file.truncate(64 << 20)
            file.seek(5 << 20)
            file.write(b"what a guest knew")
        return {"hello": "yes"}

    cache, other = Cache(), Cache(tmp_path / "other")
    made = cache.get("saved", "1", memory, lambda _: None, "a guest")
    content = packed("saved/1", cache.root)
    assert len(content) < 1 << 20
    unpack("saved/1", content, other, lambda _: None)
    arrived = other.root / "saved" / "1" / "ram"
    assert arrived.read_bytes() == made.file("ram").read_bytes()
    assert arrived.stat().st_blocks * 512 < 8 << 20
    assert json.loads((arrived.parent / "manifest.json").read_text())["hello"] == "yes"

    with (made.path / "ram").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"WHAT")
    altered = packed("saved/1", cache.root)
    with pytest.raises(LabError, match="a ram that was altered: it was altered on its way"):
        unpack("saved/1", altered, Cache(tmp_path / "third"), lambda _: None)
    assert not (tmp_path / "third" / "saved" / "1").exists()


def test_a_path_outside_of_the_artefact_is_refused(workers: Workers, tmp_path: Path) -> None:
    content = packed("initramfs/0", Cache().root)
    with pytest.raises(LabError, match="what was sent as kernel/0 holds"):
        unpack("kernel/0", content, Cache(tmp_path / "other"), lambda _: None)
    for name in ("../../etc/passwd", "/etc/passwd", "kernel"):
        with pytest.raises(LabError, match="no name of an artefact"):
            artefact_of(name)


def test_parts_can_be_sent_and_have_only_what_is_theirs() -> None:
    parts = parts_of(made_of(3))
    assert [sorted(turn.number for turn in part.turns) for part in parts] == [
        [1, 1],
        [2, 2],
        [3, 3],
    ]
    for part in parts:
        again = pickle.loads(pickle.dumps(part))
        assert again.consoles == part.consoles
        assert len(again.consoles) == 2
        assert again.plan.jobs == 1


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("local:0", "a number of workers"),
        ("local:many", "a number of workers"),
        ("tcp://192.0.2.1:8786", "whoever reaches such a scheduler"),
        ("no-such-file.json", "a scheduler's file"),
        ("tcp://127.0.0.1:port", "--fleet"),
    ],
)
def test_what_is_no_safe_scheduler_is_refused(address: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_address(address, insecure=False)


@pytest.mark.parametrize("address", ["local:2", "tcp://127.0.0.1:8786", "tls://192.0.2.1:8786"])
def test_what_is_safe_is_taken(address: str) -> None:
    check_address(address, insecure=False)
    check_address("tcp://192.0.2.1:8786", insecure=True)


def test_where_the_scheduler_is_gone_it_ends_and_keeps_what_it_has(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linklab.fleet.address._CONNECT", 5.0)
    file = tmp_path / "scheduler.json"
    argv = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    argv += ["--no-dashboard", "--scheduler-file", str(file)]
    with subprocess.Popen([sys.executable, *argv], stderr=subprocess.DEVNULL) as scheduler:
        while not file.exists():
            time.sleep(0.05)
        workers.address = json.loads(file.read_text())["address"]
        workers.start(2)
        (tmp_path / "run").mkdir()
        taken = Taken(workers, tmp_path / "run")
        with pytest.raises(LabError, match="the scheduler is gone"):
            taken.of(made_of(20, 0.5), scheduler.kill)
    assert taken.samples
    assert max(taken.counted.values()) == 1
