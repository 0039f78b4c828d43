"""Each fault of the catalogue happens, and the lab says of it what it must, in time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_table import OPTION, Row, write_table
from faults import GRACE, Fault, Scene
from kernel_faults import STOCK_FAULTS
from lab_faults import LAB_FAULTS

from linklab.errors import Verdict
from linklab.lab import Lab, Subject

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """What came of each fault; written as a table at the end, where one was asked for."""
    found: list[Row] = []
    yield found
    if where := request.config.getoption(OPTION, default=None):
        write_table(found, Path(where))


def _judge(fault: Fault, scene: Scene, rows: list[Row]) -> None:
    outcome = fault.play(scene)
    rows.append(Row(fault, scene.subject.name, outcome))
    assert outcome.verdict is not Verdict.PASS
    assert outcome.verdict is fault.expected, outcome.message
    assert re.search(fault.says, outcome.message)
    assert outcome.seconds <= fault.limit + GRACE


@pytest.mark.parametrize("fault", LAB_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_the_lab(
    fault: Fault, lab: Lab, subjects: dict[str, Subject], tmp_path: Path, rows: list[Row]
) -> None:
    _judge(fault, Scene(lab, subjects["nosysfs"], tmp_path, fault.limit), rows)


@pytest.mark.parametrize("fault", STOCK_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_the_kernel(
    fault: Fault, lab: Lab, subjects: dict[str, Subject], tmp_path: Path, rows: list[Row]
) -> None:
    _judge(fault, Scene(lab, subjects["nosysfs"], tmp_path, fault.limit), rows)
