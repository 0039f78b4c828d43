"""The agent under the sanitizers: whatever it is asked, it touches only its own memory.

This one is built with gcc and glibc, which have AddressSanitizer and
UndefinedBehaviorSanitizer; either ends it at the first fault. What it is
asked is made up, so it runs without any rights.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentbox import HEADER_BYTES, Box, all_links, boxed, isolation, outcome_of, set_mtu
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.agent.protocol import (
    Field,
    Frame,
    FrameKind,
    encode_fields,
    encode_frame,
    encode_parts_list,
)
from linklab.host.run import run
from linklab.image.programs import SOURCES

pytestmark = pytest.mark.agent

FLAGS = ("-std=gnu11", "-g", "-O1", "-fno-omit-frame-pointer")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
NO_RIGHTS = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs")
SANITIZERS_ENV = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=99", "LSAN_OPTIONS": "exitcode=98"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A sanitized agent; that it ends as it should is the last test."""
    program = tmp_path_factory.mktemp("sanitized") / "linklab-agent"
    sources = sorted((*SOURCES.glob("*.c"), *(SOURCES.parent / "netlink").glob("*.c")))
    run(["gcc", *FLAGS, *SANITIZERS, "-o", program, *sources])
    for folder in (program.parent, *program.parents[1:3]):
        folder.chmod(0o755)  # for somebody without any rights
    prefix = (*(isolation() or ()), *(NO_RIGHTS if os.geteuid() == 0 else ()))
    with (program.parent / "stderr").open("w+b") as stderr:
        with boxed(
            [*prefix, program, "-"], cwd=Path("/"), env=SANITIZERS_ENV, stderr=stderr
        ) as running:
            yield running
            status = running.close()
        stderr.seek(0)
        report = stderr.read().decode()
    cannot_look = "LeakSanitizer has encountered a fatal error" in report
    assert status == 0 or cannot_look, f"status {status}:\n{report}"


numbers = st.one_of(
    st.integers(0, 5),
    st.sampled_from([15, 16, 17, 20, 32, 256, 257, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]),
)
words = st.text(st.sampled_from("/xyz{}\0é"), max_size=12)
anything = st.one_of(numbers, words, st.binary(max_size=40))


@st.composite
def netlink_messages(draw: st.DrawFn) -> bytes:
    """A request, whole or not: the kernel refuses what an agent without rights asks."""
    raw = bytearray(draw(st.sampled_from([set_mtu(1, 1400), all_links()])))
    if draw(st.booleans()):
        raw += draw(st.binary(max_size=20))
        struct.pack_into("<I", raw, 0, len(raw))
    if draw(st.booleans()):
        at = draw(st.integers(0, HEADER_BYTES - 1))
        raw[at] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)


small = st.integers(0, 3)
OPERATIONS: dict[str, st.SearchStrategy[list[Field]]] = {
    "hello": st.lists(anything, max_size=2),
    "run": st.tuples(numbers, words, words).map(list),
    "run-each": st.tuples(numbers, small, small, numbers, words, words).map(list),
    "netlink": st.tuples(numbers, netlink_messages(), netlink_messages()).map(list),
    "netlink-each": st.tuples(numbers, small, numbers, numbers, netlink_messages()).map(list),
    "dump": st.tuples(numbers, numbers, st.binary(max_size=7), netlink_messages()).map(list),
    "read-file": words.map(lambda word: [word]),
    "write-file": st.tuples(words, numbers, small, st.binary(max_size=20)).map(list),
    "listen": st.tuples(small, small, numbers).map(list),
    "notification-counts": st.just([]),
    "resume": st.tuples(numbers, st.binary(max_size=600)).map(list),
    "no-such": st.lists(anything),
}


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request's body: fields that fit an operation, fields that do not, or no fields."""
    name = draw(st.sampled_from(list(OPERATIONS)))
    fields = draw(st.one_of(OPERATIONS[name], st.lists(anything, max_size=6)))
    if name.endswith("each") and len(fields) > 1 and isinstance(fields[1], int):
        fields[1] %= 4  # it would do them all
    body = encode_fields([name, *fields])
    if draw(st.integers(0, 3)) == 0:
        cut = draw(st.integers(0, len(body)))
        body = body[:cut] + draw(st.binary(max_size=8)) + body[cut + draw(st.integers(0, 8)) :]
    return body.replace(b"power", b"tower")


@settings(max_examples=400)
@given(requests())
def test_every_request_is_answered(box: Box, body: bytes) -> None:
    assert 0 <= outcome_of(box.ask_raw(body)) <= 4


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Frames as they should not be."""
    frame = Frame(
        draw(st.sampled_from(FrameKind)),
        draw(st.integers(0, 3)),
        draw(st.sampled_from([0, 1, 2, 0xFFFF])),
        draw(st.sampled_from([0, 1, 2, 3, 0xFFFF])),
        draw(st.one_of(st.binary(max_size=30), st.just(encode_parts_list([0, 1, 0xFFFF])))),
    )
    line = encode_frame(frame)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(st.binary(max_size=5)) + line[at + draw(st.integers(0, 4)) :]
    return line


@settings(max_examples=200)
@given(st.lists(lines(), max_size=10))
def test_every_line_is_survived(box: Box, pieces: list[bytes]) -> None:
    box.send(b"".join(pieces) + b"\n")
    box.answers()


def test_long_bodies_are_kept_within_bounds(box: Box) -> None:
    assert outcome_of(box.ask("read-file", "/dev/zero")) == 0
    assert outcome_of(box.ask("write-file", "/dev/null", 0, 0, bytes(1_000_000))) == 0
    box.send(b"x" * 200_000 + b"\n")
    assert outcome_of(box.ask("run", 1, "/bin/true")) == 0
    assert outcome_of(box.ask("run-each", 0, 3, 1, 2, "/bin/echo", "{}" * 12)) == 0
