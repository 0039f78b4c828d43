"""A scheduler and workers on this host, which are processes with caches of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from linklab.events import Event as Told
from linklab.events import Note
from linklab.fleet.address import worker_argv
from linklab.fleet.submitter import Fleet
from linklab.host.cache import Cache
from linklab.paths import ROOT
from linklab.results.model import Sample
from linklab.trials.engine import Batch, Failed

LIMIT = 120.0  # s
PATH = ":".join(map(str, (ROOT, Path(__file__).parent, Path(__file__).parents[1])))
"""Where a worker finds linklab, and what is made up for these tests."""


class Workers:
    """A scheduler in this process, and workers that are processes."""

    def __init__(self, folder: Path, cache: Path) -> None:
        import dask
        import distributed

        # A worker that says nothing for so long is taken for lost.
        dask.config.set({"distributed.scheduler.worker-ttl": "4s"})
        self.cluster = distributed.LocalCluster(n_workers=0, dashboard_address=":0")
        self.address: str = self.cluster.scheduler_address
        self.processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._cache = cache

    def start(self, number: int = 1, code: Path = ROOT, **variables: str) -> None:
        """Start workers, each with a cache of its own."""
        for _ in range(number):
            own = self._folder / f"worker-{len(self.processes)}"
            own.mkdir()
            path = PATH.replace(str(ROOT), str(code), 1)
            # Its facts about this host are known, so that nothing is measured again.
            shutil.copytree(self._cache / "host", own / "cache" / "host", dirs_exist_ok=True)
            env = {**os.environ, "PYTHONPATH": path, "LINKLAB_CACHE": str(own / "cache")}
            log = (own / "log").open("wb")
            argv = worker_argv(self.address)
            started = subprocess.Popen(
                argv, cwd=own, env={**env, **variables}, stdout=log, stderr=log
            )
            self.processes.append(started)
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(len(self.processes), timeout=LIMIT)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.cluster.close()


def child_of(*workers: int) -> tuple[int, int]:
    """Wait until one of some workers is at a part; return that one, and the part's process."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        for pid in workers:
            for task in Path(f"/proc/{pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    if b"linklab.fleet" in Path(f"/proc/{child}/cmdline").read_bytes():
                        return pid, int(child)
        time.sleep(0.05)
    raise AssertionError("no worker began a part")


def prepare_cache(folder: Path, known: Path) -> None:
    """Make a cache with the image of what is made up, and with what another one knows of here."""
    shutil.copytree(known / "host", folder / "host", dirs_exist_ok=True)
    Cache(folder).get("initramfs", "0", _image, lambda _: None, "an image")


@contextmanager
def running(folder: Path, known: Path) -> Iterator[Workers]:
    """Yield workers to be; `known` is a cache in which this host's facts are."""
    prepare_cache(folder / "cache", known)
    made = Workers(folder, folder / "cache")
    try:
        yield made
    finally:
        made.end()


def _image(folder: Path) -> dict[str, str]:
    (folder / "initramfs.cpio").write_bytes(b"an image" * 1000)
    return {}


class Taken:
    """What came of a batch."""

    def __init__(self, workers: Workers, folder: Path) -> None:
        self.folder = folder
        self.told: list[Told] = []
        self.fleet = Fleet(workers.address, False, self.told.append)
        self.samples: list[Sample] = []
        self.failed: list[Failed] = []

    def of(self, batch: Batch, meanwhile: Callable[[], None] = lambda: None) -> Taken:
        """Do a batch; `meanwhile` is called at the first sample."""
        with self.fleet:
            for event in self.fleet.events(batch, self.folder):
                if isinstance(event, Failed):
                    self.failed.append(event)
                if isinstance(event, Sample):
                    self.samples.append(event)
                    if len(self.samples) == 1:
                        meanwhile()
        return self

    @property
    def counted(self) -> Counter[tuple[str, int]]:
        return Counter((sample.kernel, sample.block) for sample in self.samples)

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.told if isinstance(event, Note))
