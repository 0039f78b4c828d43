"""Guests that go on from a saved one: the same kernel, another time, other random numbers."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from guests import INVOKE, LIMIT, Invoke, soon

from linklab.events import Event, Note, ignore
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Session
from linklab.machine.spec import Boot
from linklab.paths import ROOT

pytestmark = pytest.mark.vm


@pytest.fixture
def own_cache(cache: Cache) -> Iterator[Cache]:
    """A cache for saved guests that a test may spoil, where the lab finds them."""
    with cache.scratch() as folder:
        yield Cache(folder)


@pytest.fixture
def resuming(lab: Lab, subjects: dict[str, Subject], own_cache: Cache) -> Lab:
    """A lab whose guests go on from saved ones."""
    resumed = replace(lab, boot=Boot.RESUME)
    return resumed.with_snapshots(list(subjects.values()), own_cache, ignore)


@pytest.fixture
def twins(
    real_lab: Lab, subjects: dict[str, Subject], own_cache: Cache, tmp_path: Path
) -> Iterator[dict[str, list[Session]]]:
    """Two guests of each kernel, all at once, in real time."""
    resumed = replace(real_lab, boot=Boot.RESUME)
    twofold = resumed.with_snapshots(list(subjects.values()), own_cache, ignore)
    with ExitStack() as stack:
        yield {
            name: [
                stack.enter_context(
                    twofold.session(subject, tmp_path / f"console-{name}-{number}.log")
                )
                for number in range(2)
            ]
            for name, subject in subjects.items()
        }


def test_several_go_on_from_the_same_guest_at_once(twins: dict[str, list[Session]]) -> None:
    for name, (one, other) in twins.items():
        saved = one.hello.nonce
        assert other.hello.nonce == saved
        assert one.agent.hello(soon()).nonce == saved, f"{name}: it was booted, not resumed"
        one.agent.write_file("/tmp/mine", b"one", soon())
        listing = other.agent.run(["/bin/ls", "/tmp"], soon())
        assert b"mine" not in listing.output, "what one writes the other must not see"


def test_each_draws_random_numbers_of_its_own(twins: dict[str, list[Session]]) -> None:
    drawn = [
        session.agent.read_file("/proc/sys/kernel/random/uuid", soon())
        for pair in twins.values()
        for session in pair
    ]
    assert len(set(drawn)) == len(drawn)


def test_the_clocks_go_on(twins: dict[str, list[Session]]) -> None:
    for pair in twins.values():
        for session in pair:
            before = time.time()
            told = int(session.agent.run(["/bin/date", "+%s"], soon()).output)
            assert int(before) <= told <= time.time()
            uptime = session.agent.hello(soon()).uptime
            assert uptime >= session.hello.uptime
            time.sleep(0.2)
            assert session.agent.hello(soon()).uptime >= uptime + 0.2


@pytest.mark.parametrize("what", ["ram", "state"])
@pytest.mark.parametrize("how", ["cut short", "altered"])
def test_a_saved_guest_that_is_not_whole_is_made_again(
    resuming: Lab,
    subjects: dict[str, Subject],
    own_cache: Cache,
    tmp_path: Path,
    what: str,
    how: str,
) -> None:
    subject = subjects["nosysfs"]
    file = resuming.snapshots[subject.name].folder.path / what
    if how == "cut short":
        os.truncate(file, file.stat().st_size // 2)
    else:
        with file.open("r+b") as opened:
            opened.seek(file.stat().st_size // 2)
            opened.write(b"not what was saved")
    events: list[Event] = []
    again = replace(resuming, snapshots={}).with_snapshots([subject], own_cache, events.append)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("thrown away, made again" in note for note in notes)
    with again.session(subject, tmp_path / "console.log") as session:
        assert session.agent.run(["/bin/ip", "link"], soon()).exit_code == 0


def test_another_machine_is_not_resumed_from_what_was_saved(
    resuming: Lab, subjects: dict[str, Subject], own_cache: Cache
) -> None:
    subject = subjects["nosysfs"]
    larger = replace(resuming, memory=320, snapshots={})
    other = larger.with_snapshots([subject], own_cache, ignore)
    assert other.snapshots[subject.name].folder != resuming.snapshots[subject.name].folder


def test_a_lab_that_was_killed_while_saving_leaves_nothing_that_is_taken_for_a_guest(
    lab: Lab, subjects: dict[str, Subject], own_cache: Cache, tmp_path: Path
) -> None:
    subject = subjects["nosysfs"]
    resumed = replace(lab, boot=Boot.RESUME)
    context = multiprocessing.get_context("fork")
    saving = context.Process(target=resumed.with_snapshots, args=([subject], own_cache, ignore))
    saving.start()
    deadline = soon()
    while not list(own_cache.root.rglob("ram")):
        assert saving.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    saving.kill()
    saving.join(LIMIT)
    assert saving.exitcode == -9
    again = resumed.with_snapshots([subject], own_cache, ignore)
    with again.session(subject, tmp_path / "console.log") as session:
        assert session.agent.run(["/bin/ip", "link"], soon()).exit_code == 0


def test_a_saved_guest_goes_on_after_its_host_was_suspended(invoke: Invoke, tmp_path: Path) -> None:
    """A time namespace stands for the suspension: its clocks are ahead of the saving host's."""
    words = ["run", "--kernel", "nosysfs", "--counts", "8", "--arms", "group", "--boot", "resume"]
    saved = invoke(*words, "--output", str(tmp_path / "before"))
    assert saved.status == 0, saved.stderr
    later = ["unshare", "--user", "--map-root-user", "--time"]
    later += ["--boottime", "86400", "--monotonic", "3600"]
    if subprocess.run([*later, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this host has no time namespaces for users")
    out = tmp_path / "after"
    resumed = subprocess.run(
        [*later, INVOKE, *words, "--output", str(out), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "save a guest" not in resumed.stderr, "it must go on from the guest of before"
    assert all(sample["verified"] for sample in json.loads(resumed.stdout)["samples"])
