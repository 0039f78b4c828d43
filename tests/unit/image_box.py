"""What the tests of images share: a small image's folder, and a reader of cpio archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SMALL_MANIFEST = """
programs = []
[agent]
path = "/bin/linklab-agent"
[init]
port = "ttyS1"
[files]
"/etc/a file" = "a file"
[templates]
"/init" = { template = "hello", mode = "0755" }
[directories]
"/tmp" = "1777"
[devices]
"/dev/null" = { mode = "0666", major = 1, minor = 3 }
"""


def small_image(folder: Path) -> Path:
    """Fill a folder with an image that needs no program of the host."""
    folder.mkdir()
    (folder / "manifest.toml").write_text(SMALL_MANIFEST)
    (folder / "a file").write_text("of the image\n")
    return folder


@dataclass(frozen=True)
class Member:
    """One header of a "newc" archive, as the kernel's buffer-format.rst describes it."""

    inode: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    device: tuple[int, int]
    node: tuple[int, int]
    content: bytes


def read_cpio(data: bytes) -> dict[str, Member]:
    """Return the members of an archive by their names, in its order."""
    members: dict[str, Member] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        ino, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, length, _ = fields
        name = data[at + 110 : at + 109 + length].decode()
        body = _padded(at + 110 + length)
        if name == "TRAILER!!!":
            return members
        content = data[body : body + size]
        member = Member(
            ino, mode, uid, gid, links, mtime, (major, minor), (rmajor, rminor), content
        )
        members["/" + name.removeprefix("./").rstrip("/")] = member
        at = _padded(body + size)


def _padded(offset: int) -> int:
    return -(-offset // 4) * 4
