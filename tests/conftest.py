"""What more than one group of tests needs."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.image.programs import PROGRAM, build_agent

if TYPE_CHECKING:
    from agentbox import Box
    from fleet_workers import Taken, Workers
    from stage import Stage

NOBODY = 65534

# Whoever started us in the background, or with nohup, had signals ignored,
# which programs inherit; tests of what a signal does want one that arrives.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# A shared machine is slow at times, which is no fault of what is tested.
settings.register_profile(
    "linklab", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("linklab")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `invoke faults` ask for its table."""
    parser.addoption("--fault-table", metavar="FILE", help="write what came of each fault here")


@pytest.fixture(scope="session")
def agent_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent as it goes into an image: static, built with musl."""
    cache = Cache(tmp_path_factory.mktemp("agent-cache"))
    return build_agent(cache, ignore).file(PROGRAM)


@pytest.fixture
def network_box(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    """An agent in a network namespace of its own."""
    from agentbox import agent_in_a_box

    with agent_in_a_box(agent_program, tmp_path, network=True) as running:
        yield running


@pytest.fixture(scope="session")
def link_kind(agent_program: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A kind of link that this host's kernel can make: dummy, or whatever is nearest."""
    from agentbox import agent_in_a_box, can_make

    folder = tmp_path_factory.mktemp("kind")
    for kind in ("dummy", "ifb", "bridge"):
        with agent_in_a_box(agent_program, folder, network=True) as running:
            if can_make(running, kind):
                return kind
    pytest.skip("this host's kernel makes no dummy, ifb or bridge")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A fake QEMU. A console of a test has said all that it will after a shorter silence."""
    from stage import Stage

    monkeypatch.setattr("linklab.lab.attribution.SETTLE_QUIET", 0.1)
    monkeypatch.setattr("linklab.lab.stuck._KERNEL_LIMIT", 0.5)
    return Stage(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience with an end that never comes. Not for those that wait for one."""
    monkeypatch.setattr("linklab.lab.attribution.SETTLE_LIMIT", 0.5)
    monkeypatch.setattr("linklab.lab.session._POWER_OFF_LIMIT", 0.5)


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Drop root's power over files, and yield a folder that nobody in particular owns.

    Root may write where no mode allows it, so a test of permissions needs
    somebody else. For anyone but root it changes nothing.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() != 0:
            yield folder
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)


@pytest.fixture
def common_folder() -> Iterator[Path]:
    """A folder of a user without privileges, who is who the test runs as."""
    with unprivileged() as folder:
        yield folder


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """A scheduler, and workers that a test starts."""
    from fleet_workers import running

    known = Cache().root  # what was found out about this host is still true
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    with running(tmp_path, known) as made:
        yield made


@pytest.fixture
def taken(workers: Workers, tmp_path: Path) -> Taken:
    """What will come of a batch on these workers."""
    from fleet_workers import Taken

    (tmp_path / "run").mkdir()
    return Taken(workers, tmp_path / "run")
