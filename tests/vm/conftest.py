"""Real kernels, real guests. The first run builds both kernels, which takes minutes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    prepare_lab,
    prepare_subjects,
)
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.paths import ROOT
from linklab.session import Session

INVOKE = str(Path(sys.executable).with_name("invoke"))
LIMIT = 60.0  # s; a guest that takes longer for anything here is broken


def soon(seconds: float = LIMIT) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output as JSON: all of it, or it is a fault."""
        return json.loads(self.stdout)


Invoke = Callable[..., Done]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    """Run one of the lab's commands as a user does."""

    def run(*words: str, timeout: float = 900) -> Done:
        done = subprocess.run(
            [INVOKE, *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def cache() -> Cache:
    """The user's own cache: kernels are built once."""
    return Cache()


@pytest.fixture(scope="session")
def lab(cache: Cache) -> Lab:
    """A lab of small machines, booting directly."""
    return prepare_lab(MachineOptions(), 256, cache, ignore)


@pytest.fixture(scope="session")
def subjects(cache: Cache) -> dict[str, Subject]:
    """Both flavours, with their ISOs."""
    made = prepare_subjects(KernelOptions("sysfs,nosysfs"), Boot.ISO, cache, ignore)
    return {subject.name: subject for subject in made}


Opener = Callable[..., Any]


@pytest.fixture
def guest(lab: Lab, subjects: dict[str, Subject], tmp_path: Path) -> Opener:
    """Boot a guest: `with guest("sysfs") as session`."""

    @contextmanager
    def boot(kernel: str = "nosysfs", with_lab: Lab | None = None) -> Iterator[Session]:
        log = tmp_path / "console.log"
        with (with_lab or lab).session(subjects[kernel], log) as session:
            yield session

    return boot
