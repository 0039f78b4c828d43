"""What crosses links, written down: files as libpcap has them, a link each, beside a console's log.

Between guests QEMU writes them (`filter-dump`). Of namespaces a program in the guest does,
through a port of the guest's for each, so that all is there whatever becomes of it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from linklab.errors import LabError

_TRIED = 1 << 16  # bytes: more than is left in a block that is in use
_ROOM_TO_END = 1 << 19  # bytes for what a run still writes: its record, its table, its page
_PCAP_HEADER, _PACKET_HEADER = 24, 16


def capture_of(log: Path, link: int) -> Path:
    """Return where what crosses a link is written down, beside a console's log."""
    stem = log.stem.removeprefix("console-")
    return log.with_name(f"link-{stem}-{link + 1}.pcap")


def given_up(path: Path, why: str) -> LabError:
    """Return the error for a file that grows no more."""
    return LabError(
        f"what crosses a link cannot be written to {path}: {why}; what came until then is in it"
    )


def why_not_written(path: Path) -> str:
    """Return why nothing can be added to a file, in the system's words; nothing where it can.

    Nobody else may write to it meanwhile.
    """
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(bytes(_TRIED))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.truncate(path, size)
    return ""


def cut_to_packets(path: Path, room: int = _ROOM_TO_END) -> None:
    """Cut the last packet, of which a part was written, and `room` more: a run has to end there.

    The form is libpcap's: 24 bytes, then 16 before each packet, the third number of which
    is its length (pcap-savefile(5)).
    """
    size = path.stat().st_size
    most, end = max(size - room, size // 2), _PCAP_HEADER
    with path.open("rb") as file:
        file.seek(end)
        while len(head := file.read(_PACKET_HEADER)) == _PACKET_HEADER:
            behind = end + _PACKET_HEADER + int.from_bytes(head[8:12], sys.byteorder)
            if behind > most:
                break
            end = behind
            file.seek(end)
    os.truncate(path, min(end, size))


def check_room(paths: Sequence[Path]) -> None:
    """Raise `LabError` where what a guest itself writes down finds no room any more.

    QEMU tries again and again then and says nothing, and the guest's program waits.
    """
    for path in paths:
        if not _has_room(path):
            raise given_up(path, os.strerror(errno.ENOSPC))


def _has_room(path: Path) -> bool:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize >= _TRIED


@contextmanager
def whole_packets(paths: Sequence[Path]) -> Iterator[None]:
    """Leave whole packets in the files that a guest wrote, however it ended; none that is empty."""
    try:
        yield
    finally:
        for path in (path for path in paths if path.exists()):
            if path.stat().st_size <= _PCAP_HEADER:
                path.unlink()
            else:
                cut_to_packets(path, 0 if _has_room(path) else _ROOM_TO_END)
