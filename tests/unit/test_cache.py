"""The cache: what has a name is finished and whole, however many are at it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from linklab.errors import LabError
from linklab.events import Event, Note, ignore
from linklab.host import cache as cache_module
from linklab.host.cache import (
    MANIFEST,
    Artefact,
    Cache,
    cache_root,
    discard,
    fingerprint,
    key_of,
    locked,
)

KEY = "0123456789abcdef"
WHAT = "the thing"
fork = multiprocessing.get_context("fork")


def make(folder: Path) -> Mapping[str, Any]:
    (folder / "bzImage").write_bytes(b"kernel")
    (folder / "logs").mkdir()
    (folder / "logs" / "build.log").write_text("all is well\n")
    return {"inputs": {"compiler": "gcc 12"}}


def must_not_make(_folder: Path) -> Mapping[str, Any]:
    raise AssertionError("made again")


def get(cache: Cache, maker: Any = make, listener: Any = ignore) -> Artefact:
    return cache.get("kernel", KEY, maker, listener, WHAT)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def unfinished(cache: Cache) -> list[Path]:
    """What lies beside the artefacts and is none."""
    return [path for path in (cache.root / "kernel").iterdir() if path.name.startswith(".")]


class TestAnArtefact:
    def test_is_made_once(self, cache: Cache) -> None:
        made = get(cache)
        assert made.file("bzImage").read_bytes() == b"kernel"
        assert made.about["inputs"] == {"compiler": "gcc 12"}
        found = get(cache, must_not_make)
        assert (found.path, found.about) == (made.path, made.about)
        assert unfinished(cache) == []

    def test_is_found_by_who_does_not_make_it(self, cache: Cache) -> None:
        assert cache.find("kernel", KEY, ignore) is None
        get(cache)
        assert cache.find("kernel", KEY, ignore) is not None
        assert cache.find("kernel", "another", ignore) is None
        assert cache.find("iso", KEY, ignore) is None

    def test_tells_the_hashes_of_its_files(self, cache: Cache) -> None:
        hashes = get(cache).hashes
        assert set(hashes) == {"bzImage", "logs/build.log"}
        # echo all is well | sha256sum
        assert hashes["logs/build.log"] == (
            "d40b628baf7f757149f5b6d6d6aca317d478ef3a29433064d21cfdd06fb33b8d"
        )

    def test_may_be_read_by_everyone(self, cache: Cache) -> None:
        assert get(cache).path.stat().st_mode & 0o777 == 0o755

    def test_whose_making_fails_is_not_there(self, cache: Cache) -> None:
        def fail(folder: Path) -> Mapping[str, Any]:
            (folder / "half").write_text("half")
            raise LabError("does not compile")

        with pytest.raises(LabError, match="does not compile"):
            get(cache, fail)
        assert cache.find("kernel", KEY, ignore) is None
        assert unfinished(cache) == []
        get(cache)

    def test_whose_making_is_interrupted_is_not_there(self, cache: Cache) -> None:
        def interrupted(_folder: Path) -> Mapping[str, Any]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            get(cache, interrupted)
        assert unfinished(cache) == []

    def test_whose_maker_is_killed_is_not_there(self, cache: Cache) -> None:
        def killed(folder: Path) -> Mapping[str, Any]:
            make(folder)
            os.kill(os.getpid(), signal.SIGKILL)
            return {}

        process = fork.Process(target=get, args=(cache, killed))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert cache.find("kernel", KEY, ignore) is None
        assert get(cache).file("bzImage").read_bytes() == b"kernel"


def cut_short(path: Path) -> None:
    (path / "bzImage").write_bytes(b"ker")


def altered(path: Path) -> None:
    (path / "bzImage").write_bytes(b"KERNEL")


def without_a_file(path: Path) -> None:
    (path / "logs" / "build.log").unlink()


def without_a_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def with_a_manifest_of(text: str) -> Any:
    return lambda path: (path / MANIFEST).write_text(text)


@pytest.fixture(params=["new", "looked at before"])
def entry(cache: Cache, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An entry of the cache that is whole; nobody reads again what was read and not touched."""
    if request.param == "new":
        return get(cache).path
    monkeypatch.setattr(cache_module, "_TICK_NS", -1_000_000_000)
    path = [get(cache) for _ in range(2)][-1].path
    with monkeypatch.context() as patched:
        patched.delattr(cache_module, "fingerprint")
        get(cache, must_not_make)
    return path


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (cut_short, "has a bzImage of 3 bytes instead of 6"),
        (altered, "has a bzImage that was altered"),
        (without_a_file, "lacks logs/build.log"),
        (without_a_manifest, "has no manifest"),
        (with_a_manifest_of(""), "no readable manifest"),
        (with_a_manifest_of('{"files": {"bzImage": {"size": 6,'), "no readable manifest"),
        (with_a_manifest_of("{}"), "no readable manifest"),
        (with_a_manifest_of("[]"), "no readable manifest"),
        (with_a_manifest_of("null"), "no readable manifest"),
        (with_a_manifest_of('{"files": []}'), "no readable manifest"),
        (with_a_manifest_of('{"files": {"bzImage": {}}}'), "no readable manifest"),
        (with_a_manifest_of('{"files": {"bzImage": 6}}'), "no readable manifest"),
    ],
)
def test_an_entry_that_is_not_whole_is_thrown_away_and_made_again(
    cache: Cache, entry: Path, spoil: Any, fault: str
) -> None:
    spoil(entry)
    notes: list[Event] = []
    assert get(cache, make, notes.append).file("bzImage").read_bytes() == b"kernel"
    (note,) = notes
    assert isinstance(note, Note)
    assert fault in note.text and str(entry) in note.text
    get(cache, must_not_make)
    assert unfinished(cache) == []


def test_what_was_just_written_is_read_again(cache: Cache) -> None:
    """It may be written once more at what file systems take for the same time."""
    path = [get(cache) for _ in range(2)][-1].path
    altered(path)
    assert get(cache).file("bzImage").read_bytes() == b"kernel"
    assert not (cache.root / "whole").exists()


def test_an_entry_that_is_no_folder_is_thrown_away(cache: Cache) -> None:
    (cache.root / "kernel").mkdir(parents=True)
    (cache.root / "kernel" / KEY).write_text("a file")
    assert get(cache).file("bzImage").exists()


class TestTwoAtOnce:
    def test_share_one_build(self, cache: Cache, tmp_path: Path) -> None:
        def slow(folder: Path) -> Mapping[str, Any]:
            with (tmp_path / "made").open("a") as file:
                file.write("x")
            time.sleep(0.3)
            return make(folder)

        processes = [fork.Process(target=get, args=(cache, slow)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        assert (tmp_path / "made").read_text() == "x"

    def test_the_second_says_that_it_waits_and_takes_over_from_a_dead_one(
        self, cache: Cache, tmp_path: Path
    ) -> None:
        def endless(_folder: Path) -> Mapping[str, Any]:
            (tmp_path / "begun").touch()
            time.sleep(60)
            return {}

        first = fork.Process(target=get, args=(cache, endless), daemon=True)
        first.start()
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)

        def heard(event: Event) -> None:
            assert isinstance(event, Note)
            assert WHAT in event.text
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)

        assert get(cache, make, heard).file("bzImage").exists()
        first.join()

    def test_a_spoilt_entry_that_the_other_has_made_again_is_kept(self, cache: Cache) -> None:
        cut_short(get(cache).path)
        other = Cache(cache.root)
        looked = cache._look

        def look_and_be_overtaken(kind: str, key: str) -> Any:
            found = looked(kind, key)
            cache._look = looked  # type: ignore[method-assign]
            get(other)
            return found

        cache._look = look_and_be_overtaken  # type: ignore[method-assign]
        assert get(cache, must_not_make).file("bzImage").read_bytes() == b"kernel"

    def test_a_lock_that_nobody_gives_back_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_module, "_LOCK_WAIT", 0.1)
        with (tmp_path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with (
                pytest.raises(LabError, match="another run holds"),
                locked(tmp_path / "lock", ignore, WHAT),
            ):
                raise AssertionError("there were two")


class TestTheDisk:
    def test_that_is_full_is_told_and_leaves_nothing(self, cache: Cache) -> None:
        def fill(folder: Path) -> Mapping[str, Any]:
            (folder / "half").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(LabError, match=r"No space left on device.*LINKLAB_CACHE"):
            get(cache, fill)
        assert unfinished(cache) == []

    def test_that_cannot_be_written_is_told(self, common_folder: Path) -> None:
        common_folder.chmod(0o555)
        with pytest.raises(LabError, match=r"cannot be used: Permission denied"):
            get(Cache(common_folder / "cache"))
        common_folder.chmod(0o755)

    def test_an_entry_of_somebody_else_that_is_spoilt_is_told(self, common_folder: Path) -> None:
        cache = Cache(common_folder)
        cut_short(get(cache).path)
        (common_folder / "kernel").chmod(0o555)
        with pytest.raises(LabError, match=r"cannot be used: Permission denied"):
            get(cache)
        (common_folder / "kernel").chmod(0o755)

    def test_where_the_folder_should_be_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(LabError, match="cannot be used"):
            get(Cache(tmp_path / "cache"))


class TestAFileWithHoles:
    """A guest's memory: 64 MiB of which little is there. Its holes are not read."""

    SIZE = 64 << 20

    def sparse(self, path: Path, *pieces: tuple[int, bytes]) -> Path:
        with path.open("wb") as file:
            file.truncate(self.SIZE)
            for at, content in pieces:
                file.seek(at)
                file.write(content)
        if path.stat().st_blocks * 512 > self.SIZE // 2:
            pytest.skip("this file system knows no holes")
        return path

    def test_is_told_from_every_other(self, tmp_path: Path) -> None:
        far = 40 << 20
        files = [
            self.sparse(tmp_path / "one", (0, b"begin"), (far, b"end")),
            self.sparse(tmp_path / "byte", (0, b"begin"), (far, b"enD")),
            self.sparse(tmp_path / "place", (0, b"begin"), (far + (1 << 20), b"end")),
            self.sparse(tmp_path / "less", (0, b"begin")),
            self.sparse(tmp_path / "nothing"),
        ]
        assert len({fingerprint(path) for path in files}) == len(files)

    def test_is_itself_again(self, tmp_path: Path) -> None:
        one = self.sparse(tmp_path / "one", (5 << 20, b"x" * 9999))
        two = self.sparse(tmp_path / "two", (5 << 20, b"x" * 9999))
        assert fingerprint(one) == fingerprint(one) == fingerprint(two)

    def test_of_another_size_is_another(self, tmp_path: Path) -> None:
        path = self.sparse(tmp_path / "one", (0, b"begin"))
        before = fingerprint(path)
        os.truncate(path, self.SIZE + 4096)
        assert fingerprint(path) != before

    def test_without_holes_is_its_sha256(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_bytes(b"abc")
        assert fingerprint(tmp_path / "plain") == hashlib.sha256(b"abc").hexdigest()


class TestKeys:
    def test_are_the_same_for_the_same_inputs_in_any_order(self) -> None:
        assert key_of({"a": 1, "b": [1, {"c": 2, "d": 3}]}) == key_of(
            {"b": [1, {"d": 3, "c": 2}], "a": 1}
        )

    @pytest.mark.parametrize(
        "other", [{"a": 2}, {"a": "1"}, {"a": 1, "b": None}, {"b": 1}, {"a": [1]}, {}]
    )
    def test_differ_for_other_inputs(self, other: dict[str, Any]) -> None:
        assert key_of({"a": 1}) != key_of(other)

    def test_are_names_of_folders(self) -> None:
        assert key_of({"a": "/../x"}).isalnum()

    def test_take_only_what_json_can_express(self) -> None:
        with pytest.raises(TypeError):
            key_of({"path": Path("/x")})


class TestTheRoot:
    def test_is_what_the_user_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LINKLAB_CACHE", "/somewhere")
        assert cache_root() == Path("/somewhere")
        assert Cache().root == Path("/somewhere")

    def test_lies_in_the_users_cache_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LINKLAB_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        assert cache_root() == Path("/x/linklab")
        monkeypatch.setenv("HOME", "/home/u")
        monkeypatch.setenv("XDG_CACHE_HOME", "x/y")  # "should consider the path invalid"
        assert cache_root() == Path("/home/u/.cache/linklab")
        monkeypatch.setenv("LINKLAB_CACHE", "x")  # the compiler works in other folders
        assert cache_root() == Path.cwd() / "x"
        monkeypatch.delenv("LINKLAB_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", "/home/u")
        assert cache_root() == Path("/home/u/.cache/linklab")


def test_the_manifest_is_for_people_too(cache: Cache) -> None:
    about = json.loads(get(cache).file(MANIFEST).read_text())
    assert about["files"]["bzImage"]["size"] == 6


def test_discarding_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    discard(tmp_path / "nothing")
