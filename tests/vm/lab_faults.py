"""Faults of the lab's own parts and of its host: no kernel is to blame for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from faults import Fault, Outcome, Scene, fault
from guests import INVOKE, never_ends

from linklab.errors import Verdict
from linklab.host.cache import cache_root
from linklab.machine.spec import Clock, MachineType
from linklab.paths import ROOT

ERROR = Verdict.ERROR


@fault("the agent is killed", "`kill -9` in the guest", ERROR, "agent in the guest died")
def agent_killed(scene: Scene) -> None:
    with scene.guest() as session:
        never_ends(session.agent, scene.deadline(), first="kill -9 $PPID")


@fault("the agent is stopped", "`kill -STOP` in the guest", ERROR, "agent in the guest was stopped")
def agent_stopped(scene: Scene) -> None:
    with scene.guest() as session:
        never_ends(session.agent, scene.deadline(), first="kill -STOP $PPID")


# In virtual time the agent has a virtio port, which nobody else can open.
UART = (Clock.REAL,)


@fault("the agent babbles", "`/dev/urandom` on its port", ERROR, "babbles", 3.0, UART)
def agent_babbles(scene: Scene) -> None:
    with scene.guest(machine=MachineType.PC) as session:
        babble = "cat /dev/urandom >/dev/ttyS1"
        session.agent.run(["/bin/sh", "-c", babble], scene.deadline())


@fault("the agent babbles without a newline", "`/dev/zero` on its port", ERROR, "", 3.0, UART)
def agent_babbles_on(scene: Scene) -> None:
    with scene.guest(machine=MachineType.PC) as session:
        session.agent.run(["/bin/sh", "-c", "cat /dev/zero >/dev/ttyS1"], scene.deadline())


@fault("QEMU is killed", "SIGKILL", ERROR, "signal 9")
def qemu_killed(scene: Scene) -> None:
    with scene.guest() as session:
        due = scene.deadline()
        os.kill(session.machine.pid, signal.SIGKILL)
        never_ends(session.agent, due)


@fault("QEMU is told to end", "SIGTERM", ERROR, "told to end by a signal")
def qemu_told_to_end(scene: Scene) -> None:
    with scene.guest() as session:
        due = scene.deadline()
        os.kill(session.machine.pid, signal.SIGTERM)
        never_ends(session.agent, due)


@fault("QEMU is stopped", "SIGSTOP", ERROR, "is stopped", limit=2.0)
def qemu_stopped(scene: Scene) -> None:
    with scene.guest() as session:
        due = scene.deadline()
        os.kill(session.machine.pid, signal.SIGSTOP)
        session.agent.run(["/bin/ip", "link"], due)


@fault("the console's log cannot grow", "it is `/dev/full`", ERROR, "No space left", limit=20.0)
def log_full(scene: Scene) -> None:
    (scene.folder / "console.log").symlink_to("/dev/full")
    due = scene.deadline()
    with scene.guest() as session:
        never_ends(session.agent, due, first="echo a line >/dev/ttyS0")


@fault("the disk with the results is full", "a tmpfs of 32 KB", ERROR, "No space left", limit=30.0)
def results_full(scene: Scene) -> Outcome:
    results = scene.folder / "results"
    results.mkdir()
    words = ("--counts", "2", "--arms", "group", "--repeat", "1000", "--output", results / "run")
    return run_beside_full_disk(scene, results, "32k", *map(str, words))[0]


@fault("QEMU's disk is full", "a guest's memory on a tmpfs of 8 MB", ERROR, "signal 7", limit=30.0)
def memory_full(scene: Scene) -> Outcome:
    saved = cache_root() / "snapshot"
    saved.mkdir(parents=True, exist_ok=True)
    words = ("--counts", "4", "--boot", "resume", "--output", scene.folder / "run")
    return run_beside_full_disk(scene, saved, "8m", *map(str, words))[0]


def run_beside_full_disk(
    scene: Scene, where: Path, size: str, *words: str
) -> tuple[Outcome, dict[str, Any]]:
    """Type `invoke run` where a folder is a file system of its own, and a small one.

    Return what the lab made of it, and its document.
    """
    mount = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
    argv = [*_own_mounts(), "sh", "-c", mount, "sh", size, str(where)]
    scene.deadline()
    began = time.monotonic()
    done = subprocess.run(
        [*argv, INVOKE, "run", "--kernel", scene.subject.name, "--json", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scene.limit * 4,
        check=False,
    )
    seconds = time.monotonic() - began
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    about = document.get("run", document)
    verdict = Verdict(about["verdict"])
    assert verdict.status == done.returncode
    return Outcome(verdict, about["message"], seconds), document


def _own_mounts() -> list[str]:
    """Return the command that gives a program mounts of its own, or skip the test."""
    tried = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
    for words in tried:
        trial = [*words, "mount", "-t", "tmpfs", "x", "/mnt"]
        if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return words
    pytest.skip("this host allows nobody but root a mount of their own")


LAB_FAULTS: tuple[Fault, ...] = (
    agent_killed,
    agent_stopped,
    agent_babbles,
    agent_babbles_on,
    qemu_killed,
    qemu_told_to_end,
    qemu_stopped,
    log_full,
    results_full,
    memory_full,
)
