"""What a fleet does beside trials: kernels are built, self-tests run; and clocks are apart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from fake_tree import PATCH, make_tree
from fleet_batches import made_of, run_self_tests
from fleet_workers import PATH, Taken, Workers, child_of
from processes import wait_until_gone

from linklab.commands.fleet import FleetOptions
from linklab.errors import BuildSkipped, UsageError, Verdict
from linklab.events import Event, Note, ignore
from linklab.fleet.submitter import Fleet
from linklab.host.cache import Cache
from linklab.kernel.kernel import KIND, BuildOptions, KernelSpec, build_ahead, build_kernel, plan
from linklab.kernel.series import read_series
from linklab.kernel.source import open_source
from linklab.results.outcomes import Status
from linklab.results.store import read_about
from linklab.selftests.record import TestRecord, records_of

pytest.importorskip("distributed")
pytestmark = pytest.mark.process


# Kernels


class Builder:
    """A cache that lacks kernels, and a fleet that builds them."""

    def __init__(self, workers: Workers, tree: Path) -> None:
        self.told: list[Event] = []
        self.fleet = Fleet(workers.address, False, self.told.append)
        self.cache = Cache()
        self.cache.elsewhere = self.fleet.build
        self.options = BuildOptions(source=tree)

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.told if isinstance(event, Note))

    @property
    def built_here(self) -> bool:
        """Whether anything was compiled in this host's own cache."""
        return any((self.cache.root / "sources").glob("*/obj"))


@pytest.fixture
def builder(workers: Workers, tmp_path: Path) -> Builder:
    return Builder(workers, make_tree(tmp_path / "linux"))


def with_a_patch(options: BuildOptions, folder: Path) -> BuildOptions:
    patch = folder / "one.patch"
    patch.write_text(PATCH)
    return replace(options, patches=read_series([patch]).patches)


def who_has(folder: Path, key: str) -> list[int]:
    """The workers whose caches have a kernel."""
    return sorted(
        int(path.parts[-4].removeprefix("worker-"))
        for path in folder.glob(f"worker-*/cache/{KIND}/{key}")
    )


def test_a_kernel_is_built_once_on_a_worker_and_fetched_by_the_rest(
    workers: Workers, builder: Builder, taken: Taken, tmp_path: Path
) -> None:
    workers.start(2)
    config = tmp_path / "mine.config"
    config.write_text("CONFIG_DEBUG_INFO=y\n")
    options = with_a_patch(replace(builder.options, configs=(config,)), tmp_path)
    with builder.fleet:
        found = build_kernel(KernelSpec("sysfs", options), builder.cache, ignore)
        assert build_kernel(KernelSpec("sysfs", options), builder.cache, ignore) == found
    assert found.file("bzImage").read_bytes().endswith(b"// a\n1\ntwo\nthree\n// b\n")
    assert len(who_has(tmp_path, found.key)) == 1
    assert builder.notes.count("was built on") == 1
    assert not builder.built_here
    taken.of(made_of(4, 0.1, image=f"{KIND}/{found.key}/bzImage"))
    assert who_has(tmp_path, found.key) == [0, 1]
    alone = Cache(tmp_path / "alone")
    here = build_kernel(KernelSpec("sysfs", options), alone, ignore)
    assert (here.key, here.hashes["bzImage"]) == (found.key, found.hashes["bzImage"])


def test_the_states_of_a_series_are_built_side_by_side_from_one_copy_of_the_source(
    workers: Workers, builder: Builder, tmp_path: Path
) -> None:
    workers.start(2)
    options = builder.options
    states = [("sysfs", options), ("nosysfs", options), ("sysfs", with_a_patch(options, tmp_path))]
    with builder.fleet:
        build_ahead(states, builder.cache, builder.told.append)
    keys = [plan(KernelSpec(*state), builder.cache, ignore).key for state in states]
    assert all(builder.cache.find(KIND, key, ignore) for key in keys)
    assert sorted(each for key in keys for each in who_has(tmp_path, key)) in ([0, 0, 1], [0, 1, 1])
    packs = [path.stat().st_size for path in (tmp_path / "cache" / "source").glob("*/pack-*.pack")]
    assert len(packs) == 2
    assert min(packs) < max(packs) / 4  # what the patch made new, without all the rest
    assert not builder.built_here


def test_a_kernel_that_does_not_compile_is_skipped_with_the_compiler_s_words(
    workers: Workers, builder: Builder
) -> None:
    workers.start(1)
    assert builder.options.source is not None
    (builder.options.source / "net" / "b.c").write_text("// wrong\n")
    with builder.fleet:
        for _ in range(2):
            with pytest.raises(BuildSkipped) as caught:
                build_kernel(KernelSpec("sysfs", builder.options), builder.cache, ignore)
    assert "net/b.c:2:1: error: 'x' undeclared" in caught.value.evidence
    assert str(builder.cache.root / "sources") in caught.value.evidence
    assert "worker-0" not in caught.value.evidence
    assert not builder.built_here


def test_a_build_whose_worker_is_killed_is_done_by_another_one(
    workers: Workers, builder: Builder, tmp_path: Path
) -> None:
    family = open_source(builder.options.source, builder.cache, ignore).family
    workers.start(2)
    slow = [tmp_path / f"worker-{n}/cache/sources/{family}/slow" for n in range(2)]
    for each in slow:  # an object is begun there and not finished
        each.parent.mkdir(parents=True)
        each.touch()

    def kill() -> None:
        pid, _ = child_of(*(worker.pid for worker in workers.processes))
        for each in slow:
            each.unlink()
        os.kill(pid, 9)

    killer = threading.Thread(target=kill)
    killer.start()
    with builder.fleet:
        found = build_kernel(KernelSpec("sysfs", builder.options), builder.cache, ignore)
    killer.join()
    assert sum(worker.poll() is None for worker in workers.processes) == 1
    assert who_has(tmp_path, found.key)
    assert not builder.built_here


def test_what_no_worker_can_build_is_built_here(
    workers: Workers, builder: Builder, tmp_path: Path
) -> None:
    other = tmp_path / "bin"
    other.mkdir()
    (other / "gcc").write_text("#!/bin/sh\necho another compiler\n")
    (other / "gcc").chmod(0o755)
    workers.start(1, PATH=f"{other}:{os.environ['PATH']}")
    with builder.fleet:
        build_kernel(KernelSpec("sysfs", builder.options), builder.cache, ignore)
    assert "has another compiler or linker: another compiler" in builder.notes
    assert builder.built_here


# Self-tests


def records(folder: str = "out") -> dict[str, TestRecord]:
    return {each.name: each for each in records_of(read_about(Path(folder)))}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_self_tests_come_back_with_their_logs_in_their_order(workers: Workers, here: None) -> None:
    workers.start(2)
    names = ["good.sh", "bad.sh", "flaky.sh", "good2.sh", "good3.sh", "good4.sh"]
    fleet = FleetOptions(workers.address)
    assert run_self_tests(names, retry="1", output="out", fleet=fleet) is Verdict.FAIL
    found = records()
    assert list(found) == [f"net/{name}" for name in names]
    tried = {name: [attempt.status for attempt in each.attempts] for name, each in found.items()}
    assert tried["net/good.sh"] == [Status.PASS]
    assert tried["net/bad.sh"] == [Status.FAIL, Status.FAIL]
    assert tried["net/flaky.sh"] == [Status.FAIL, Status.PASS]
    done_by = set()
    for each in found.values():
        for attempt in each.attempts:
            _, pid = (Path("out") / attempt.console).read_text().split()
            said = (Path("out") / attempt.output).read_text()
            assert said == f"{each.name.removeprefix('net/')} in {pid}\n"
            done_by.add(int(pid))
    assert done_by == {worker.pid for worker in workers.processes}
    (logs,) = read_about(Path("out"))["hosts"].values()
    assert len(logs) == sum(len(each.attempts) for each in found.values())
    assert run_self_tests(names, retry="1", output="alone") is Verdict.FAIL
    alone = records("alone")
    assert {name: each.last.status for name, each in alone.items()} == {
        name: each.last.status for name, each in found.items()
    }


def test_a_self_test_that_ends_each_worker_is_an_error_and_stops_no_other(
    workers: Workers, here: None
) -> None:
    workers.start(6)
    names = ["good.sh", "poison.sh", "good2.sh"]
    fleet = FleetOptions(workers.address)
    assert run_self_tests(names, output="out", fleet=fleet) is Verdict.ERROR
    found = {name: each.last for name, each in records().items()}
    assert found["net/poison.sh"].status is Status.ERROR
    assert "the self-test net/poison.sh on a" in found["net/poison.sh"].message
    assert {found["net/good.sh"].status, found["net/good2.sh"].status} == {Status.PASS}


SUBMITTER = """
import sys
from fleet_batches import run_self_tests
from linklab.commands.fleet import FleetOptions
run_self_tests(sys.argv[2:], output="out", fleet=FleetOptions(sys.argv[1]))
"""


def test_where_the_submitter_was_killed_another_one_goes_on(workers: Workers, here: None) -> None:
    workers.start(1)
    names = ["good.sh", "good2.sh", "long.sh"]
    env = {**os.environ, "PYTHONPATH": PATH}
    argv = [sys.executable, "-c", SUBMITTER, workers.address, *names]
    with subprocess.Popen(argv, env=env) as submitter:
        done = 0
        while done < 2:
            assert submitter.poll() is None
            with suppress(UsageError):  # no record is there yet, or an empty one
                done = len(records())
        _, child = child_of(workers.processes[0].pid)
        submitter.kill()
    wait_until_gone(child, 10.0)
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.txt")}
    assert read_about(Path("out"))["verdict"] is None
    started = Path("out/console-net_good.sh-1.log").read_text()
    pid = workers.processes[0].pid
    assert pid
    ended = threading.Thread(target=lambda: os.kill(child_of(pid)[1], 9))
    ended.start()  # what lasts for a minute fails on this host, and is an error of the lab
    fleet = FleetOptions(workers.address)
    assert run_self_tests(names, resume="out", fleet=fleet) is Verdict.ERROR
    ended.join()
    found = {name: each.last.status for name, each in records().items()}
    assert list(found) == [f"net/{name}" for name in names]
    assert list(found.values()) == [Status.PASS, Status.PASS, Status.ERROR]
    assert Path("out/console-net_good.sh-1.log").read_text() == started
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(read_about(Path("out"))["resumed"]) == 1


# Clocks

SHIFT = Path(__file__).with_name("clock_shift.c")


@pytest.fixture
def shift(tmp_path: Path) -> str:
    """A library that lets a program's clock be fast."""
    library = tmp_path / "clock_shift.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, SHIFT], check=True)
    return str(library)


def test_clocks_that_are_an_hour_apart_break_nothing(
    workers: Workers, taken: Taken, builder: Builder, shift: str, tmp_path: Path
) -> None:
    workers.start(1, LD_PRELOAD=shift, CLOCK_SHIFT="3600")
    workers.start(1, LD_PRELOAD=shift, CLOCK_SHIFT="-3600")
    with taken.fleet:
        clocks = taken.fleet.client.run(_now)
        taken.fleet.hosts()
    fast, slow = (clocks[address] for address in sorted(clocks, key=lambda each: -clocks[each]))
    assert 7000 < fast - slow < 7400
    taken.of(made_of(8, 0.2))
    assert len(taken.samples) == len(taken.counted) == 16
    assert len({Path(log).read_text() for log in taken.folder.glob("console-*.log")}) > 2
    states = [("sysfs", builder.options), ("nosysfs", builder.options)]
    with builder.fleet:
        build_ahead(states, builder.cache, ignore)
    for state in states:
        assert builder.cache.find(KIND, plan(KernelSpec(*state), builder.cache, ignore).key, ignore)
    fleet = FleetOptions(workers.address)
    began = _now()
    assert run_self_tests(["good.sh", "good2.sh"], output=str(tmp_path / "out"), fleet=fleet) is (
        Verdict.PASS
    )
    about = read_about(tmp_path / "out")
    times = [datetime.fromisoformat(about[name]).timestamp() for name in ("start", "end")]
    assert began - 1 < times[0] < times[1] < _now() + 1


def _now() -> float:
    return time.time()
