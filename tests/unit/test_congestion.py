"""congestion without a guest: what it tells it, and what it makes of its figures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from fake_hosts import (
    BIN,
    MEGABIT,
    Guest,
    S,
    Tried,
    at_once,  # noqa: F401
    cell_of,
    claim_of,
    figures,
    given_to,
    receiver,
    run_of,
    sender,
)

from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import LabError, UsageError, WrongState
from linklab.lab.traces import mean_rate, trace_text, trace_word
from linklab.results.shape import Cell, Course
from linklab.scenarios.congestion import Congestion, waiting
from linklab.scenarios.scenario import Finding, Said

pytestmark = pytest.mark.usefixtures("at_once")


def test_a_connection_alone_has_all_and_what_arrives_later_does_not_count() -> None:
    guest = Guest(sender(), receiver([9 * MEGABIT], [BIN] * 100 + [99_999] * 3))
    tried = Tried(Congestion, guest, seconds=1)
    assert tried.trial(arm="bbr", loss=0.0) == {
        "goodput": 10.0, "rtt": 0.043, "rtt_p95": 0.05, "rtt_p99": 0.06,
        "retransmissions": 7, "fairness": 1.0, "share": 1.0, "converge": 0.9,
    }  # fmt: skip
    assert any(told.endswith("send tcp 10.0.2.3 5001 1 1 1 bbr") for told in guest.told)
    assert not any("shape" in told for told in guest.told), "the link stays as it was measured"


def test_whoever_competes_has_every_second_connection() -> None:
    guest = Guest(sender(4), receiver([300, 100, 300, 100], [BIN] * 100))
    tried = Tried(Congestion, guest, seconds=1)
    metrics = tried.trial(arm="cubic", flows=2, competitor="reno")
    assert (metrics["share"], metrics["goodput"]) == (0.75, 7.5)
    assert metrics["fairness"] == pytest.approx(0.8)
    assert any(told.endswith("5001 4 1 1 cubic,reno") for told in guest.told)


def test_the_slowest_link_loses_and_no_longer_when_the_cell_does_not_say_so() -> None:
    guest = Guest(sender(), receiver([1], [BIN]))
    tried = Tried(Congestion, guest, seconds=1, topology="a -- r -- b: 1gbit | 10mbit 20ms")
    tried.trial(arm="bbr", loss=1.0)
    tried.trial(arm="cubic", loss=1.0)
    tried.trial(arm="cubic", loss=0.0)
    shaped = [told.partition("shape ")[2] for told in guest.told if "shape" in told]
    assert shaped == [
        "b 10000000 20000000 1000 10000 1 0",
        "b 10000000 20000000 1000 0 2 0",
    ]
    assert all("link-2" in told for told in guest.told if "shape" in told)


def test_a_link_that_does_nothing_cannot_lose() -> None:
    tried = Tried(Congestion, Guest(), topology="a -- b")
    with pytest.raises(LabError, match="nothing shapes"):
        tried.trial(arm="bbr", loss=1.0)


@pytest.mark.parametrize(
    ("more", "said"), [({"wrong": 1}, "other bytes"), ({"bytes": [5]}, "5 arrived")]
)
def test_bytes_that_are_lost_or_changed_are_the_kernels_fault(
    more: dict[str, Any], said: str
) -> None:
    tried = Tried(Congestion, Guest(sender(), receiver([1], [BIN], **more)), seconds=1)
    with pytest.raises(WrongState, match=said):
        tried.trial(arm="bbr", loss=0.0)


def test_a_course_has_tenths_of_seconds_and_the_senders_window() -> None:
    more: dict[str, Any] = {"at": [S], "cwnd": [33], "rtt_us": [43_000], "pacing": [MEGABIT]}
    guest = Guest(sender(**more), receiver([1], [BIN] * 10 + [0] * 10))
    tried = Tried(Congestion, guest, seconds=1)
    tried.trial(arm="bbr", loss=0.0)
    assert tried.scenario.courses(Cell()) == [
        Course("goodput", "Mbit/s", (0.1, 0.2), (10.0, 0.0)),
        Course("rtt", "ms", (1.0,), (43.0,)),
        Course("cwnd", "packets", (1.0,), (33.0,)),
        Course("pacing", "Mbit/s", (1.0,), (1.0,)),
    ]


@pytest.mark.parametrize(
    ("bbr", "cubic", "finding"),
    [
        (0.0472, 1.09, Finding.REPRODUCED),
        (0.0474, 1.09, Finding.IN_PART),
        (0.043, 0.98, Finding.IN_PART),
        (0.049, 0.93, Finding.IN_PART),
        (0.1, 0.99, Finding.NOT_REPRODUCED),
    ],
)
def test_the_queue_is_judged_by_both_medians(bbr: float, cubic: float, finding: Finding) -> None:
    cells = {("bbr", 0.0): {"rtt": bbr}, ("cubic", 0.0): {"rtt": cubic}}
    claim = claim_of(Congestion, run_of(Congestion, cells), "queue")
    assert claim.finding is finding
    assert "43 ms" in claim.theirs and "1.09 s" in claim.theirs


@pytest.mark.parametrize(
    ("axes", "given"),
    [
        ({"flows": 2}, {}),
        ({"competitor": "reno"}, {}),
        ({"rate": 50.0}, {}),
        ({"ecn": "on"}, {}),
        ({}, {"topology": "a -- b: 10mbit 20ms"}),
        ({}, {"trace": "drive"}),
    ],
)
def test_the_queue_is_judged_under_bbrs_own_condition_alone(
    axes: dict[str, Any], given: dict[str, Any]
) -> None:
    cells = {("bbr", 0.0): {"rtt": 0.043}, ("cubic", 0.0): {"rtt": 1.09}}
    claim = claim_of(Congestion, run_of(Congestion, cells, axes, **given), "queue")
    assert claim.finding is Finding.NOT_MEASURED


@pytest.mark.parametrize(
    ("bbr", "cubic", "finding"),
    [
        (8.3, 5.0, Finding.REPRODUCED),
        (8.2, 2.0, Finding.NOT_REPRODUCED),
        (9.4, 5.1, Finding.NOT_REPRODUCED),
    ],
)
def test_random_loss_is_judged_by_the_links_rate(
    bbr: float, cubic: float, finding: Finding
) -> None:
    cells = {("bbr", 1.0): {"goodput": bbr}, ("cubic", 1.0): {"goodput": cubic}}
    assert claim_of(Congestion, run_of(Congestion, cells), "1 %").finding is finding
    claim = claim_of(Congestion, run_of(Congestion, cells, topology="a -- b"), "1 %")
    assert claim.finding is Finding.NOT_MEASURED


# links


def shaped(guest: Guest) -> list[str]:
    return [told.partition("shape ")[2] for told in guest.told if "shape" in told]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ({"rate": 50.0}, ["b 50000000 20000000 1000 0 1 0", "a 50000000 20000000 1000 0 1 0"]),
        ({"delay": 30.0}, ["b 10000000 15000000 1000 0 1 0", "a 10000000 15000000 1000 0 1 0"]),
        # One BDP of 10 Mbit/s and 40 ms are 33 frames, and 16 packets are under way.
        ({"buffer": 1.0}, ["b 10000000 20000000 49 0 1 0"]),
        ({"buffer": 0.001}, ["b 10000000 20000000 17 0 1 0"]),
        ({"ecn": "on"}, ["b 10000000 20000000 1000 0 1 0 0 0 0 0 242000"]),
        ({"flows": 3, "competitor": "reno"}, []),
    ],
)
def test_axes_change_the_slowest_link_and_leave_the_rest(
    cell: dict[str, Any], told: list[str]
) -> None:
    guest = Guest(sender(3), receiver([1] * 3, [BIN] * 100))
    tried = Tried(Congestion, guest)
    tried.scenario.prepare(tried.hosts, cell_of(Congestion, **cell))
    assert shaped(guest) == told


def test_answers_find_room_and_a_slower_way_back_stays() -> None:
    tried = Tried(Congestion, Guest(), topology="a -- b: 10mbit/1mbit 20ms")
    tried.scenario.prepare(tried.hosts, cell_of(Congestion, delay=10.0))
    assert shaped(tried.guest)[1] == "a 1000000 5000000 1000 0 1 0"
    tried.scenario.prepare(tried.hosts, cell_of(Congestion, rate=100.0))
    assert shaped(tried.guest)[3] == "a 100000000 20000000 1000 0 2 0"


def test_ecn_is_spoken_by_both_hosts_and_not_afterwards() -> None:
    tried = Tried(Congestion, Guest())
    for ecn in ("on", "off"):
        tried.scenario.prepare(tried.hosts, cell_of(Congestion, arm="dctcp", ecn=ecn))
    told = [each.partition("--net=/run/netns/")[2] for each in tried.guest.told if "ecn=" in each]
    assert [(each[0], each[-1]) for each in told] == [
        ("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"),
    ]  # fmt: skip


def test_buffers_of_hosts_grow_where_the_link_holds_more_than_they_do() -> None:
    tried = Tried(Congestion, Guest())
    tried.scenario.prepare(tried.hosts, cell_of(Congestion))
    assert not any("tcp_wmem" in each for each in tried.guest.told)
    tried.scenario.prepare(tried.hosts, cell_of(Congestion, rate=1000.0, delay=100.0))
    assert sum("tcp_wmem" in each for each in tried.guest.told) == 2


def test_a_guest_has_memory_for_what_its_link_holds_whoever_says_so() -> None:
    def needed(topology: str = str(Congestion.topology), **cell: Any) -> int:
        given = given_to(Congestion, topology=topology)
        return Congestion.memory(Cell({**given, **cell_of(Congestion, **cell)}), 1)

    assert needed() == 512
    by_axes = needed(rate=1000.0, delay=100.0, buffer=1.0)
    assert by_axes > 600
    assert needed("a -- b: 1gbit 50ms", buffer=1.0) == pytest.approx(by_axes, rel=0.05)
    assert needed("a -- b: 10mbit queue=100000") > 1000


def test_an_algorithm_that_the_kernel_lacks_is_refused_with_those_it_has() -> None:
    tried = Tried(Congestion, Guest())
    assert isinstance(tried.scenario, Congestion)
    tried.scenario.known = ["reno", "mine"]
    tried.scenario.prepare(tried.hosts, cell_of(Congestion, arm="mine"))
    with pytest.raises(LabError, match=r"arm=illinois: .* mine, reno; .* --module"):
        tried.scenario.prepare(tried.hosts, cell_of(Congestion, arm="illinois"))


@pytest.mark.parametrize(
    ("axis", "param", "says"),
    [
        ("flows=4", ("seconds=2", "interval=500"), r"of 4 connections begins after 1\.5 s"),
        ("competitor=reno", ("seconds=1", "interval=1"), "the last of 2 connections begins"),
        ("loss=1", ("topology=a -- b",), "nothing shapes the links"),
        ("ecn=on", ("trace=drive",), "marks nothing"),
        ("buffer=1", ("topology=a -- b: 20ms",), "has no rate"),
        ("arm=bbr", ("topology=a -- b: 1mbit queue=200000", "trace=drive"), "at most 100000"),
    ],
)
def test_what_cannot_be_is_refused_before_a_guest_starts(
    axis: str, param: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        ScenarioOptions("congestion", axis=(axis,), param=param).plan({})


# what is made of figures


def test_what_is_under_way_does_not_wait() -> None:
    """A packet each 10 ms over a link of 20 ms; from 30 ms on three are there, and one waits."""
    sent = Said(figures(
        queue_at=[n * 10_000_000 for n in range(8)],
        queue_waiting=[0, 1, 2, 3, 3, 3, 3, 3],
        queue_sent=[0, 0, 0, 1, 2, 3, 4, 5],
        queue_marked=[0] * 8,
    ))  # fmt: skip
    assert [count for _, count in waiting(sent, 20_000_000)] == [0, 0, 0, 1, 1, 1]
    assert [count for _, count in waiting(sent, 0)] == [0, 1, 2, 3, 3, 3, 3, 3]
    # Between two looks as many leave as in the part of the time.
    assert [count for _, count in waiting(sent, 15_000_000)][3] == pytest.approx(1.5)


def looked(count: int, marked: int = 0) -> dict[str, Any]:
    at = [n * 10_000_000 for n in range(100)]
    return {
        "queue_at": at, "queue_waiting": [count] * 100, "queue_sent": [0] * 100,
        "queue_marked": [0, *[marked] * 99],
    }  # fmt: skip


def test_a_queue_has_a_mean_a_quantile_marks_and_a_course() -> None:
    guest = Guest(sender(**looked(7, marked=5)), receiver([1], [BIN] * 100))
    metrics = Tried(Congestion, guest, seconds=1).trial(arm="bbr")
    assert (metrics["queue"], metrics["queue_p95"], metrics["marks"]) == (7, 7, 5)
    tried = Tried(Congestion, guest, seconds=1)
    tried.trial(arm="bbr")
    (queue,) = (c for c in tried.scenario.courses(Cell()) if c.quantity == "queue")
    assert len(queue.at) == 10 and set(queue.values) == {7}


def test_several_flows_are_bands_those_of_who_competes_by_themselves() -> None:
    told: dict[str, Any] = {
        f"band{number}_{quantity}_{rank}": [value + number, value + number]
        for number in (0, 1)
        for quantity in ("cwnd", "rtt_us", "pacing")
        for value, rank in enumerate(("least", "median", "most"), 1000)
    }
    told |= {f"band{number}_at": [S // 10, S // 5] for number in (0, 1)}
    guest = Guest(sender(4, **told), receiver([1] * 4, [BIN] * 100))
    tried = Tried(Congestion, guest, seconds=1)
    tried.trial(arm="cubic", flows=2, competitor="bbr")
    found = {course.quantity: course for course in tried.scenario.courses(Cell())}
    assert found["cwnd"] == Course(
        "cwnd", "packets", (0.1, 0.2), (1001, 1001), (1000, 1000), (1002, 1002)
    )
    assert found["competitor's rtt"].most == pytest.approx((1.003, 1.003))
    assert {"rtt", "pacing", "competitor's cwnd", "competitor's pacing"} <= found.keys()


@pytest.mark.parametrize(
    ("fair", "first", "seconds"),
    [
        ([1_000_000] * 30, [S, S], 0.9),
        ([500_000] * 15 + [990_100] * 15, [S, S], 1.6),
        ([500_000] * 15 + [990_000] * 15, [S, S], 3.0),
        ([990_100] * 30, [S, 2 * S], 0.1),
        ([500_000] * 30, [S, 2 * S], 2.0),
    ],
)
def test_flows_have_converged_when_a_second_was_delta_fair(
    fair: list[int], first: list[int], seconds: float
) -> None:
    more = {"fair": fair, "first": first}
    guest = Guest(sender(2), receiver([1, 1], [BIN] * 300, **more))
    metrics = Tried(Congestion, guest, seconds=3).trial(flows=2)
    assert metrics["converge"] == pytest.approx(seconds)


# traces


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "no line has a millisecond after 0"),
        ("0\n0\n", "no line has a millisecond after 0"),
        ("1\n2\nx\n", "line 3: 'x', a millisecond"),
        ("1\n\n3\n", "line 2: '', a millisecond"),
        ("1\n-2\n", "line 2: '-2', a millisecond"),
        ("5\n4\n", "line 2: 4 comes after 5"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "bad.trace"
    path.write_text(lines)
    options = ScenarioOptions("congestion", param=(f"trace={path}",))
    with pytest.raises(UsageError, match=said):
        options.given()


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.trace: cannot be read"):
        trace_word(str(tmp_path / "none.trace"))


def test_the_drive_is_the_same_each_time_and_like_a_link_of_lte() -> None:
    text = trace_text("drive")
    assert text == trace_text("drive")
    lines = list(map(int, text.split()))
    assert lines == sorted(lines) and lines[-1] == 60_000
    assert 5 < mean_rate(text) < 20
    seconds = [sum(1 for at in lines if at // 1000 == each) * 12 / 1000 for each in range(60)]
    assert min(seconds) < 3 and max(seconds) > 25
    assert max(b - a for a, b in itertools.pairwise(lines)) >= 200, "no handover"


def test_a_link_of_a_trace_only_delays_and_a_program_carries(tmp_path: Path) -> None:
    path = tmp_path / "some.trace"
    path.write_text("1\n3\n")
    guest = Guest(sender(**looked(1)), receiver([1], [BIN] * 100))
    tried = Tried(Congestion, guest, seconds=1, trace=str(path))
    tried.trial(arm="bbr")
    assert guest.files["/tmp/congestion.trace"] == "1\n3\n"
    assert shaped(guest) == ["b 0 20000000 1000000 0 1 0"]
    assert any("relay 10 a b 1000 /tmp/congestion.trace" in told for told in guest.told)
    with pytest.raises(LabError, match="marks nothing"):
        tried.trial(ecn="on")


# presets, words


def test_a_preset_sets_what_was_not_given() -> None:
    options = ScenarioOptions(
        "congestion", axis=("buffer=2",), param=("preset=coexist", "seconds=9")
    )
    values = options.values({})
    assert (values["buffer"], values["rate"], values["competitor"]) == ((2,), (50,), ("bbr",))
    given = options.given()
    assert (given["seconds"], given["interval"], given["preset"]) == (9, 2000, "coexist")
    with pytest.raises(UsageError, match="preset=other: unknown; valid are"):
        ScenarioOptions("congestion", param=("preset=other",)).given()


@pytest.mark.parametrize("name", Congestion.presets)
def test_a_preset_names_axes_and_parameters_within_their_limits(name: str) -> None:
    preset = Congestion.presets[name]
    words = tuple(f"{axis}={','.join(map(str, each))}" for axis, each in preset.axes.items())
    asked = ScenarioOptions(
        "congestion", axis=words, param=tuple(f"{k}={v}" for k, v in preset.given.items())
    )
    by_name = ScenarioOptions("congestion", param=(f"preset={name}",))
    assert asked.cells({}) == by_name.cells({})
    assert asked.given() | {"preset": name} == by_name.given()


def test_what_is_as_it_is_anyway_takes_no_words() -> None:
    shape = Congestion.shape
    assert shape.in_words(cell_of(Congestion)) == "bbr, 0 % lost"
    cell = cell_of(Congestion, rate=50.0, competitor="reno")
    assert shape.in_words(cell) == "bbr, 0 % lost, 50 Mbit/s, against reno"
    assert shape.in_words(cell_of(Congestion).of(shape.sheets)) == ""


def test_what_is_varied_stands_down() -> None:
    shape = Congestion.shape
    one = [cell_of(Congestion, arm=arm, rate=50.0) for arm in ("bbr", "cubic")]
    assert shape.turned(one).rows == "loss"
    assert shape.turned([*one, cell_of(Congestion, flows=9, rate=50.0)]).rows == "flows"
    assert shape.turned([*one, cell_of(Congestion, loss=1.0, flows=9)]).rows == "loss"


def test_any_algorithm_may_be_named() -> None:
    options = ScenarioOptions("congestion", axis=("arm=mine,bbr",))
    assert options.values({})["arm"] == ("mine", "bbr")
    with pytest.raises(UsageError, match="unknown"):
        ScenarioOptions("congestion", axis=("arm=Mine!",)).values({})


def test_random_loss_is_judged_by_what_the_link_leaves() -> None:
    ceiling = 1000 * 1448 / 1514

    def finding(bbr: float, cubic: float) -> Finding:
        cells = {
            ("bbr", 3.0): {"goodput": bbr * ceiling * 0.97},
            ("bbr", 15.0): {"goodput": 1.0},
            ("cubic", 0.1): {"goodput": cubic * ceiling},
        }
        axes = {"rate": 1000.0, "delay": 100.0, "buffer": 1.0}
        run = run_of(Congestion, cells, axes, preset="random_loss")
        (claim,) = Congestion.claims(run)
        return claim.finding

    assert finding(0.91, 0.09) is Finding.REPRODUCED
    assert finding(0.89, 0.09) is Finding.IN_PART
    assert finding(0.89, 0.11) is Finding.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("bbr", "cubic", "finding"),
    [
        (0.059, 0.6, Finding.REPRODUCED),
        (0.061, 0.9, Finding.NOT_REPRODUCED),
        (0.059, 0.58, Finding.NOT_REPRODUCED),
    ],
)
def test_bufferbloat_is_judged_at_the_deepest_buffer(
    bbr: float, cubic: float, finding: Finding
) -> None:
    cells = {("bbr", 0.0): {"rtt": bbr}, ("cubic", 0.0): {"rtt": cubic}}
    axes = {"delay": 30.0, "buffer": 100.0, "flows": 2}
    (claim,) = Congestion.claims(run_of(Congestion, cells, axes, preset="bufferbloat"))
    assert claim.finding is finding
    other = run_of(Congestion, cells, {**axes, "flows": 10}, preset="bufferbloat")
    (claim,) = Congestion.claims(other)
    assert claim.finding is Finding.NOT_MEASURED, "no published figure is of ten flows"


def test_a_preset_without_a_published_figure_says_so() -> None:
    cells = {("cubic", 0.0): {"goodput": 1.0}}
    (claim,) = Congestion.claims(run_of(Congestion, cells, preset="coexist"))
    assert (claim.finding, claim.why) == (Finding.NOT_MEASURED, "no figure of it is published")
