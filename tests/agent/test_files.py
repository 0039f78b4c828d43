"""Files in the guest: read and written by the agent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentbox import Box, agent_in_a_box, soon

from linklab.errors import GuestIncomplete, LabError

pytestmark = pytest.mark.agent

OK, BAD_REQUEST, MISSING, REFUSED, SYSTEM = range(5)


@pytest.fixture(scope="module")
def box(agent_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One agent for all: an operation must leave nothing behind that the next one feels."""
    with agent_in_a_box(agent_program, tmp_path_factory.mktemp("agent")) as running:
        yield running


class TestReadFile:
    @pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1 << 20])
    def test_gives_its_content(self, box: Box, tmp_path: Path, size: int) -> None:
        content = os.urandom(size)
        (tmp_path / "file").write_bytes(content)
        assert box.agent.read_file(str(tmp_path / "file"), soon()) == content

    def test_gives_the_first_4_mib_of_it(self, box: Box, tmp_path: Path) -> None:
        content = os.urandom((4 << 20) + 5000)
        (tmp_path / "file").write_bytes(content)
        assert box.agent.read_file(str(tmp_path / "file"), soon()) == content[: 4 << 20]

    def test_that_has_no_size(self, box: Box) -> None:
        text = box.agent.read_file("/proc/version", soon())
        assert text == Path("/proc/version").read_bytes()

    def test_that_never_ends(self, box: Box) -> None:
        assert box.agent.read_file("/dev/zero", soon()) == bytes(4 << 20)

    def test_that_is_missing(self, box: Box) -> None:
        with pytest.raises(GuestIncomplete, match="/no/such/file: No such file"):
            box.agent.read_file("/no/such/file", soon())

    def test_that_is_a_folder(self, box: Box) -> None:
        with pytest.raises(LabError, match="Is a directory"):
            box.agent.read_file("/proc", soon())


class TestWriteFile:
    def test_makes_it(self, box: Box, tmp_path: Path) -> None:
        path = tmp_path / "file"
        box.agent.write_file(str(path), b"one\0two", soon())
        assert path.read_bytes() == b"one\0two"
        assert path.stat().st_mode & 0o111 == 0

    def test_replaces_it_and_leaves_its_mode(self, box: Box, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("something longer")
        path.chmod(0o640)
        box.agent.write_file(str(path), b"short", soon())
        assert path.read_bytes() == b"short"
        assert path.stat().st_mode & 0o777 == 0o640

    def test_sets_the_mode_that_is_asked_for(self, box: Box, tmp_path: Path) -> None:
        path = tmp_path / "file"
        for mode in (0o755, 0o600, 0o666):
            box.agent.write_file(str(path), b"", soon(), mode=mode)
            assert path.stat().st_mode & 0o777 == mode

    def test_appends(self, box: Box, tmp_path: Path) -> None:
        path = tmp_path / "file"
        for word in (b"one", b"two"):
            box.agent.write_file(str(path), word, soon(), append=True)
        assert path.read_bytes() == b"onetwo"

    def test_takes_much(self, box: Box, tmp_path: Path) -> None:
        content = os.urandom(1_000_000)
        box.agent.write_file(str(tmp_path / "file"), content, soon())
        assert (tmp_path / "file").read_bytes() == content

    def test_where_no_folder_is(self, box: Box) -> None:
        with pytest.raises(GuestIncomplete, match="/no/such/file: No such file"):
            box.agent.write_file("/no/such/file", b"", soon())

    def test_on_a_full_disk(self, box: Box) -> None:
        with pytest.raises(LabError, match="No space left"):
            box.agent.write_file("/dev/full", b"x", soon())
