"""What more than one group of tests needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from linklab.build.agentbuild import PROGRAM, build_agent
from linklab.events import ignore
from linklab.host.cache import Cache

NOBODY = 65534

# A shared machine is slow at times, which is no fault of what is tested.
settings.register_profile(
    "linklab", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("linklab")


@pytest.fixture(scope="session")
def agent_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent as it goes into an image: static, built with musl."""
    cache = Cache(tmp_path_factory.mktemp("agent-cache"))
    return build_agent(cache, ignore).file(PROGRAM)


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
