"""The real agent as a process of this host, in a box.

The agent is made for a guest of its own, and one of its operations ends the
machine, another sets its clock, and where it takes turns it writes to an I/O
port. Here it runs in a network namespace of its own and without the right to do
any of these, so that a mistake in a test costs the test alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from linklab.agent.client import Agent
from linklab.agent.line import AgentLine
from linklab.agent.protocol import (
    Field,
    FieldReader,
    Frame,
    FrameKind,
    decode_line,
    encode_fields,
    encode_frame,
    split,
)
from linklab.agent.replies import MessageRun
from linklab.errors import RequestRefused
from linklab.host.run import CommandFailed, CommandMissing, run, start

ACK = NLM_F_REQUEST | NLM_F_ACK
CREATE = ACK | NLM_F_CREATE | NLM_F_EXCL
DUMP = NLM_F_REQUEST | NLM_F_DUMP

HEADER_BYTES = 16  # of a netlink message
IFINFOMSG = {"header": 16, "index": 4}  # how `dump` is told about links
INDEX_AT = HEADER_BYTES + 4

LOOPBACK = 1  # its index

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_GROUP = 1, 3, 4, 27
EVERYTHING = range(1, 256)

_HARMFUL = "-sys_boot,-sys_time,-sys_rawio"
HARMLESS = ("setpriv", f"--bounding-set={_HARMFUL}", f"--inh-caps={_HARMFUL}")


@cache
def _works(argv: tuple[str, ...]) -> bool:
    try:
        run([*argv, "true"], deadline=20)
    except (CommandFailed, CommandMissing):
        return False
    return True


def isolation() -> tuple[str, ...] | None:
    """What to put in front of the agent to give it a network of its own, if anything can."""
    own_network = (*HARMLESS, "unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    return own_network if _works(own_network) else None


def inside(pid: int) -> tuple[str, ...]:
    """What to put in front of a program to have it in the network of a boxed agent."""
    if os.geteuid() == 0:
        return (*HARMLESS, "nsenter", "-t", str(pid), "-n")
    return ("nsenter", "-t", str(pid), "-U", "-n", "--preserve-credentials")


def soon(seconds: float = 20.0) -> float:
    """A deadline that only something broken misses."""
    return time.monotonic() + seconds


class Box:
    """An agent on the other end of a socket, to be spoken to in frames, or in bytes."""

    def __init__(self, argv: Sequence[str | Path], **kwargs: Any) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = start(argv, stdin=theirs.fileno(), **kwargs)
        self.agent = Agent(AgentLine(self.socket))
        self._unread = b""
        self._seq = 1 << 16  # out of the way of `agent`'s own numbers

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self, seconds: float = 20.0) -> bytes | None:
        """The next line that the agent writes, or None when none comes in time."""
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                return None
            finally:
                self.socket.settimeout(None)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def frame(self, seconds: float = 20.0) -> Frame:
        """The next frame that is no greeting."""
        while True:
            line = self.line(seconds)
            assert line is not None, "the agent is silent"
            frame = decode_line(line)
            assert isinstance(frame, Frame), f"not a frame: {line!r}"
            if frame.kind is not FrameKind.HELLO:
                return frame

    def answers(self) -> list[Frame]:
        """All frames up to the answer to a question asked now."""
        self._seq += 1
        self.send(encode_frame(Frame(FrameKind.POKE, self._seq)))
        last = Frame(FrameKind.UNKNOWN, self._seq)
        frames = []
        while (frame := self.frame()) != last:
            frames.append(frame)
        return frames

    def ask(self, *fields: Field) -> list[bytes]:
        """Do one request and return the fields of its reply, the outcome first."""
        return self.ask_raw(encode_fields(fields))

    def ask_raw(self, body: bytes) -> list[bytes]:
        """As `ask`, with a body that need not be fields at all."""
        self._seq += 1
        for frame in split(FrameKind.REQUEST, self._seq, body):
            self.send(encode_frame(frame))
        parts = [self.frame()]
        while parts[-1].part + 1 < parts[-1].parts:
            parts.append(self.frame())
        assert {(part.kind, part.seq) for part in parts} == {(FrameKind.REPLY, self._seq)}
        reader = FieldReader(b"".join(part.payload for part in parts))
        return [reader.take_bytes() for _ in range(reader.left)]

    def close(self) -> int:
        """Close our end and return the status that the agent ends with."""
        self.socket.close()
        try:
            return self.process.wait(20)
        finally:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()


@contextmanager
def boxed(argv: Sequence[str | Path], **kwargs: Any) -> Iterator[Box]:
    box = Box(argv, **kwargs)
    try:
        yield box
    finally:
        with suppress(subprocess.TimeoutExpired):
            box.close()


@contextmanager
def agent_in_a_box(program: Path, cwd: Path, *, network: bool = False) -> Iterator[Box]:
    """Run the agent; with `network` in a network of its own, or not at all."""
    prefix = isolation()
    if network and prefix is None:
        pytest.skip("this host does not let us make a network namespace")
    if prefix is None:
        prefix = HARMLESS if os.geteuid() == 0 else ()
    with boxed([*prefix, program, "-"], cwd=cwd) as box:
        yield box


def link_message(kind: int, flags: int, *attrs: tuple[str, Any], **fields: int) -> bytes:
    """A message about a link, encoded by pyroute2."""
    message = ifinfmsg()
    message.update(fields)
    message["attrs"] = list(attrs)
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


def create_link(name: str, kind: str, *attrs: tuple[str, Any]) -> bytes:
    info = ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]})
    return link_message(RTM_NEWLINK, CREATE, ("IFLA_IFNAME", name), info, *attrs)


def set_mtu(index: int, mtu: int) -> bytes:
    return link_message(RTM_NEWLINK, ACK, ("IFLA_MTU", mtu), index=index)


def all_links() -> bytes:
    return link_message(RTM_GETLINK, DUMP)


def parsed(run_: MessageRun) -> dict[str, Any]:
    """A link as pyroute2 reads it: its index and its attributes by name."""
    message = ifinfmsg(run_.message)
    message.decode()
    return {"index": message["index"], **dict(message["attrs"])}


def links(box: Box, kept: Sequence[int]) -> list[tuple[int, dict[str, Any]]]:
    """All links of a box's network: the length of each run, and the first link of it."""
    runs = box.agent.dump(all_links(), kept, soon(), **IFINFOMSG)
    return [(run_.length, parsed(run_)) for run_ in runs]


def errno_of(reply: Sequence[bytes]) -> int:
    return int(struct.unpack("<Q", reply[1])[0])


def outcome_of(reply: Sequence[bytes]) -> int:
    return int(struct.unpack("<Q", reply[0])[0])


def can_make(box: Box, kind: str) -> bool:
    """Whether the kernel makes links of a kind."""
    try:
        box.agent.netlink([create_link("probe", kind)], soon())
    except RequestRefused:
        return False
    return True


def said_by_ip(box: Box) -> dict[str, dict[str, Any]]:
    """What `ip` says of the links of a box: somebody else's word for it."""
    output = box.agent.run([ip_program(), "-json", "link", "show"], soon()).output
    return {link["ifname"]: link for link in json.loads(output)}


def ip_program() -> str:
    """Where iproute2's `ip` is on this host."""
    ip = shutil.which("ip", path="/bin:/sbin:/usr/bin:/usr/sbin")
    assert ip, "iproute2 is not installed: `invoke setup` installs what is missing"
    return ip


def make_links(box: Box, kind: str, count: int, *, first: int = 0, width: int = 4) -> None:
    """Make links t0000, t0001, ..."""
    name = "t" + "0" * width
    request = create_link(name, kind)
    offset = request.index(name.encode()) + 1
    box.agent.netlink_each(request, first, count, offset=offset, width=width, deadline=soon())


def address_message(kind: int, flags: int, text: str | None = None) -> bytes:
    """A message about an IPv4 address of the loopback device."""
    message = ifaddrmsg()
    if text is not None:
        message.update({"index": LOOPBACK, "family": 2, "prefixlen": 32})
        message["attrs"] = [("IFA_LOCAL", text)]
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)
