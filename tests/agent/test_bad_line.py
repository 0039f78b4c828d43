"""The host's side and the real agent over a line that loses, tears and doubles."""

from __future__ import annotations

import os
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agentbox import Box, agent_in_a_box, soon

from linklab.agent import exchange
from linklab.agent.client import Agent
from linklab.agent.line import AgentLine

pytestmark = pytest.mark.agent

Damage = Callable[[bytes], bytes]


def damage_like(chance: random.Random, often: float) -> Damage:
    """Damage lines now and then, in every way that a serial line knows."""

    def apply(line: bytes) -> bytes:
        if chance.random() >= often:
            return line
        at = chance.randrange(len(line))
        noise = b"[    1.000000] eth0: link becomes ready\r\n"
        return chance.choice(
            [
                b"",
                line[:at],
                line[at:],
                line[:at] + b"\n",
                line[:at] + bytes([line[at] ^ 1 << chance.randrange(8)]) + line[at + 1 :],
                line[:at] + line[at + 1 :],
                line[:at] + noise + line[at:],
                noise[:-2] + line,
                line + line,
                line[:-1],
            ]
        )

    return apply


def at_line(number: int, damage: Damage) -> Damage:
    """Damage the line with this number, counted from 0, alone."""
    seen = -1

    def apply(line: bytes) -> bytes:
        nonlocal seen
        seen += 1
        return damage(line) if seen == number else line

    return apply


@contextmanager
def over(box: Box, to_agent: Damage, from_agent: Damage) -> Iterator[Agent]:
    """An agent object on the far side of a bad line to a boxed agent."""
    ours, middle = socket.socketpair()
    ways = {middle: (box.socket, to_agent), box.socket: (middle, from_agent)}
    pending = dict.fromkeys(ways, b"")
    over = threading.Event()

    def carry() -> None:
        poller = select.poll()
        for end in ways:
            poller.register(end, select.POLLIN)
        ends = {end.fileno(): end for end in ways}
        while not over.is_set():
            for fd, _ in poller.poll(20):
                source = ends[fd]
                sink, damage = ways[source]
                *lines, pending[source] = (pending[source] + source.recv(1 << 16)).split(b"\n")
                sink.sendall(b"".join(damage(line + b"\n") for line in lines))

    carrier = threading.Thread(target=carry)
    carrier.start()
    try:
        yield Agent(AgentLine(ours))
    finally:
        over.set()
        carrier.join()
        ours.close()
        middle.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask sooner, so that a bad line costs milliseconds here instead of seconds."""
    monkeypatch.setattr(exchange, "FIRST_POKE", 0.05)
    monkeypatch.setattr(exchange, "TORN_POKE", 0.01)


@pytest.fixture
def box(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    with agent_in_a_box(agent_program, tmp_path) as running:
        yield running


@pytest.mark.parametrize("seed", range(6))
def test_every_request_is_done_once_and_every_reply_is_right(
    box: Box, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    damage = damage_like(chance, often=0.15)
    big = random.Random(seed).randbytes(30_000)
    (tmp_path / "big").write_bytes(big)
    with over(box, damage, damage) as agent:
        written = b""
        for number in range(8):
            words = b"%d " % number * chance.randrange(1, 4000)
            agent.write_file(str(tmp_path / "log"), words, soon(60), append=True)
            written += words
        assert agent.read_file(str(tmp_path / "big"), soon(60)) == big
        end = agent.run(["/bin/sh", "-c", f"echo x >> {tmp_path}/ran; seq 3000"], soon(60))
    assert (tmp_path / "log").read_bytes() == written
    assert (tmp_path / "ran").read_text() == "x\n"
    assert end.output.endswith(b"2999\n3000\n")


@pytest.mark.parametrize("number", [0, 1, 100, 135])
@pytest.mark.parametrize("damage", [lambda line: b"", lambda line: line[:100] + b"\n"])
def test_one_bad_part_of_a_very_long_request_costs_little(
    box: Box, tmp_path: Path, number: int, damage: Damage
) -> None:
    content = os.urandom(410_000)
    sent = 0

    def count(line: bytes) -> bytes:
        nonlocal sent
        sent += len(line)
        return damage_one(line)

    damage_one = at_line(number, damage)
    with over(box, count, lambda line: line) as agent:
        agent.write_file(str(tmp_path / "file"), content, soon(60))
    assert (tmp_path / "file").read_bytes() == content
    assert sent < 4 * len(content) * 4 // 3


def test_a_greeting_that_nobody_got_is_repeated(box: Box) -> None:
    with over(box, lambda line: line, at_line(0, lambda line: line[5:])) as agent:
        assert agent.wait_for_hello(soon()).nonce != 0
