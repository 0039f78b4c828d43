"""What the tests of real guests share, apart from fixtures."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.agent.client import Agent

INVOKE = str(Path(sys.executable).with_name("invoke"))
LIMIT = 60.0  # s; a guest that takes longer for anything here is broken


def soon(seconds: float = LIMIT) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def never_ends(agent: Agent, due: float, first: str = "true") -> None:
    """Run a program that waits for ever, in any clock, once it has done something else."""
    agent.run(["/bin/sh", "-c", f"{first}; mkfifo /tmp/never; cat /tmp/never"], due)


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
Opener = Callable[..., Any]


_MAGIC = {"microseconds": 0xA1B2C3D4, "nanoseconds": 0xA1B23C4D}


def packets_of(capture: Path, parts: str = "microseconds") -> list[bytes]:
    """The packets of a file as pcap-savefile(5) has them: what they say of their lengths holds."""
    content = capture.read_bytes()
    magic, major, minor, _, _, _, kind = struct.unpack_from("<IHHiIII", content)
    assert (magic, major, minor, kind) == (_MAGIC[parts], 2, 4, 1), "Ethernet"
    at, before, packets = 24, (0, 0), []
    while at < len(content):
        seconds, fraction, length, whole = struct.unpack_from("<IIII", content, at)
        assert length == whole
        assert (seconds, fraction) >= before
        at, before = at + 16 + length, (seconds, fraction)
        packets.append(content[at - length : at])
    assert at == len(content)
    return packets
