"""Virtual time on real guests: figures depend on instructions, and on nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from guests import LIMIT, Invoke, soon

from linklab.errors import GuestHung
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Session
from linklab.machine.spec import Boot, MachineType
from linklab.paths import ROOT
from linklab.scenarios.grouping import Grouping

pytestmark = pytest.mark.vm

SAME = 0.002  # of a figure: more than chance leaves in virtual time
OPEN = 20
WATCHED = 5.0  # s
Figures = dict[tuple[str, str, str, int], list[float]]


@pytest.fixture
def session(virtual_lab: Lab, subjects: dict[str, Subject], tmp_path: Path) -> Iterator[Session]:
    with virtual_lab.session(subjects["nosysfs"], tmp_path / "console.log") as opened:
        yield opened


@contextmanager
def other_work() -> Iterator[None]:
    """Keep each of the host's CPUs busy with something else, twice over."""
    words = [sys.executable, "-c", "while True: pass"]
    with ExitStack() as stack:
        for _ in range(2 * len(os.sched_getaffinity(0))):
            stack.callback(stack.enter_context(subprocess.Popen(words)).kill)
        yield


# Figures


def figures_of(samples: list[dict[str, Any]]) -> Figures:
    """Return the seconds of each cell, in the order of its trials."""
    found: Figures = {}
    for sample in sorted(samples, key=lambda one: int(one["trial"])):
        assert sample["clock"] == "virtual"
        assert sample["verified"]
        cell = sample["kernel"], sample["operation"], sample["arm"], sample["interfaces"]
        found.setdefault(cell, []).append(sample["seconds"])
    return found


@pytest.mark.parametrize("boot", ["direct", "resume"])
def test_all_arms_take_the_same_twice_and_also_on_a_busy_host(
    invoke: Invoke, tmp_path: Path, boot: str
) -> None:
    words = [
        *("run", "--clock", "virtual", "--boot", boot, "--counts", "64", "--arms", "all"),
        *("--repeat", "3", "--fresh-guest", "--json"),  # none begins with what another one left
    ]
    quiet = invoke(*words, "--output", str(tmp_path / "quiet"))
    assert quiet.status == 0, quiet.stderr
    with other_work():
        busy = invoke(*words, "--output", str(tmp_path / "busy"))
    assert busy.status == 0, busy.stderr
    before, now = (figures_of(done.document["samples"]) for done in (quiet, busy))
    assert before.keys() == now.keys()
    assert {arm for _, operation, arm, _ in before if operation == "mtu"} == set(
        Grouping.shape.axis("arm").among
    )
    # Once in some thousand trials a kernel's own work falls into one.
    for cell, seconds in before.items():
        assert median(now[cell]) == pytest.approx(median(seconds), rel=SAME), cell


def test_one_guest_at_a_time_and_several_at_once_give_the_same(
    invoke: Invoke, tmp_path: Path
) -> None:
    words = ("run", "--clock", "virtual", "--counts", "32,64", "--json")
    found = []
    for jobs in ("1", "4"):
        done = invoke(*words, "--jobs", jobs, "--output", str(tmp_path / jobs))
        assert done.status == 0, done.stderr
        found.append(figures_of(done.document["samples"]))
    assert found[0].keys() == found[1].keys()
    for cell, seconds in found[0].items():
        assert found[1][cell] == pytest.approx(seconds, rel=SAME), cell


TABLE = "mtu: seconds in the guest"
CLOSE = 0.005  # of a figure of the README's, beside what its rounding to three digits takes


def readme() -> list[str]:
    """The lines of the result that the README shows, without what indents them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split("One result as it looks", 1)[1].partition("\n\n")[2]
    block = re.match(r"(?: {4}.*\n|\n)+", shown)
    assert block, "the README shows no result"
    return [line[4:] for line in block[0].splitlines()]


def rows_of(lines: list[str]) -> dict[int, list[str]]:
    """The seconds of each row of the table of an operation: of group and process, twice."""
    start = next(number for number, line in enumerate(lines) if line.startswith(TABLE))
    rows: dict[int, list[str]] = {}
    for line in lines[start + 1 :]:
        words = line.split()
        if len(words) == 7 and words[0].isdigit():
            rows[int(words[0])] = [word for word in words[1:] if not word.endswith("x")]
        elif rows:
            break
    return rows


def kernels_of(lines: list[str]) -> str:
    """What the second line says of the kernels; QEMU's version makes no difference there."""
    return lines[1].partition("kernels: ")[2]


def test_the_readmes_command_gives_the_readmes_figures(invoke: Invoke, tmp_path: Path) -> None:
    """On any host: where KVM runs guests the clock must be asked for."""
    done = invoke("run", "--clock", "virtual", "--output", str(tmp_path / "run"), timeout=1800)
    assert done.status == 0, done.stderr
    told, shown = readme(), (tmp_path / "run" / "table.txt").read_text().splitlines()
    assert shown[0] == told[0]
    if kernels_of(shown) != kernels_of(told):
        pytest.skip(f"the README's figures are of other kernels: {told[1]}, here {shown[1]}")
    lines = map(json.loads, (tmp_path / "run" / "samples.jsonl").read_text().splitlines())
    found = {(s["kernel"], s["arm"], s["interfaces"]): s["seconds"] for s in lines if s["trial"]}
    assert rows_of(shown).keys() == rows_of(told).keys() and len(rows_of(told)) == 5
    for count, words in rows_of(told).items():
        columns = product(("nosysfs", "sysfs"), ("group", "process"))
        for (kernel, arm), word in zip(columns, words, strict=True):
            rounding = 0.5 * 10.0 ** -len(word.partition(".")[2])
            seconds = found[kernel, arm, count]
            assert abs(seconds - float(word)) <= CLOSE * seconds + rounding, (kernel, arm, count)


# Waiting


def test_a_guest_that_sleeps_a_thousand_seconds_is_done_in_five(session: Session) -> None:
    began = time.monotonic()
    end = session.agent.run(["/bin/sleep", "1000"], soon())
    host = time.monotonic() - began
    assert end.exit_code == 0
    assert end.measure.seconds == pytest.approx(1000, rel=SAME)
    assert host < 5


def test_the_guests_own_clock_goes_on_by_what_it_slept(session: Session) -> None:
    before = session.agent.hello(soon()).uptime
    session.agent.run(["/bin/sleep", "100"], soon())
    passed = session.agent.hello(soon()).uptime - before
    assert 100 <= passed < 110


def test_time_stands_still_while_the_host_thinks(session: Session) -> None:
    one = session.agent.hello(soon()).uptime
    at_once = session.agent.hello(soon()).uptime - one
    time.sleep(2)
    later = session.agent.hello(soon()).uptime - one - at_once
    assert later == pytest.approx(at_once, abs=0.3)
    assert later < 1.9


@pytest.mark.parametrize("script", ["cat /tmp/never", "while :; do :; done"])
def test_a_guest_that_waits_or_works_for_ever_is_still_a_hang(
    virtual_lab: Lab, subjects: dict[str, Subject], tmp_path: Path, script: str
) -> None:
    limit, began = 3.0, 0.0
    with (
        pytest.raises(GuestHung, match="no answer to `run`"),
        virtual_lab.session(subjects["nosysfs"], tmp_path / "console.log") as session,
    ):
        began = time.monotonic()
        never = f"mkfifo /tmp/never; {script}"
        session.agent.run(["/bin/sh", "-c", never], soon(limit))
    assert limit <= time.monotonic() - began < LIMIT


def test_guests_that_wait_take_next_to_nothing_of_the_host(
    virtual_lab: Lab, subjects: dict[str, Subject], cache: Cache, tmp_path: Path
) -> None:
    subject = subjects["nosysfs"]
    lab = replace(virtual_lab, boot=Boot.RESUME).with_snapshots([subject], cache, ignore)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(lab.session(subject, tmp_path / f"console-{number}.log"))
            for number in range(OPEN)
        ]
        for session in opened:
            assert session.agent.run(["/bin/ip", "link"], soon()).exit_code == 0
            session.await_stop(LIMIT)
        pids = [session.machine.pid for session in opened]
        before = sum(map(cpu_seconds, pids))
        time.sleep(WATCHED)
        used = sum(map(cpu_seconds, pids)) - before
        assert used / WATCHED < 0.05, f"{OPEN} guests take {100 * used / WATCHED:.1f} % of a core"
        for session in opened:
            assert session.agent.run(["/bin/ip", "link"], soon()).exit_code == 0


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Comparing


def test_a_kernel_is_the_same_as_itself(invoke: Invoke, tmp_path: Path) -> None:
    words = ("compare", "nosysfs", "nosysfs", "--clock", "virtual", "--counts", "64")
    with other_work():
        done = invoke(*words, "--output", str(tmp_path / "out"), "--json")
    assert done.status == 0, done.stderr
    (result,) = done.document["run"]["comparison"]["results"]
    assert result["verdict"] == "same"
    assert result["ratio"] == pytest.approx(1, abs=SAME)


def test_half_a_per_cent_more_is_slower_and_the_kernel_itself_the_same(
    invoke: Invoke, tmp_path: Path
) -> None:
    words = ("calibrate", "--clock", "virtual", "--comparisons", "1", "--slowdown", "0.5")
    done = invoke(*words, "--output", str(tmp_path / "out"), "--json", timeout=1800)
    assert done.status == 0, done.stderr
    calibration = done.document["run"]["calibration"]
    assert [one["verdict"] for one in calibration["same"]] == ["same"]
    (slowed,) = calibration["slowed"]
    assert [one["verdict"] for one in slowed["comparisons"]] == ["slower"]
    assert slowed["measured"]["ratio"] == pytest.approx(1.005, abs=0.001)


# What a guest sees


@pytest.mark.parametrize("machine", list(MachineType))
@pytest.mark.parametrize("cpus", [1, 2])
def test_guests_have_the_clock_that_they_should_and_draw_other_numbers_where_they_are_to(
    virtual_lab: Lab, subjects: dict[str, Subject], tmp_path: Path, machine: MachineType, cpus: int
) -> None:
    lab = replace(virtual_lab, machine=machine, cpus=cpus)
    drawn = set()
    for draw in (1, 2):
        with lab.session(subjects["nosysfs"], tmp_path / f"console-{draw}.log", draw) as session:
            assert session.hello.cpus == cpus
            assert session.hello.clock_resolution == pytest.approx(1e-9)
            assert session.hello.clocksource.startswith("tsc")
            drawn.add(session.agent.read_file("/proc/sys/kernel/random/uuid", soon()))
    assert len(drawn) == 2


def test_two_guests_of_one_draw_are_ready_at_the_same_instant(
    virtual_lab: Lab, subjects: dict[str, Subject], tmp_path: Path
) -> None:
    ready = []
    for number in range(2):
        log = tmp_path / f"console-{number}.log"
        with virtual_lab.session(subjects["nosysfs"], log, 1) as session:
            ready.append(session.hello.uptime)
    assert ready[0] == ready[1]


def test_guests_that_go_on_from_one_begin_at_the_same_instant_and_draw_other_numbers(
    virtual_lab: Lab, subjects: dict[str, Subject], cache: Cache, tmp_path: Path
) -> None:
    subject = subjects["nosysfs"]
    lab = replace(virtual_lab, boot=Boot.RESUME).with_snapshots([subject], cache, ignore)
    drawn, told = [], []
    with ExitStack() as stack:
        for draw in (1, 2):
            log = tmp_path / f"console-{draw}.log"
            session = stack.enter_context(lab.session(subject, log, draw))
            drawn.append(session.agent.read_file("/proc/sys/kernel/random/uuid", soon()))
            told.append(session.agent.run(["/bin/date", "+%s"], soon()).output)
    assert drawn[0] != drawn[1]
    assert told[0] == told[1]


def test_a_guest_begins_in_2026_whatever_day_it_is(session: Session) -> None:
    assert session.agent.run(["/bin/date", "+%Y"], soon()).output == b"2026\n"
