"""The scenarios `conntrack` and `tc`: what they send, what they believe, and their claims."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fake_hosts import cell_of, claim_of, given_to, run_of

from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import LabError, UsageError, WrongState
from linklab.lab.topology import parse
from linklab.scenarios import scenario_named
from linklab.scenarios.conntrack import _PORTS, ARMS, Conntrack, _counted
from linklab.scenarios.drop.flood import polls
from linklab.scenarios.drop.programs import Stream, address_at
from linklab.scenarios.drop.rungs import Place
from linklab.scenarios.scenario import Finding
from linklab.scenarios.tc import FILTERS, NONE, QUEUES, Tc

PLACE = Place("a", "c")
COUNTERS = """1500
entries  clashres found insert_failed drop early_drop
000005dc  00000001 00000000 00000000 0000000a 00000002
000005dc  00000000 00000000 00000000 00000006 00000001
"""


class Printing:
    """A host that prints something."""

    name = "b"

    def __init__(self, text: str) -> None:
        self.text = text

    def printed(self, *_: object) -> str:
        return self.text


def test_what_tracking_counts_is_summed_over_the_cpus() -> None:
    found = _counted(Printing(COUNTERS))  # type: ignore[arg-type]
    assert (found["tracked"], found["drop"], found["early_drop"]) == (1500, 16, 3)
    for wrong in ("", "1500\n", COUNTERS.replace("00000006 ", "")):
        with pytest.raises(LabError, match="not as expected"):
            _counted(Printing(wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("entries", [2000, 48_000, 58_000, 100_000, 500_000])
def test_each_packet_of_a_trial_is_of_a_connection_of_its_own(entries: int) -> None:
    scenario = Conntrack(given_to(Conntrack))
    addresses, ports = scenario._pairs(cell_of(Conntrack, entries=entries))
    needed = entries + Stream(polls(scenario.given)).packets
    assert len({(number % addresses, number % ports) for number in range(needed)}) == needed
    assert ports <= _PORTS and Stream.of(entries, addresses, ports).packets == entries


def tracked(
    before: int, after: int, passed: int, dropped: int = 0, evicted: int = 0, sent: int = 1728
) -> Conntrack:
    scenario = Conntrack(given_to(Conntrack))
    scenario.before, scenario.after = {"tracked": before}, {"tracked": after}
    scenario.sent, scenario.passed = sent, passed
    scenario.dropped, scenario.evicted = dropped, evicted
    return scenario


RIGHT: dict[str, tuple[int, ...]] = {
    "none": (0, 0, 1728),
    "known": (2000, 2000, 1728),
    "new": (2000, 3728, 1728),
    "full": (2000, 2000, 0, 1728),
    "evicting": (2000, 1990, 1700, 28, 1710),
}


@pytest.mark.parametrize("arm", ARMS)
def test_a_table_that_holds_what_it_should_is_right(arm: str) -> None:
    tracked(*RIGHT[arm]).check({}, cell_of(Conntrack, arm=arm))


@pytest.mark.parametrize(
    ("arm", "found"),
    [
        ("none", (0, 1, 1728)),
        ("known", (2000, 2001, 1728)),
        ("known", (1999, 1999, 1728)),
        ("known", (2000, 2000, 1727)),
        ("known", (2000, 2000, 1727, 1)),
        ("new", (2000, 3727, 1728)),
        ("full", (2000, 2001, 1, 1727)),
        ("full", (1999, 1999, 0, 1728)),
        ("evicting", (2000, 2000, 0, 1728, 0)),
        ("evicting", (2000, 2001, 1728, 0, 1727)),
    ],
)
def test_an_entry_too_many_or_too_few_is_a_wrong_state(arm: str, found: tuple[int, ...]) -> None:
    with pytest.raises(WrongState, match=f"{arm}: .*expected"):
        tracked(*found).check({}, cell_of(Conntrack, arm=arm))


def test_more_connections_than_the_table_is_to_hold_are_refused() -> None:
    given = given_to(Conntrack, packets=1_000_000)
    assert Conntrack.conflict(cell_of(Conntrack, arm="new"), given)
    assert not Conntrack.conflict(cell_of(Conntrack, arm="known"), given)
    assert not Conntrack.conflict(cell_of(Conntrack, arm="new"), given_to(Conntrack))
    long = cell_of(Conntrack, arm="known", entries=50_000, buckets=4096)
    assert "need 5000 buckets" in Conntrack.conflict(long, given_to(Conntrack))
    assert not Conntrack.conflict(long.with_(arm="none"), given_to(Conntrack))
    few = cell_of(Conntrack, arm="evicting", entries=2000, buckets=65_536)
    assert "most have none" in Conntrack.conflict(few, given_to(Conntrack))
    assert not Conntrack.conflict(few.with_(buckets=16_384), given_to(Conntrack))
    assert scenario_named("conntrack") is Conntrack and scenario_named("tc") is Tc


@pytest.mark.parametrize("kind", [Conntrack, Tc])
def test_three_hosts_in_one_guest_are_needed(kind: Any) -> None:
    assert kind.unfit(parse("a -- b"), in_one_guest=True)
    assert kind.unfit(parse("a -- b -- c: 1ms"), in_one_guest=True)
    assert kind.unfit(parse(kind.topology), in_one_guest=False)
    assert not kind.unfit(parse(kind.topology), in_one_guest=True)


@pytest.mark.parametrize(
    ("scenario", "axis"),
    [
        ("conntrack", "entries=100"),
        ("conntrack", "buckets=1"),
        ("conntrack", "arm=half-full"),
        ("tc", "number=0"),
        ("tc", "number=20000"),
        ("tc", "arm=sfq"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(scenario: str, axis: str) -> None:
    with pytest.raises(UsageError, match=axis.partition("=")[0]):
        ScenarioOptions(scenario, axis=(axis,)).values({})


def conntrack_run(costs: dict[tuple[str, int, int], float], **more: float) -> Any:
    cells = {at: {"instructions": cost, **more} for at, cost in costs.items()}
    return run_of(Conntrack, cells)


def test_a_full_table_is_judged_by_its_entries_and_by_what_was_dropped() -> None:
    full = {("full", 2000, 4096): 1.0}
    right = conntrack_run(full, tracked=2000, dropped=1728, sent=1728)
    assert claim_of(Conntrack, right, "nf_conntrack_max").finding is Finding.REPRODUCED
    over = conntrack_run(full, tracked=2001, dropped=1727, sent=1728)
    assert claim_of(Conntrack, over, "nf_conntrack_max").finding is Finding.NOT_REPRODUCED
    none = conntrack_run({("known", 2000, 4096): 1.0})
    assert claim_of(Conntrack, none, "nf_conntrack_max").finding is Finding.NOT_MEASURED


@pytest.mark.parametrize(
    ("short", "long", "flat", "longer"),
    [
        (1000.0, 1500.0, Finding.REPRODUCED, Finding.REPRODUCED),
        (1000.0, 1050.0, Finding.REPRODUCED, Finding.NOT_REPRODUCED),
        (1300.0, 1500.0, Finding.NOT_REPRODUCED, Finding.REPRODUCED),
    ],
)
def test_chains_are_judged_by_a_known_connection(
    short: float, long: float, flat: Finding, longer: Finding
) -> None:
    run = conntrack_run(
        {
            ("known", 2000, 65_536): 1000.0,
            ("known", 20_000, 65_536): short,
            ("known", 20_000, 4096): long,
        }
    )
    assert claim_of(Conntrack, run, "as many buckets").finding is flat
    assert claim_of(Conntrack, run, "more entries than").finding is longer
    alone = conntrack_run({("known", 2000, 4096): 1.0})
    found = {each.finding for each in Conntrack.claims(alone)}
    assert found == {Finding.NOT_MEASURED}


def lines_of(arm: str, count: int) -> list[str]:
    return list({**FILTERS, **QUEUES}[arm](PLACE, count))


@pytest.mark.parametrize("arm", ["flower", "flower-list", "u32", "u32-hash", "bpf"])
def test_there_is_a_filter_for_each_address(arm: str) -> None:
    told = [line for line in lines_of(arm, 50) if "action mirred egress redirect dev c" in line]
    assert len(told) == 50
    written = [str(address_at(n)) if arm != "bpf" else str(int(address_at(n))) for n in range(50)]
    for line, address in zip(told, written, strict=True):
        assert re.search(rf"\b{address}\b", line)


def test_filters_are_one_behind_the_other_or_in_a_hash() -> None:
    def priorities(arm: str) -> list[str]:
        return [line.split()[6] for line in lines_of(arm, 3)]

    assert priorities("flower") == priorities("u32") == priorities("bpf") == ["1"] * 3
    assert priorities("flower-list") == priorities("matchall") == ["1", "2", "3"]
    assert [line.split()[-1] for line in lines_of("matchall", 3)] == ["continue", "continue", "c"]
    first, *each, last = lines_of("u32-hash", 3)
    assert "divisor 256" in first and "hashkey mask 0x000000ff at 12 link 1:" in last
    assert [line.split()[11] for line in each] == [
        f"1:{int(address_at(number)) & 255:x}:" for number in range(3)
    ]


def test_htb_has_a_class_for_each_address() -> None:
    classes = [line.split()[7] for line in lines_of("htb", 20) if line.startswith("class add")]
    assert classes == [f"2:{number:x}" for number in range(1, 21)]


def through(arm: str, said: str, sent: int = 1728, passed: int = 1728) -> Tc:
    scenario = Tc(given_to(Tc))
    scenario.c, scenario.said, scenario.sent, scenario.passed = "c", said, sent, passed
    return scenario


GATE = "qdisc tbf 1: root refcnt 2\n Sent 79488 bytes 1728 pkt (dropped 0, overlimits 9)\n"
BELOW = "qdisc htb 2: parent 1:1\n Sent 79488 bytes 1728 pkt (dropped 0, overlimits 0)\n"
RULE = "action order 1: mirred\n  Sent 38272 bytes 832 pkt (dropped 0, overlimits 0 requeues 0)\n"


@pytest.mark.parametrize(
    ("arm", "said"),
    [(NONE, ""), ("htb", GATE + BELOW), ("u32", RULE + RULE), ("matchall", (RULE + RULE) * 2)],
)
def test_what_was_counted_in_between_is_held_against_what_was_sent(arm: str, said: str) -> None:
    cell = cell_of(Tc, arm=arm, number=2)
    sent = {"u32": 1728, "matchall": 1664}.get(arm, 1728)
    through(arm, said, sent, sent).check({}, cell)
    with pytest.raises(WrongState, match="came to c"):
        through(arm, said, sent, sent - 1).check({}, cell)
    if said:
        with pytest.raises(WrongState, match="counted in between"):
            through(arm, said.replace(" pkt", "0 pkt"), sent, sent).check({}, cell)
        with pytest.raises(WrongState, match="were lost"):
            through(arm, said.replace("dropped 0", "dropped 3"), sent, sent).check({}, cell)


def test_there_is_no_number_of_nothing() -> None:
    assert Tc.refusal(cell_of(Tc, arm=NONE, number=10))
    assert not Tc.refusal(cell_of(Tc, arm=NONE, number=1))
    assert not Tc.refusal(cell_of(Tc, arm="htb", number=10))


def test_more_packets_than_fit_into_memory_are_not_queued() -> None:
    many = given_to(Tc, packets=60_000)
    assert Tc.conflict(cell_of(Tc, arm="cake"), many)
    assert not Tc.conflict(cell_of(Tc, arm="u32"), many)
    assert not Tc.conflict(cell_of(Tc, arm="cake"), given_to(Tc))


@pytest.mark.parametrize(
    ("arm", "about", "most", "finding"),
    [
        ("u32", "u32 in one list", 5000.0, Finding.REPRODUCED),
        ("u32", "u32 in one list", 1100.0, Finding.NOT_REPRODUCED),
        ("u32-hash", "u32 in a hash", 1100.0, Finding.REPRODUCED),
        ("fq_codel", "fq_codel", 1600.0, Finding.NOT_REPRODUCED),
        ("cake", "cake", 1400.0, Finding.REPRODUCED),
    ],
)
def test_what_grows_with_the_number_is_judged(
    arm: str, about: str, most: float, finding: Finding
) -> None:
    run = run_of(Tc, {(arm, 1): {"instructions": 1000.0}, (arm, 100): {"instructions": most}})
    claim = claim_of(Tc, run, about)
    assert claim.finding is finding and f"{most:.0f} with 100" in claim.ours
    alone = run_of(Tc, {(arm, 1): {"instructions": 1000.0}})
    assert claim_of(Tc, alone, about).finding is Finding.NOT_MEASURED
