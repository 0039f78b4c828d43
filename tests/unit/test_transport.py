"""mptcp without a guest, and how trials went, as a page shows it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_hosts import (
    BIN,
    MEGABIT,
    Guest,
    Tried,
    at_once,  # noqa: F401
    cell_of,
    claim_of,
    receiver,
    run_of,
    sender,
)

from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import UsageError, WrongState
from linklab.lab.topology import parse
from linklab.report.curves import course_panels
from linklab.report.page import page
from linklab.report.plots import svg
from linklab.results.model import CourseRecord, Run
from linklab.results.shape import Cell, Course
from linklab.results.store import RunFolder, read_run
from linklab.scenarios.congestion import Congestion
from linklab.scenarios.mptcp import Mptcp
from linklab.scenarios.mptcp.promises import PATHS, limit_ms
from linklab.scenarios.scenario import Finding

pytestmark = pytest.mark.usefixtures("at_once")

# mptcp


def multipath(
    spoken: int = 1,
    subflows: int = 2,
    b2: Sequence[int] = (0, 5, 0),
    is_it: int | None = None,
    **more: Any,
) -> str:
    paths: dict[str, Any] = {"b__sent": [5, 5, 0], "b__received": [1, 0, 0], "b2__sent": list(b2)}
    paths["b2__received"] = [0, 0, 0]
    more["is_mptcp"] = spoken if is_it is None else is_it
    return sender(mptcp=spoken, subflows=subflows, **paths, **more)


def counted(spoke: int = 1, joined: int = 1, gave_up: int = 0, received: int = 1) -> list[str]:
    """What a and b count of MPTCP before a trial, and after it: of a, that; of b, `received`."""
    names = (
        "MPCapableSYNACKRX", "MPJoinSynAckRx", "MPCapableACKRX", "MPJoinAckRx",
        "MPCapableFallbackSYNACK",
    )  # fmt: skip
    before, a = (7, 7, 7, 7, 7), (spoke, joined, 0, 0, gave_up)
    b = (0, 0, received, joined, 0)
    after = [tuple(map(sum, zip(before, more, strict=True))) for more in (a, b)]
    return [
        f"TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: {' '.join(names)}\n"
        f"MPTcpExt: {' '.join(map(str, values))}\n"
        for values in (before, before, *after)
    ]


def watched(arm: str) -> str:
    """What is counted beside TCP, which `multipath` has already."""
    paths = ("b.sent", "b.received", "b2.sent", "b2.received")
    return "".join(f"{path} 1\n" for path in paths) if arm == "tcp" else ""


def arrived(seconds: int = 1) -> str:
    return receiver([1], [BIN] * 100 * seconds)


def scripted(**cell: str) -> str:
    tried = Tried(Mptcp, Guest(multipath(), arrived()), seconds=12)
    tried.trial(**cell)
    return tried.guest.files["/tmp/mptcp.sh"]


def test_two_paths_at_once() -> None:
    guest = Guest(multipath(), arrived(), counters=counted())
    tried = Tried(Mptcp, guest, seconds=4, tail=2)
    metrics = tried.trial(operation="aggregate", arm="mptcp")
    assert metrics["goodput"] == 10.0
    assert metrics["share"] == pytest.approx(100 * 10 / (2 * 10 * 1448 / 1514))
    assert (metrics["gap"], metrics["completion"]) == (0.02, 1.04)
    assert (metrics["subflows"], metrics["mptcp"]) == (2, 1)
    assert metrics["others"] == pytest.approx(100 / 3)
    assert metrics["others_after"] == 0
    # The first path is active for 0.2 s, the second one for 0.1, each with its tail.
    assert (metrics["radio_1"], metrics["radio_2"]) == pytest.approx((2.2, 2.1))
    assert metrics["radio"] == pytest.approx(2.2 + 2.1)
    assert "radio_3" not in metrics and metrics["lost"] == 0
    tried.scenario.check(tried.hosts, Cell({"operation": "aggregate", "arm": "mptcp"}))


def test_between_guests_the_senders_clock_alone_tells_how_long_it_took() -> None:
    tried = Tried(Mptcp, Guest(multipath(), arrived()), seconds=4)
    tried.hosts = {name: replace(host, inside=()) for name, host in tried.hosts.items()}
    metrics = tried.trial(operation="aggregate", arm="mptcp")
    assert metrics["completion"] == 8.04, "the receiver's clock is another one"


@pytest.mark.parametrize(
    ("arm", "speaks", "listens", "endpoints"),
    [
        ("mptcp", "mptcp", "mptcp", ["10.0.2.1 dev b2 subflow"]),
        ("tcp", "tcp", "tcp", []),
        ("backup", "mptcp", "mptcp", ["10.0.2.1 dev b2 subflow backup"]),
        (
            "fullmesh", "mptcp", "mptcp",
            ["10.0.1.1 dev b subflow fullmesh", "10.0.2.1 dev b2 subflow fullmesh",
             "10.0.2.2 dev a2 signal"],
        ),
        ("plain-listener", "mptcp", "tcp", ["10.0.2.1 dev b2 subflow"]),
        ("disabled", "mptcp", "mptcp", ["10.0.2.1 dev b2 subflow"]),
        ("stripped", "mptcp", "mptcp", ["10.0.2.1 dev b2 subflow"]),
    ],
)  # fmt: skip
def test_an_arm_is_its_sockets_and_endpoints(
    arm: str, speaks: str, listens: str, endpoints: list[str]
) -> None:
    tried = Tried(Mptcp, Guest(multipath(), arrived()))
    tried.trial(operation="aggregate", arm=arm)
    script, told = tried.guest.files["/tmp/mptcp.sh"], tried.guest.told
    assert f"send {speaks} 10.0.1.2 5001" in script
    assert any(f"sink {listens} 5001" in each for each in told)
    added = [each.partition("endpoint add ")[2] for each in told if "endpoint add" in each]
    # fullmesh tells both kernels of each address in turn.
    assert sorted(added) == sorted(endpoints)
    enabled = [each[-1] for each in told if "mptcp.enabled" in each]
    assert enabled == ["0" if arm == "disabled" else "1"]
    assert ("strip a b" in script) == (arm == "stripped")


def test_paths_die_and_come_back_when_they_should() -> None:
    lines = scripted(operation="failback", arm="mptcp").splitlines()
    events = lines[lines.index("(") : lines.index(":")]
    assert events == [
        "(",
        "sleep 3.000",
        "/bin/ip link set dev b down || exit",
        "sleep 3.000",
        "/bin/ip -batch /tmp/mptcp-up-0 || exit",
        "sleep 3.000",
        "/bin/ip link set dev b2 down || exit",
        "sleep 3.000",
        "/bin/ip -batch /tmp/mptcp-up-1 || exit",
    ]


@pytest.mark.parametrize(
    ("operation", "devices"),
    [("failover", ["b2", "mptcp-up-1"]), ("failback", ["b2", "mptcp-up-1", "b ", "mptcp-up-0"])],
)
def test_another_path_than_the_best_can_die(operation: str, devices: list[str]) -> None:
    lines = scripted(operation=operation, arm="mptcp", dies="second").splitlines()
    events = [line for line in lines if "/bin/ip" in line and "endpoint" not in line]
    assert [device in line for device, line in zip(devices, events, strict=True)] == [
        True for _ in devices
    ]


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        (("operation=failover", "dies=third"), "has 2 paths: --axis dies=first,second"),
        (("operation=aggregate", "dies=second"), "no path dies in aggregate"),
    ],
)
def test_a_path_that_cannot_die_is_refused(axis: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ScenarioOptions("mptcp", axis=axis).plan({})


def test_a_preset_has_each_paths_death_both_ways() -> None:
    plan = ScenarioOptions("mptcp", param=("preset=redundancy",)).plan({})
    deaths = {(c["operation"], c["dies"]) for c in plan.cells if c["arm"] == "mptcp"}
    assert deaths == {(way, path) for way in ("failover", "dark") for path in ("first", "second")}


def test_bytes_that_are_lost_or_changed_are_counted_and_the_kernels_fault() -> None:
    for more, lost in (({"wrong": 1}, 10 * MEGABIT), ({"bytes": [9 * MEGABIT]}, MEGABIT)):
        got = receiver([1], [BIN] * 100, **more)
        tried = Tried(Mptcp, Guest(multipath(), got, counters=counted()))
        cell = Cell({"operation": "aggregate", "arm": "mptcp"})
        assert tried.trial(**cell)["lost"] == lost
        with pytest.raises(WrongState):
            tried.scenario.check(tried.hosts, cell)


def test_a_dark_path_loses_everything_both_ways_and_then_is_as_before() -> None:
    shaped = [
        line for line in scripted(operation="dark", arm="tcp").splitlines() if "shape" in line
    ]
    assert [line.partition("shape ")[2] for line in shaped] == [
        "b 10000000 20000000 50 1000000 1 0 || exit",
        "a 10000000 20000000 50 1000000 1 0 || exit",
        "b 10000000 20000000 50 0 1 0 || exit",
        "a 10000000 20000000 50 0 1 0 || exit",
    ]


def test_a_transfer_has_bytes_and_the_rest_has_seconds() -> None:
    sent = {
        operation: next(
            line for line in scripted(operation=operation, arm="tcp").splitlines() if "send" in line
        ).partition(" 1 1 ")[2]
        for operation in ("aggregate", "transfer", "power")
    }
    tail = " >/tmp/mptcp.sent 2>&1"
    assert sent == {
        "aggregate": f"12{tail}",
        "transfer": f"0 - 16777216{tail}",
        "power": f"0 - 1048576{tail}",
    }


@pytest.mark.parametrize("fails", ["events", "sent", ""])
def test_the_script_says_what_failed_and_figures_only_where_nothing_did(
    tmp_path: Path, fails: str
) -> None:
    """The script in a shell of this host, its programs replaced."""
    script = scripted(operation="failover", arm="mptcp")
    program = tmp_path / "program"
    program.write_text(
        '#!/bin/sh\ncase "$1 $FAILS" in\n"watch "*) trap "echo watched; exit" TERM\n'
        "while :; do sleep 0.01; done;;\n"
        '"send sent" | "link events" | "-batch events") echo "$1 failed"; exit 3;;\n'
        'esac\necho "said $1"\n'
    )
    program.chmod(0o755)
    for name in ("/usr/lib/linklab/traffic", "/bin/ip"):
        script = script.replace(name, str(program))
    script = script.replace("/tmp/mptcp", f"{tmp_path}/mptcp").replace("sleep 4", "sleep 0")
    script = script.replace("sleep 8", "sleep 0")
    done = subprocess.run(
        ["/bin/sh", "-c", script], check=False, capture_output=True, text=True, timeout=30,
        env={"FAILS": fails, "PATH": "/bin:/usr/bin"},
    )  # fmt: skip
    wanted = {
        "events": (3, "link failed\n"),
        "sent": (3, "send failed\n"),
        "": (0, "said send\nwatched\n"),
    }
    assert (done.returncode, done.stdout) == wanted[fails]


@pytest.mark.parametrize(
    ("arm", "said", "kernels", "wrong"),
    [
        ("mptcp", multipath(0, 0), counted(), "did not speak"),
        ("mptcp", multipath(1, 1), counted(), "1 subflows"),
        ("backup", multipath(0, 0), counted(), "did not speak"),
        ("stripped", multipath(1, 2), counted(0, 0, 1, 0), "spoke MPTCP"),
        ("plain-listener", multipath(1, 1), counted(0, 0, 1, 0), "spoke MPTCP"),
        # The connection says one thing, TCP_IS_MPTCP or a kernel's counters another.
        ("mptcp", multipath(is_it=0), counted(), "did not speak"),
        ("disabled", multipath(0, 0, is_it=1), counted(0, 0, 0, 0), "spoke MPTCP"),
        ("mptcp", multipath(), counted(0), "a counts MPCapableSYNACKRX 0"),
        ("mptcp", multipath(), counted(joined=0), "a counts .* MPJoinSynAckRx 0; 1 and 1"),
        ("mptcp", multipath(), counted(received=0), "b counts MPCapableACKRX 0"),
        ("mptcp", multipath(), [], "a counts MPCapableSYNACKRX 0"),
        ("tcp", sender(), counted(), "a counts MPCapableSYNACKRX 1"),
        ("disabled", multipath(0, 0), counted(0, 0, 0, 1), "b counts MPCapableACKRX 1"),
        ("stripped", multipath(0, 0), counted(0, 0, 0, 0), "MPCapableFallbackSYNACK 0"),
        ("plain-listener", multipath(0, 0), counted(0, 0, 0, 0), "MPCapableFallbackSYNACK 0"),
    ],
)
def test_a_connection_that_speaks_what_it_should_not_is_wrong(
    arm: str, said: str, kernels: list[str], wrong: str
) -> None:
    tried = Tried(Mptcp, Guest(said + watched(arm), arrived(), counters=list(kernels)))
    cell = Cell({"operation": "aggregate", "arm": arm})
    tried.trial(**cell)
    with pytest.raises(WrongState, match=wrong):
        tried.scenario.check(tried.hosts, cell)


@pytest.mark.parametrize(
    ("arm", "said", "kernels"),
    [
        ("fullmesh", multipath(1, 4), counted(joined=3)),
        ("tcp", sender() + watched("tcp"), counted(0, 0, 0, 0)),
        ("disabled", multipath(0, 0), counted(0, 0, 0, 0)),
        ("stripped", multipath(0, 0), counted(0, 0, 1, 0)),
    ],
)
def test_a_connection_that_speaks_what_it_should_is_well(
    arm: str, said: str, kernels: list[str]
) -> None:
    tried = Tried(Mptcp, Guest(said, arrived(), counters=list(kernels)))
    cell = Cell({"operation": "aggregate", "arm": arm})
    tried.trial(**cell)
    tried.scenario.check(tried.hosts, cell)


def test_one_path_is_not_enough() -> None:
    for text in ("a -- b: 10mbit", "a"):
        assert "two links" in Mptcp.unfit(parse(text), in_one_guest=True)
    assert not Mptcp.unfit(parse("a == b"), in_one_guest=False)


def test_the_best_path_is_the_first_one() -> None:
    tried = Tried(Mptcp, Guest(multipath(), arrived()), topology="a == b: 3mbit 5ms | 10mbit 20ms")
    tried.trial(operation="aggregate", arm="tcp")
    assert "send tcp 10.0.2.2 " in tried.guest.files["/tmp/mptcp.sh"]


@pytest.mark.parametrize(("rates", "most"), [((10, 10), 7906), ((10, 3), 11921)])
def test_the_limits_are_those_of_the_kernels_own_test(
    rates: tuple[float, float], most: int
) -> None:
    assert limit_ms(rates, 16 << 20) == most


@pytest.mark.parametrize(
    ("cells", "about", "finding"),
    [
        ({("failover", "mptcp"): {"gap": 0.5}}, "redundancy", Finding.REPRODUCED),
        ({("failover", "mptcp"): {"gap": 11.0}}, "redundancy", Finding.NOT_REPRODUCED),
        (
            {("failover", "mptcp"): {"gap": 0.5}, ("failback", "mptcp"): {"gap": 4.1}},
            "redundancy",
            Finding.IN_PART,
        ),
        ({("failover", "tcp"): {"gap": 11.0}}, "redundancy", Finding.NOT_MEASURED),
        (
            {("failover", "mptcp"): {"gap": 0.5}, ("dark", "backup", "second"): {"gap": 10.7}},
            "redundancy",
            Finding.IN_PART,
        ),
        (
            {("aggregate", "mptcp"): {"goodput": 9.5}, ("aggregate", "tcp"): {"goodput": 9.5}},
            "throughput",
            Finding.REPRODUCED,
        ),
        (
            {("aggregate", "mptcp"): {"goodput": 9.4}, ("aggregate", "tcp"): {"goodput": 9.5}},
            "throughput",
            Finding.NOT_REPRODUCED,
        ),
        ({("transfer", "mptcp"): {"completion": 7.906}}, "16 MiB", Finding.REPRODUCED),
        ({("transfer", "mptcp"): {"completion": 7.907}}, "16 MiB", Finding.NOT_REPRODUCED),
    ],
)
def test_promises_are_judged_at_their_borders(
    cells: dict[Any, Any], about: str, finding: Finding
) -> None:
    assert claim_of(Mptcp, run_of(Mptcp, cells), about).finding is finding


def test_redundancy_says_how_many_deaths_it_is_of_and_which() -> None:
    every = {(o, "mptcp", d): {"gap": 0.5} for o in ("failover", "dark") for d in PATHS[:2]}
    one = claim_of(Mptcp, run_of(Mptcp, {("failover", "mptcp"): {"gap": 0.5}}), "redundancy")
    assert "1 of 4 deaths" in one.why and "preset=redundancy" in one.why
    run = run_of(Mptcp, every)
    all_of_them = claim_of(Mptcp, run, "redundancy")
    assert all_of_them.finding is Finding.REPRODUCED and "every byte" in all_of_them.why
    assert "nosysfs, dark of the second path: a gap of 0.50 s" in all_of_them.ours
    wrong = replace(run.samples[-1], verified=False)
    broken = claim_of(Mptcp, replace(run, samples=[*run.samples[:-1], wrong]), "redundancy")
    assert broken.finding is Finding.IN_PART and "a wrong state" in broken.ours


def test_the_limit_of_another_size_is_said_to_be_by_the_rule() -> None:
    run = run_of(Mptcp, {("transfer", "mptcp"): {"completion": 1.0}}, mib=2)
    assert claim_of(Mptcp, run, "2 MiB").theirs.endswith("by its rule; it sends 16 MiB")


@pytest.mark.parametrize(
    ("stripped", "finding"),
    [
        ({"goodput": 9.1, "mptcp": 0.0}, Finding.REPRODUCED),
        ({"goodput": 9.0, "mptcp": 0.0}, Finding.NOT_REPRODUCED),
        ({"goodput": 9.5, "mptcp": 1.0}, Finding.NOT_REPRODUCED),
        (None, Finding.IN_PART),
    ],
)
def test_compatibility_is_tcp_in_all_three_cases(
    stripped: dict[str, float] | None, finding: Finding
) -> None:
    plain = {"goodput": 9.5, "mptcp": 0.0}
    cells = {("aggregate", arm): plain for arm in ("tcp", "plain-listener", "disabled")}
    if stripped:
        cells["aggregate", "stripped"] = stripped
    assert claim_of(Mptcp, run_of(Mptcp, cells), "compatibility").finding is finding


# courses


def stored(folder: Path, *records: CourseRecord) -> Run:
    run = run_of(Congestion, {(arm, 0.0): {} for arm in ("bbr", "cubic")})
    about = {
        **run.about, "scenario": "congestion", "accel": "tcg", "boot": "direct",
        "qemu": {"version": "7"}, "cpus": 1, "memory": 1, "machine": "microvm",
    }  # fmt: skip
    kept = RunFolder(folder, about)
    for sample in run.samples:
        kept.add_sample(sample)
    for record in records:
        kept.add_course(record)
    return read_run(folder)


def record(arm: str, trial: int, *values: float) -> CourseRecord:
    at = tuple(float(number) for number in range(len(values)))
    return CourseRecord(
        "nosysfs", cell_of(Congestion, arm=arm), trial, Course("cwnd", "packets", at, values)
    )


def test_a_course_survives_a_runs_folder_and_stands_on_the_page(tmp_path: Path) -> None:
    bbr, cubic = record("bbr", 1, 10, 20, 30), record("cubic", 1, 5, 50, 500)
    run = stored(tmp_path, bbr, cubic, record("bbr", 2, 1, 1, 1))
    assert run.courses[:2] == [bbr, cubic]
    assert "courses" not in run.document()
    text = page([(tmp_path, run)])
    assert "Over time" in text and "bbr: 10 to 30 packets" in text
    assert "cubic: 5 to 500 packets" in text


def test_a_course_is_a_line_without_marks_from_nothing_up(tmp_path: Path) -> None:
    run = stored(tmp_path, record("bbr", 1, *range(1, 200)))
    from linklab.report.compare import Stored

    sheet = cell_of(Congestion).of(Congestion.shape.sheets)
    (panel,) = course_panels(Stored(tmp_path, run), sheet, 0.0)
    drawn = svg(panel)
    assert "mark" not in drawn and drawn.count('class="run"') == 1
    assert drawn.count('class="x tick"') < 10


def test_several_flows_are_a_band_around_their_median(tmp_path: Path) -> None:
    course = Course("rtt", "ms", (0.1, 0.2), (20.0, 30.0), (10.0, 15.0), (25.0, 90.0))
    run = stored(tmp_path, replace(record("bbr", 1), course=course))
    assert run.courses[0].course == course
    text = page([(tmp_path, run)])
    assert text.count('class="band"') == 1
    assert "bbr: 20 to 30 ms, all from 10 to 90" in text
    assert "in a band of all of them" in text


def test_a_run_without_courses_says_nothing_of_them(tmp_path: Path) -> None:
    assert "Over time" not in page([(tmp_path, stored(tmp_path))])
