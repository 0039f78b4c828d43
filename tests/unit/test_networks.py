"""The bench's networks, apart from the guests: words, figures, the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_lab import lab_of
from fake_tree import header
from rich.console import Console

from linklab.agent.replies import Measure, ProgramEnd
from linklab.bench.networks import (
    EXPERIMENTS,
    FRAGMENT,
    Experiment,
    Flow,
    Link,
    Published,
    Quantity,
    agreed,
    read_flow,
    run_all,
    table,
    verdict,
    words_for,
)
from linklab.commands import bench
from linklab.commands.bench import networked
from linklab.errors import LabError, UsageError
from linklab.events import ignore
from linklab.host.cache import Cached
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Clock
from linklab.options import made

LINK = Link(rate=10, delay=20, queue=1000, lost=10)
SLOW = Experiment(LINK, "bbr", 30, Published(Quantity.MEDIAN_RTT, 43))
SAID = b"rtt_samples 4\nrtt_sum_us 168002\nrtt_median_us 42000\nretransmitted 3\nbytes 35812500\n"
SUBJECT = Subject("sysfs", "6.12", "ab", Cached("kernel/ab/vmlinux"), known=True)


def flow(experiment: Experiment = SLOW, received: int = 35_812_500, median: int = 42_000) -> Flow:
    return Flow(experiment, received, 168_002, 4, median, 3, 2.5)


def test_what_the_guest_prints_gives_goodput_and_round_trip() -> None:
    read = read_flow(SLOW, SAID, 2.5)
    assert read == flow()
    assert (read.goodput, read.mean_rtt) == (9.55, 42.0005)
    figures = [read.figure(quantity) for quantity in Quantity]
    assert figures == pytest.approx([9.55, 95.5, 42.0])


@pytest.mark.parametrize(
    "said", [b"", SAID + b"bytes\n", SAID + b"bytes many\n", SAID.replace(b"samples 4", b"s 4")]
)
def test_figures_that_are_lacking_are_named_with_the_experiment(said: bytes) -> None:
    with pytest.raises(LabError, match=r"10 Mbit/s, 2 x 20 ms, limit 1000, 1 % lost, bbr: the"):
        read_flow(SLOW, said, 2.5)


def test_a_connection_that_sent_nothing_is_no_result() -> None:
    with pytest.raises(LabError, match="nothing was sent"):
        read_flow(SLOW, SAID.replace(b"samples 4", b"samples 0"), 2.5)


def test_the_guests_command_says_all_of_the_experiment() -> None:
    _script, *words = words_for(SLOW, seed=7)
    assert words == ["10", "20", "1000", "10", "7", "bbr", "30"]
    assert words_for(Experiment(Link(), "cubic", 3))[1] == "0"


def test_runs_that_agree_show_one_figure_and_all_of_it() -> None:
    assert agreed([954.0221441, 954.0221441], 3) == "954.022144"
    assert agreed([9.5, 9.5], 3) == "9.5"


def test_runs_that_differ_show_it_however_little() -> None:
    assert agreed([9.405, 9.4062], 3) == "9.405, 9.406"
    assert agreed([9.40500, 9.40501], 3) == "9.40500, 9.40501"


@pytest.mark.parametrize(
    ("medians", "word"),
    [((42_000, 47_000), ": reproduced"), ((42_000, 48_000), ": not reproduced")],
)
def test_a_published_figure_is_reproduced_when_every_run_is_near(
    medians: tuple[int, int], word: str
) -> None:
    said = verdict([flow(median=median) for median in medians])
    assert said.startswith("median RTT, ms: 43; here 42.00, 4")
    assert said.endswith(word)


def test_of_what_nobody_published_nothing_is_said() -> None:
    assert verdict([flow(replace(SLOW, published=None))]) == ""


def printed(lab: Lab) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(table(lab, SUBJECT, [[flow(), flow(received=35_812_501)], [flow()]]))
    return console.export_text()


def test_the_table_says_what_its_seconds_are_and_has_a_row_for_each_experiment() -> None:
    text = printed(replace(lab_of(), clock=Clock.VIRTUAL))
    assert text.startswith("virtual time")
    assert "kernel sysfs 6.12, QEMU 7.2.22" in text
    first, second = [line for line in text.splitlines() if " bbr " in line]
    assert "9.5500000, 9.5500003" in first
    assert "42.0005" in first
    assert "2.5, 2.5" in first
    assert " 9.55 " in second
    assert "within 10%" in text
    assert printed(lab_of()).startswith("TCG")


class OneGuest:
    """A lab whose guests all give the same answer."""

    slowness = 1.0

    def __init__(self, status: int = 0, output: bytes = SAID) -> None:
        end = ProgramEnd(int(not status), status << 8, Measure(1.0, 0, 0, 0, 1, 0), output)
        self.words: list[tuple[str, ...]] = []
        self._end = end

    @contextmanager
    def session(self, _subject: Subject, _log: Path) -> Iterator[Any]:
        def run(words: tuple[str, ...], _deadline: float) -> ProgramEnd:
            self.words.append(words)
            return self._end

        yield SimpleNamespace(agent=SimpleNamespace(run=run))


def test_every_experiment_runs_in_guests_of_its_own() -> None:
    lab: Any = OneGuest()
    groups = run_all(lab, SUBJECT, EXPERIMENTS, 2, ignore)
    assert [[f.experiment for f in group] for group in groups] == [[e, e] for e in EXPERIMENTS]
    assert lab.words == [words_for(e) for e in EXPERIMENTS for _ in range(2)]


def test_a_guest_that_cannot_says_why() -> None:
    lab: Any = OneGuest(1, b"traffic: veth: no such device\n")
    with pytest.raises(LabError, match="no figures came") as caught:
        run_all(lab, SUBJECT, [SLOW], 1, ignore)
    assert caught.value.evidence == "traffic: veth: no such device"


def test_a_flavour_gets_what_networks_need_and_another_kernel_is_as_it_is(tmp_path: Path) -> None:
    assert networked("nosysfs").configs == (str(FRAGMENT),)
    bzimage = tmp_path / "bzImage"
    bzimage.write_bytes(header())
    assert networked(str(bzimage)).configs == ()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"kernel": "sysfs,nosysfs"}, "one kernel"),
        ({"kernel": "no/such/kernel"}, "no/such/kernel"),
        ({"repeat": "0"}, "--repeat 0"),
        ({"clock": "sundial"}, "--clock sundial"),
        ({"vng": "bzImage"}, "--vng bzImage"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    options: dict[str, str], wanted: str
) -> None:
    with pytest.raises(UsageError, match=wanted):
        bench.main(made(bench.BenchOptions, {"networks": True, **options}))
