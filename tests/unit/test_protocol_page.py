"""docs/protocol.md says what the code does."""

from __future__ import annotations

import re

import pytest

from linklab.agent import exchange, protocol
from linklab.agent.protocol import Frame, FrameKind, decode_line, encode_fields, encode_frame
from linklab.agent.replies import ReplyStatus
from linklab.lab import session
from linklab.machine.commandline import measuring_command_line
from linklab.paths import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()
AGENT = ROOT / "guest" / "agent"


def table_under(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = PAGE.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def constant(file: str, name: str) -> int:
    """A number that the agent's source defines."""
    found = re.search(rf"#define {name} (0x[0-9a-f]+|\d+)", (AGENT / file).read_text())
    assert found, f"{name} is not in {file}"
    return int(found[1], 0)


def test_it_describes_each_operation_in_the_agents_order() -> None:
    operations = re.findall(r'\{ "([a-z-]+)", op_', (AGENT / "ops.c").read_text())
    assert operations
    assert re.findall(r"^### ([a-z-]+)$", PAGE, re.MULTILINE) == operations


def test_its_example_lines_are_frames() -> None:
    lines = re.findall(r"^    (@LL1 [a-z] 0.*)$", PAGE, re.MULTILINE)
    frames = [decode_line(line.encode()) for line in lines]
    assert frames == [
        Frame(FrameKind.REQUEST, 42, payload=encode_fields(["read-file", "/proc/uptime"])),
        Frame(FrameKind.REPLY, 42, payload=encode_fields([0, b"12.84 10.21\n"])),
        Frame(FrameKind.POKE, 42),
        Frame(FrameKind.RESEND, 42, payload=protocol.encode_parts_list([1, 4])),
        Frame(FrameKind.UNKNOWN, 0),
    ]


def test_its_kinds_are_those_of_the_code() -> None:
    told = re.findall(r"^\| `([a-z])` ([a-z]+) \|", PAGE, re.MULTILINE)
    assert {(letter, name) for letter, name in told} == {
        (kind.value, kind.name.lower()) for kind in FrameKind
    }
    in_c = re.findall(r"FRAME_(\w+) = '(\w)'", (AGENT / "frame.h").read_text())
    assert {(letter, name.lower()) for name, letter in in_c} == set(told)


def test_its_outcomes_are_those_of_the_code() -> None:
    assert [int(row[0]) for row in table_under("## Outcomes")] == [int(o) for o in ReplyStatus]
    in_c = re.findall(r"^\tOP_(\w+),", (AGENT / "ops.h").read_text(), re.MULTILINE)
    assert in_c == [outcome.name for outcome in ReplyStatus]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (r"protocol\s+version (\d+)", protocol.PROTOCOL_VERSION),
        (r"protocol\s+version (\d+)", constant("ops.h", "PROTOCOL_VERSION")),
        (r"carries at most (\d+) bytes", protocol.PART_BYTES),
        (r"carries at most (\d+) bytes", constant("frame.h", "FRAME_PAYLOAD")),
        (r"has at most (\d+) parts", protocol.MAX_PARTS),
        (r"nothing for (\d+) s, no part", exchange.FIRST_POKE),
        (r"does so ([\d.]+) s later", exchange.TORN_POKE),
        (r"again, at most (\d+) times", exchange.MAX_REPEATS),
        (r"for at most ([\d.]+) s \|", exchange.DRAIN_LIMIT),
    ],
)
def test_its_figures_are_those_of_the_code(words: str, value: float) -> None:
    found = re.search(words, PAGE)
    assert found, words
    assert float(found[1]) == value


TURNS = PAGE.split("\n## Turns\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (r"writes (\d+) to I/O port", constant("turn.c", "STOP")),
        (r"I/O port (0x[0-9a-f]+),", constant("turn.c", "STOP_PORT")),
        (r"until (\d+) ms after", constant("turn.c", "AFTER_BEAT") / 1e6),
        (r"a multiple of ([\d.]+) s,", constant("agent.h", "REQUEST_BEAT") / 1e9),
        (r"times work, of (\d+) s:", constant("agent.h", "WORK_BEAT") / 1e9),
        (r"counts requests from (0x[0-9a-f]+)", session._FIRST_BOOTED),
        (r"guest from (0x[0-9a-f]+)", session._FIRST_RESUMED),
    ],
)
def test_its_figures_of_turns_are_those_of_the_code(words: str, value: float) -> None:
    found = re.search(words, " ".join(TURNS.split()))
    assert found, words
    number = int(found[1], 16) if found[1].startswith("0x") else float(found[1])
    assert number == value


def test_its_words_for_turns_are_those_of_the_code() -> None:
    sources = {path.name: path.read_text() for path in AGENT.glob("*.c")}
    assert "`linklab.turns`" in TURNS and '"linklab.turns"' in sources["main.c"]
    assert "linklab.turns" in measuring_command_line("vport0p1", 1, takes_turns=True)
    assert "`/dev/port`" in TURNS and '"/dev/port"' in sources["turn.c"]


def test_the_longest_line_is_as_long_as_it_says() -> None:
    longest = encode_frame(Frame(FrameKind.REPLY, 1, 0, 2, bytes(protocol.PART_BYTES)))
    told = re.search(r"at most (\d+) bytes long", PAGE)
    assert told and len(longest) == int(told[1])
