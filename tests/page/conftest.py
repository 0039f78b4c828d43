"""What the tests of the page in a browser share: runs, their pages, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser, find
from hand_made import PAPER_COUNTS, both_arms, created, run_of, sample, sample_in

from linklab.commands.history import with_claims
from linklab.report.page import page
from linklab.results.codec import to_json
from linklab.results.model import Run
from linklab.results.outcomes import Status
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.selftests.record import Attempt, TestRecord

ARMS = ("group", "netlink", "batch", "process", "dump")
LONG = "/home/somebody/src/linux-next/arch/x86/boot/bzImage"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.page)


def common() -> Run:
    """The run that people make most: both kernels, both arms."""
    growing = dict(zip(PAPER_COUNTS, (50.0, 90.0, 200.0, 310.0, 520.0), strict=True))
    samples = [s for k in ("nosysfs", "sysfs") for s in both_arms(k, growing)]
    samples += [created(k, count, 0.5) for k in ("nosysfs", "sysfs") for count in PAPER_COUNTS]
    options = {"kernel": "nosysfs,sysfs", "counts": ",".join(map(str, PAPER_COUNTS))}
    about: dict[str, Any] = {"verdict": "pass", "options": options}
    return with_claims(run_of(["sysfs", "nosysfs"], samples, [0.6], 5_150_000, **about))


def everything() -> Run:
    """A run with all that can be wide: arms, trials, long names, operations, what went wrong."""
    samples = [
        sample(kernel, arm, count, (a + 1) * count / 1000 * trial, operation=operation, trial=trial)
        for operation in ("mtu", "up")
        for kernel in ("sysfs", LONG)
        for a, arm in enumerate(ARMS)
        for count in (*PAPER_COUNTS, 32768)
        for trial in (1, 2, 3)
    ]
    samples.append(sample("sysfs", "group", 4096, 1.0, verified=False))
    message = f"kernel {LONG}: " + "a_symbol_that_has_no_place_to_break" * 5
    options = {"kernel": f"sysfs,{LONG}", "patch": [LONG + ".patch"] * 3}
    about: dict[str, Any] = {"verdict": "fail", "message": message, "options": options}
    return with_claims(run_of(["sysfs", LONG], samples, **about))


def another() -> Run:
    """A run of another experiment: linear axes that begin at 0, a rate, and what was lost."""
    shape = Shape(
        axes=(Axis("mode", among=("plain", "fast")), Axis("size", title="bytes", log=False)),
        metrics=(
            Metric("goodput", "Mbit/s", Better.MORE, zero=True, title="goodput, Mbit/s"),
            Metric("loss", "%", zero=True),
        ),
        rows="size",
        columns="mode",
        versus=("fast", "plain"),
    )
    samples = [
        sample_in("k", Cell({"mode": mode, "size": size}),
                  {"goodput": factor * size * (1 + trial / 100), "loss": trial / 4}, trial=trial)
        for factor, mode in enumerate(("plain", "fast"), 1)
        for size in (0, 64, 512, 1500, 9000)
        for trial in (1, 2, 3)
    ]  # fmt: skip
    return run_of(["k"], samples, scenario="another", verdict="pass", shape=shape.to_json())


def swept() -> Run:
    """A sweep of two metrics over topologies and a number, with checks, in small plots."""
    topologies = ("a -- r -- b: clean | 10mbit 20ms", "a == b: 10mbit 20ms | 3mbit 5ms 1%")
    shape = Shape(
        axes=(
            Axis("topology", topologies, among=topologies, per_guest=True, parameter="topology"),
            Axis("flows", (1, 16), per_guest=True, parameter="flows"),
            Axis("arm", ("bbr", "cubic"), among=("bbr", "cubic")),
            Axis("loss", (0, 1, 5), "% lost", log=False),
        ),
        metrics=(Metric("goodput", "Mbit/s", Better.MORE), Metric("rtt", "s")),
        rows="loss",
        columns="arm",
    )
    cells = [
        Cell({"topology": topology, "flows": flows, "arm": arm, "loss": loss})
        for topology in topologies
        for flows in (1, 16)
        for arm in ("bbr", "cubic")
        for loss in (0, 1, 5)
    ]
    samples = [
        sample_in(kernel, cell, {"goodput": 9.5 / (1 + number % 7) + trial / 9, "rtt": trial / 25},
                  trial=trial)
        for kernel in ("sysfs", LONG)
        for number, cell in enumerate(cells)
        for trial in (1, 2)
    ]  # fmt: skip
    checks = [
        {"metric": "goodput", "at_least": 9.0, "where": {"arm": ["bbr"]}},
        {"metric": "rtt", "at_most": 2.0, "against": {"kernel": "sysfs"}},
    ]
    about: dict[str, Any] = {
        "kind": "sweep",
        "scenario": "congestion",
        "verdict": "fail",
        "shape": shape.to_json(),
        "plan": {"cells": [list(cell.values()) for cell in cells]},
        "sweep": {"metrics": ["goodput", "rtt"], "checks": checks},
    }
    return run_of(["sysfs", LONG], samples, **about)


def tested() -> Run:
    """A run of self-tests, which has a printed table instead of plots."""
    attempt = Attempt(Status.FAIL, "a reason " * 20, 2.0, 60.0, 1, "out.txt", "console.log")
    tests = [to_json(TestRecord(f"net/{'long_' * 15}name", LONG, (attempt,)))]
    about: dict[str, Any] = {"kind": "selftest", "scenario": "selftest", "tests": tests}
    return run_of([LONG], verdict="fail", limit=60, **about)


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk, by name."""
    folder = tmp_path_factory.mktemp("pages")
    content = {
        "common": page([(Path("common"), common())]),
        "everything": page([(Path("everything"), everything())]),
        "comparison": page([(Path(name), everything()) for name in ("before", "after", "later")]),
        "self-tests": page([(Path("self-tests"), tested())]),
        "another": page([(Path("another"), another())]),
        "sweep": page([(Path("sweep"), swept())]),
        "empty": page([(Path("empty"), with_claims(run_of(["sysfs"])))]),
    }
    for name, text in content.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in content}


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser's window; without a browser these tests are skipped."""
    program = find()
    if program is None:
        pytest.skip("there is no Chromium here: Debian's chromium-headless-shell is one")
    with browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found
