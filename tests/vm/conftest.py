"""Real kernels, real guests. The first run builds both kernels, which takes minutes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guests import INVOKE, Done, Invoke, Opener

from linklab.commands.kernels import KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Session
from linklab.machine.spec import Boot
from linklab.paths import ROOT
from linklab.scenarios.grouping import Grouping
from linklab.trials.subjects import Requirements, subject_of


@pytest.fixture
def invoke(subjects: dict[str, Subject]) -> Invoke:
    """Run one of the lab's commands as a user does, its kernels built before the clock runs."""

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
    """A lab of small machines, booting directly, by the clock that is the default here."""
    return set_up_lab(MachineOptions(), 256, cache, ignore)


@pytest.fixture(scope="session")
def real_lab(cache: Cache) -> Lab:
    """The same whose guests' seconds are the host's."""
    return set_up_lab(MachineOptions(clock="real"), 256, cache, ignore)


@pytest.fixture(scope="session")
def virtual_lab(cache: Cache) -> Lab:
    """The same in virtual time, also where KVM runs guests."""
    return set_up_lab(MachineOptions(clock="virtual"), 256, cache, ignore)


@pytest.fixture(scope="session")
def subjects(cache: Cache) -> dict[str, Subject]:
    """Both flavours, with their ISOs."""
    purpose = Requirements(Boot.ISO, Grouping.all_needs())
    made = prepare_subjects(KernelOptions("sysfs,nosysfs"), purpose, cache, ignore)
    return {subject.name: subject for subject in made}


@pytest.fixture(scope="session")
def debug_kernel(cache: Cache) -> Subject:
    """The kernel that finds bugs, built once."""
    return subject_of(resolve_kernel("debug", BuildOptions(), cache, ignore), cache, ignore)


@pytest.fixture
def guest(lab: Lab, subjects: dict[str, Subject], tmp_path: Path) -> Opener:
    """Boot a guest: `with guest("sysfs") as session`."""

    @contextmanager
    def boot(kernel: str = "nosysfs", with_lab: Lab | None = None) -> Iterator[Session]:
        log = tmp_path / "console.log"
        with (with_lab or lab).session(subjects[kernel], log) as session:
            yield session

    return boot
