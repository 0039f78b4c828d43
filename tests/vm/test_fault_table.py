"""Each fault of the catalogue happens, and the lab says of it what it must, in time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_table import OPTION, Row, write_table
from faults import GRACE, Fault, Scene
from kernel_faults import ORDERED_FAULTS, STOCK_FAULTS
from lab_faults import LAB_FAULTS
from leak_faults import LEAKS, Leak
from network_faults import NETWORK_FAULTS, driver_missing

from linklab.commands.kernels import KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import Verdict
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.kernel.series import read_series
from linklab.lab.lab import MINIMUM_MEMORY, Lab, Subject
from linklab.lab.spaces import NETWORKS
from linklab.machine.spec import Boot, Clock
from linklab.trials.subjects import Requirements, subject_of

pytestmark = pytest.mark.vm

_TURNS = 3
_DEBUG_MEMORY = 512  # MiB; KASAN takes an eighth of it, and what it keeps back


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """What came of each fault; written as a table at the end, where one was asked for."""
    found: list[Row] = []
    yield found
    if where := request.config.getoption(OPTION, default=None):
        write_table(found, Path(where))


@pytest.fixture(scope="module", params=[Clock.REAL, Clock.VIRTUAL])
def timed(request: pytest.FixtureRequest, cache: Cache) -> Lab:
    """A lab of small machines that boot directly, in each clock."""
    options = MachineOptions(accel="tcg", clock=request.param)
    return set_up_lab(options, MINIMUM_MEMORY, cache, ignore)


@pytest.fixture(scope="module")
def networks(cache: Cache) -> tuple[Lab, Subject]:
    """A lab in real time, whose image and kernel have what hosts need that are guests."""
    options = MachineOptions(accel="tcg", clock=Clock.REAL)
    lab = set_up_lab(options, MINIMUM_MEMORY, cache, ignore, NETWORKS)
    fragments = tuple(str(NETWORKS / name) for name in ("kernel.config", "nics.config"))
    kernels = KernelOptions("nosysfs", needed=fragments)
    (subject,) = prepare_subjects(kernels, Requirements(lab.boot, image=NETWORKS), cache, ignore)
    return lab, subject


@pytest.fixture(scope="module")
def debug(timed: Lab, debug_kernel: Subject, cache: Cache) -> Lab:
    """A lab whose guests go on from one with the debug flavour, saved when it was ready."""
    larger = replace(timed, memory=_DEBUG_MEMORY, boot=Boot.RESUME)
    return larger.with_snapshots([debug_kernel], cache, ignore)


def _judge(fault: Fault, scene: Scene, rows: list[Row]) -> None:
    """Let a fault happen. The verdict must be right each time, and once in time.

    A host that is busy with other things delays a verdict, also beyond the time for
    which it had no CPU for the guest; a lab that is late by itself is late whenever
    it is tried.
    """
    clock = scene.lab.clock
    if clock not in fault.clocks:
        pytest.skip(f"it cannot happen in {clock} time")
    for turn in range(_TURNS):
        folder = scene.folder / f"turn-{turn}"
        folder.mkdir()
        played = replace(scene, folder=folder)
        outcome = fault.play(played)
        assert outcome.verdict is not Verdict.PASS
        assert outcome.verdict is fault.expected, outcome.message
        assert re.search(fault.says, outcome.message)
        if outcome.seconds <= played.due + GRACE:
            break
    rows.append(Row(fault, scene.subject.name, clock.value, outcome))
    assert outcome.seconds <= played.due + GRACE


@pytest.mark.parametrize("fault", (*LAB_FAULTS, driver_missing), ids=lambda fault: fault.name)
def test_fault_of_the_lab(
    fault: Fault, timed: Lab, subjects: dict[str, Subject], tmp_path: Path, rows: list[Row]
) -> None:
    _judge(fault, Scene(timed, subjects["nosysfs"], tmp_path, fault.limit), rows)


@pytest.mark.parametrize("fault", NETWORK_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_a_network_of_guests(
    fault: Fault, networks: tuple[Lab, Subject], tmp_path: Path, rows: list[Row]
) -> None:
    lab, subject = networks
    _judge(fault, Scene(lab, subject, tmp_path, fault.limit), rows)


@pytest.mark.parametrize("fault", STOCK_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_the_kernel(
    fault: Fault, timed: Lab, subjects: dict[str, Subject], tmp_path: Path, rows: list[Row]
) -> None:
    _judge(fault, Scene(timed, subjects["nosysfs"], tmp_path, fault.limit), rows)


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.fault.name)
def test_fault_of_a_kernel_that_leaks(
    leak: Leak, timed: Lab, cache: Cache, tmp_path: Path, rows: list[Row]
) -> None:
    patched = BuildOptions(patches=read_series([leak.patch]).patches)
    subject = subject_of(resolve_kernel("nosysfs", patched, cache, ignore), cache, ignore)
    _judge(leak.fault, Scene(timed, subject, tmp_path, leak.fault.limit), rows)


@pytest.mark.parametrize("fault", ORDERED_FAULTS, ids=lambda fault: fault.name)
def test_fault_that_the_kernel_is_ordered_to_make(
    fault: Fault, debug: Lab, debug_kernel: Subject, tmp_path: Path, rows: list[Row]
) -> None:
    # Files and lines are evidence, and take a second or two behind the verdict.
    subject = replace(debug_kernel, symbols=None)
    _judge(fault, Scene(debug, subject, tmp_path, fault.limit), rows)
