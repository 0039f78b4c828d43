"""A source tarball, read once into a repository.

The archive is streamed: unpacked by its own program, taken apart here, and
handed to `git fast-import`, so no file is written that is not kept.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, cast

from linklab.errors import LabError, UsageError
from linklab.events import Listener, StepAdvanced, step
from linklab.host.run import ending, start
from linklab.kernel.gitstore import GitStore, git_environment
from linklab.options import check_file

_BRANCH = "refs/heads/base"

_MEGA = 1 << 20

# The first bytes of a compressed file, and what unpacks it.
_UNPACKERS = (
    (b"\xfd7zXZ\0", ("xz", "-T0", "-dc")),
    (b"\x1f\x8b", ("gzip", "-dc")),
    (b"BZh", ("bzip2", "-dc")),
    (b"\x28\xb5\x2f\xfd", ("zstd", "-qdc")),
)
_USTAR_AT = 257
_END_MARK = 1024


def unpacker_of(path: Path) -> tuple[str, ...]:
    """Return the command that unpacks a tarball from its standard input.

    Raises `UsageError` when the file is no tarball that the lab can read.
    """
    check_file("--source", path)
    try:
        with path.open("rb") as file:
            head = file.read(_USTAR_AT + 5)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    for magic, command in _UNPACKERS:
        if head.startswith(magic):
            return command
    if head[_USTAR_AT:] == b"ustar":
        return ("cat",)
    raise UsageError(
        f"{path} is neither a folder nor a tarball (.tar, or packed with xz, gzip, bzip2, zstd)"
    )


def import_tarball(path: Path, store: GitStore, listener: Listener) -> str:
    """Read a tarball into the repository and return its tree, without its leading folder.

    Raises `UsageError` when the tarball is cut short or not one.
    """
    command = unpacker_of(path)
    size = path.stat().st_size
    name = f"read {path.name}"
    with path.open("rb") as file, step(listener, name, total=size // _MEGA), ExitStack() as started:

        def tell() -> None:
            # Both ends share one file position: how far the unpacker has read.
            done = os.lseek(file.fileno(), 0, os.SEEK_CUR) // _MEGA
            listener(StepAdvanced(name, done))

        pipe = subprocess.PIPE
        unpacker = started.enter_context(
            ending(start(command, stdin=file, stdout=pipe, stderr=pipe))
        )
        argv = ["git", "fast-import", "--quiet", "--depth=0", "--done"]
        env = git_environment(GIT_DIR=str(store.repository))
        importer = started.enter_context(
            ending(start(argv, cwd=store.repository, env=env, stdin=pipe, stderr=pipe))
        )
        assert unpacker.stdout is not None
        assert importer.stdin is not None
        fault = _transfer(unpacker.stdout, importer.stdin, tell)
        _finish(path, unpacker, importer, fault)
    return store.git(["rev-parse", f"{_BRANCH}^{{tree}}"]).text


class _Watched:
    """Remembers how a stream ends: tarfile takes one that was cut short at a header for whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tail = b"?"

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.tail = (self.tail + data)[-_END_MARK:]
        return data


def _transfer(archive: IO[bytes], feed: IO[bytes], tell: Callable[[], None]) -> Exception | None:
    """Pass every member on; return what stopped it, which the programs explain better."""
    try:
        watched = _Watched(archive)
        with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r|", bufsize=_MEGA) as tar:
            for count, piece in enumerate(_commands(tar)):
                feed.write(piece)
                if count % 1024 == 0:
                    tell()
        while watched.read(_MEGA):  # the padding: an unpacker that is not read to its end fails
            pass
        if watched.tail.strip(b"\0"):
            return EOFError("it lacks the two empty blocks that end a tarball")
        feed.write(b"done\n")
        feed.flush()
    except (tarfile.TarError, OSError, EOFError) as error:
        return error
    return None


def _commands(tar: tarfile.TarFile) -> Iterator[bytes]:
    """Yield one commit with all members, as git-fast-import(1) reads it."""
    yield b"commit %s\ncommitter linklab <> 0 +0000\ndata 0\n" % _BRANCH.encode()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it keeps all of them otherwise
        path = _quoted(_inside(member.name))
        if path == b'""':
            continue
        if member.isreg():
            content = tar.extractfile(member)
            assert content is not None
            yield from _blob(path, b"100755" if member.mode & 0o100 else b"100644", content.read())
        elif member.issym():
            yield from _blob(path, b"120000", os.fsencode(member.linkname))
        elif member.islnk():
            yield b"C %s %s\n" % (_quoted(_inside(member.linkname)), path)


def _blob(path: bytes, mode: bytes, data: bytes) -> Iterator[bytes]:
    yield b"M %s inline %s\ndata %d\n" % (mode, path, len(data))
    yield data
    yield b"\n"


def _inside(name: str) -> str:
    """Return a member's path without the leading folder, empty for that folder itself."""
    return name.removeprefix("./").partition("/")[2]


def _quoted(path: str) -> bytes:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"' + os.fsencode(escaped) + b'"'


def _finish(
    path: Path,
    unpacker: subprocess.Popen[bytes],
    importer: subprocess.Popen[bytes],
    fault: Exception | None,
) -> None:
    """Wait for both programs; raise for the first thing that went wrong.

    A fault of ours closes the pipes: whichever program caused it says why.
    """
    assert unpacker.stdout is not None
    assert unpacker.stderr is not None
    assert importer.stderr is not None
    unpacker.stdout.close()
    assert importer.stdin is not None
    with suppress(OSError):
        importer.stdin.close()
    unpack_says = unpacker.stderr.read().decode(errors="replace").strip()
    import_says = importer.stderr.read().decode(errors="replace").strip()
    unpacked, imported = unpacker.wait(), importer.wait()
    if isinstance(fault, BrokenPipeError) or (fault is None and imported != 0):
        raise LabError(f"git cannot store what is in {path}", import_says)
    if fault is not None or unpacked != 0:
        raise UsageError(f"{path} is cut short, or no tarball: {unpack_says or fault}") from fault
