"""What a fleet costs whoever submits, by hand: `python tests/process/fleet_scale.py`.

A real scheduler, and real workers, some dozen in a process, that only sleep and give
samples that were made up before; one in a hundred is killed. With `--real` they are as
`invoke worker` starts them, and do each part, of no guests, in a process of its own.
Prints what was lost or counted twice (nothing), and what the submitter took.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import pickle
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event as Begun
from pathlib import Path

import dask
import psutil
from distributed import LocalCluster, Worker

sys.path[:0] = [
    str(Path(__file__).parent),
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[2]),
]

from fleet_batches import KERNELS, made_of  # noqa: E402
from fleet_workers import PATH, prepare_cache  # noqa: E402

from linklab.fleet import submitter  # noqa: E402
from linklab.fleet.address import RESOURCE, worker_argv  # noqa: E402
from linklab.fleet.worker import Done, Lacking  # noqa: E402
from linklab.host import run as host  # noqa: E402
from linklab.host.cache import Cache  # noqa: E402
from linklab.machine.spec import Clock  # noqa: E402
from linklab.results.model import Sample  # noqa: E402


def pretend(part: bytes, _names: object, _contents: object, _scenario: object) -> Lacking | Done:
    """Sleep as long as the part says, and return its samples."""
    batch = pickle.loads(part)
    with tempfile.TemporaryDirectory() as folder:
        events = list(batch.events(Path(folder)))
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    return Done(events, files, worker="")


def serve(address: str, number: int, lives: list[float], begun: Begun) -> None:
    """Run workers in this process; `lives` are the seconds from the beginning that some have."""

    # What each worker does beside its work is for a host of its own, not for 200 on one.
    dask.config.set(
        {
            "distributed.worker.profile.enabled": False,
            "distributed.worker.memory.monitor-interval": "60s",
            "distributed.admin.system-monitor.interval": "60s",
            "distributed.admin.tick.interval": "10s",
        }
    )

    async def run() -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        workers = [
            await Worker(address, nthreads=1, resources={RESOURCE: 1}, dashboard=False)
            for _ in range(number)
        ]
        await asyncio.to_thread(begun.wait)
        began = time.monotonic()
        for worker, seconds in zip(workers, lives, strict=False):
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            worker.batched_stream.abort()  # its connection ends as that of a killed process
            await worker.close(timeout=0, nanny=False)
        await asyncio.Event().wait()

    asyncio.run(run())


def pretending(number: int, each: int) -> Start:
    """Return what starts so many workers that only sleep, `each` in a process."""
    lives = sorted(random.uniform(5, 60) for _ in range(number // 100))
    vars(submitter)["work"] = pretend  # the parts have no guests
    spawning = multiprocessing.get_context("spawn")
    begun = spawning.Event()

    def start(address: str) -> Callable[[], None]:
        for n in range(number // each):
            given = address, each, lives if n == 0 else [], begun
            spawning.Process(target=serve, args=given, daemon=True).start()
        return begun.set

    return start


def real(number: int) -> Start:
    """Return what starts so many real workers, which do each part in a process of its own."""

    def start(address: str) -> Callable[[], None]:
        for _ in range(number):  # on this host's cache, as those of `local:N`
            host.start(worker_argv(address), env={"PYTHONPATH": PATH})
        return lambda: None

    return start


def _cpu_of_children() -> float:
    """Return the CPU seconds of this process's children, and of theirs that have ended."""
    times = (child.cpu_times() for child in psutil.Process().children())
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


Start = Callable[[str], Callable[[], None]]
"""Starts workers of a scheduler, and returns what tells them that it begins."""


def main() -> None:
    """Do it, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--real", action="store_true", help="workers as `invoke worker` starts")
    parser.add_argument("--parts", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.5, help="that a trial takes")
    parser.add_argument("--each", type=int, default=25, help="workers in a process")
    asked = parser.parse_args()
    dask.config.set({"distributed.scheduler.work-stealing": False})
    known = Cache().root
    cache = tempfile.TemporaryDirectory(prefix="linklab-fleet-")
    os.environ["LINKLAB_CACHE"] = cache.name
    prepare_cache(Path(cache.name), known)
    cluster = LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    start = real(asked.workers) if asked.real else pretending(asked.workers, asked.each)
    begin = start(cluster.scheduler_address)
    told: list[object] = []
    counted: Counter[tuple[str, int]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        fleet = submitter.Fleet(cluster.scheduler_address, False, told.append)
        fleet.client.wait_for_workers(asked.workers, timeout=600)
        with fleet:
            batch = made_of(asked.parts, asked.seconds, clock=Clock.REAL)
            fleet.hosts()  # who has asked them once does not ask again
            begin()
            worked = -_cpu_of_children()
            before, began = time.process_time(), time.monotonic()
            for event in fleet.events(batch, Path(folder)):
                if isinstance(event, Sample):
                    counted[event.kernel, event.block] += 1
            there = len(fleet.there())
            worked += _cpu_of_children()
            seconds, cpu = time.monotonic() - began, time.process_time() - before
    expected = {(kernel, block) for kernel in KERNELS for block in range(1, asked.parts + 1)}
    print(f"{asked.workers} workers, {asked.workers - there} of them gone at the end, "
          f"{asked.parts} parts in {seconds:.0f} s")  # fmt: skip
    print(f"lost: {len(expected - counted.keys())}, twice: {sum(n > 1 for n in counted.values())}")
    ideal = asked.parts * len(KERNELS) * asked.seconds / asked.workers
    over = 1000 * (seconds - ideal) * asked.workers / asked.parts
    print(f"{asked.parts / seconds:.1f} parts a second; beside its trials a part takes {over:.0f} "
          "ms of its worker's time")  # fmt: skip
    if asked.real:
        print(f"workers, with the processes that do the parts: "
              f"{1000 * worked / asked.parts:.0f} ms of CPU a part")  # fmt: skip
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"submitter and scheduler: {megabytes:.0f} MiB, {cpu / seconds:.2f} cores, "
          f"{1000 * cpu / asked.parts:.1f} ms of CPU a part")  # fmt: skip
    for process in multiprocessing.active_children():
        process.kill()
    cluster.close()
    cache.cleanup()


if __name__ == "__main__":
    main()
