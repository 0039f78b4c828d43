"""The scenario `drop`: its programs of BPF, its rungs' rules and counters, its claims."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any

import pytest
from bpf_machine import Machine
from hand_made import run_of, sample_in

from linklab.errors import LabError, WrongState
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios import scenario_named
from linklab.scenarios.drop import Drop
from linklab.scenarios.drop.ladder import claims, swapped
from linklab.scenarios.drop.programs import (
    MOST_LISTED,
    OTHER,
    SCHED_CLS,
    SOCKET_FILTER,
    XDP,
    Code,
    Packet,
    Stream,
    address_at,
    answering,
    classic_filter,
    classifying,
    dropping,
    dropping_all,
    dropping_timed,
    object_of,
    packed,
    passing_all,
    redirecting,
)
from linklab.scenarios.drop.rungs import HELD, RUNGS, Counter, Place, listed, tracks
from linklab.scenarios.scenario import Finding, Said

MACS = bytes(range(12))
PACKET = Packet(MACS, IPv4Address("10.0.1.2"), 5001)
SENT = {XDP: (1, 2), SCHED_CLS: (2, 0), SOCKET_FILTER: (0, 2**64 - 1)}
PLACE = Place("a", "c")


def sent(machine: Machine) -> bytes:
    return machine.run(PACKET.frame())[1]


def source_of(frame: bytes) -> IPv4Address:
    return IPv4Address(frame[26:30])


def checksum(header: bytes) -> int:
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return int((total & 0xFFFF) + (total >> 16))


def test_a_packet_is_64_bytes_on_a_wire_and_its_lengths_hold() -> None:
    frame = PACKET.frame()
    assert len(frame) + 4 == 64 and frame[:14] == MACS + b"\x08\x00"
    assert struct.unpack(">H", frame[16:18])[0] == len(frame) - 14
    assert struct.unpack(">H", frame[38:40])[0] == len(frame) - 34


def test_what_is_sent_has_a_valid_header_whatever_the_frame_was_before() -> None:
    machine = Machine.of(PACKET.sender(Stream(64, 1000, 4), 7))
    for _ in range(100):
        worn = bytearray(PACKET.frame())
        worn[:12], worn[22], worn[24:30] = bytes(12), 3, b"\xff" * 6
        verdict_of_it, frame = machine.run(bytes(worn))
        assert (verdict_of_it, machine.redirected) == (4, 7)
        assert checksum(frame[14:34]) == 0xFFFF
        assert frame[:12] == MACS and frame[22] == 64


@pytest.mark.parametrize("addresses", [1, 7, 100])
def test_each_address_on_the_list_sends_as_often(addresses: int) -> None:
    machine = Machine.of(PACKET.sender(Stream(64, addresses, 3), None))
    sources = [source_of(sent(machine)) for _ in range(3 * addresses)]
    assert sorted(sources) == sorted([address_at(number) for number in range(addresses)] * 3)


def test_ports_are_as_many_as_flows_and_others_are_on_no_list() -> None:
    machine = Machine.of(PACKET.sender(Stream(64, 0, 4), None))
    frames = [sent(machine) for _ in range(8)]
    assert {source_of(frame) for frame in frames} == {OTHER}
    assert len({frame[34:36] for frame in frames}) == 4
    assert machine.counted == 8


def test_the_instants_of_two_packets_stand_behind_the_counter() -> None:
    stream = Stream(2)
    machine = Machine.of(PACKET.sender(stream, None))
    for _ in range(stream.packets):
        sent(machine)
    assert machine.numbers == (stream.packets, 100, 200)
    dropper = Machine.of(dropping_timed(stream.window))
    assert {dropper.run(b"")[0] for _ in range(stream.packets)} == {1}
    assert dropper.numbers == machine.numbers


def test_a_stream_goes_on_where_another_one_ended_and_repeats_itself_after_a_period() -> None:
    def pairs(machine: Machine, count: int) -> list[bytes]:
        return [sent(machine)[26:30] + sent(machine)[34:36] for _ in range(count)]

    whole = pairs(Machine.of(PACKET.sender(Stream(64, 3, 7), None)), 20)
    rest = pairs(Machine.of(PACKET.sender(Stream(64, 3, 7, first=20), None)), 10)
    assert rest == whole[10:]
    turns = pairs(Machine.of(PACKET.sender(Stream(64, 3, 7, period=10), None)), 20)
    assert turns == whole[:5] * 4


def test_what_answers_sends_a_packet_back_and_its_sums_hold() -> None:
    frame = sent(Machine.of(PACKET.sender(Stream(64, 3, 7), None)))
    answer_of = Machine.of(answering())
    verdict_of_it, back = answer_of.run(frame)
    assert (verdict_of_it, answer_of.counted) == (3, 1)
    assert (back[:6], back[6:12]) == (frame[6:12], frame[:6])
    assert (back[26:30], back[30:34]) == (frame[30:34], frame[26:30])
    assert (back[34:36], back[36:38]) == (frame[36:38], frame[34:36])
    assert checksum(back[14:34]) == 0xFFFF
    assert answer_of.run(b"short")[0] == 2
    machine = Machine.of(passing_all())
    assert (machine.run(back), machine.counted) == ((2, back), 1)


def test_each_address_has_a_class_of_its_own() -> None:
    machine = Machine.of(classifying(9, 2))
    sender = Machine.of(PACKET.sender(Stream(64, 50, 1), None))
    numbers = {str(address_at(number)): number for number in range(50)}
    for _ in range(100):
        frame = sent(sender)
        machine.run(frame)
        assert machine.redirected == 9
        assert machine.priority == (2 << 16) + 1 + numbers[str(source_of(frame))]


def test_addresses_are_all_different_and_in_the_network_for_measurements() -> None:
    found = {address_at(number) for number in range(MOST_LISTED)}
    assert len(found) == MOST_LISTED and OTHER not in found
    assert min(found) >= IPv4Address("198.18.0.0") and max(found) <= IPv4Address("198.19.255.255")


@pytest.mark.parametrize("kind", [XDP, SCHED_CLS, SOCKET_FILTER])
@pytest.mark.parametrize("held", HELD)
def test_a_program_drops_what_is_listed_and_nothing_else(kind: int, held: str) -> None:
    machine, drops = Machine.of(dropping(kind, held, 50)), 0
    senders = [Machine.of(PACKET.sender(Stream(64, count, 1), None)) for count in (50, 60, 0)]
    for sender in senders:
        for _ in range(60):
            frame = sent(sender)
            is_listed = source_of(frame) in {address_at(number) for number in range(50)}
            drops += is_listed
            assert machine.run(frame)[0] == SENT[kind][not is_listed]
    assert machine.counted == drops > 0


def test_what_is_no_ip_passes() -> None:
    frame = MACS + b"\x86\xdd" + sent(Machine.of(PACKET.sender(Stream(64, 1, 1), None)))[14:]
    assert Machine.of(dropping(XDP, "set", 1)).run(frame)[0] == 2
    assert Machine.of(dropping(XDP, "set", 1)).run(MACS)[0] == 2


def test_the_unit_counts_and_drops_without_a_look() -> None:
    machine = Machine.of(dropping_all())
    assert [machine.run(b"")[0] for _ in range(3)] == [1, 1, 1]
    assert machine.counted == 3 and len(machine.code) == 6


def test_what_is_redirected_leaves_by_the_device_with_other_macs() -> None:
    machine = Machine.of(redirecting(9, bytes(range(20, 32))))
    verdict_of_it, frame = machine.run(PACKET.frame())
    assert (verdict_of_it, machine.redirected) == (4, 9)
    assert frame[:12] == bytes(range(20, 32))


def test_ten_thousand_comparisons_are_within_reach_of_a_jump() -> None:
    machine = Machine.of(dropping(XDP, "rules", 10_000))
    assert len(machine.code) > 20_000


def classic(content: bytes, address: IPv4Address) -> int:
    """What a classic filter says of a packet's source."""
    (kind, maps, count), at = struct.unpack_from("<3I", content), 0
    assert (kind, maps, len(content)) == (0, 0, 12 + 8 * count)
    while True:
        code, yes, no, value = struct.unpack_from("<HBBI", content, 12 + 8 * at)
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x15:
            at += yes if int(address) == value else no
        else:
            assert (code, value) == (0x20, 0xFFF0000C)


def test_a_classic_filter_keeps_nothing_of_what_is_listed() -> None:
    content = classic_filter(3)
    assert [classic(content, address_at(number)) for number in range(3)] == [0, 0, 0]
    assert classic(content, OTHER) == 0xFFFFFFFF


def test_a_jump_to_nowhere_or_too_far_is_an_error() -> None:
    with pytest.raises(LabError, match="no place"):
        Code().op(0x05, to="nowhere").assembled()
    code = Code().op(0x05, to="end")
    for _ in range(1 << 15):
        code.op(0x95)
    with pytest.raises(LabError, match="jumps over"):
        code.place("end").assembled()


def test_instructions_are_as_the_kernel_has_them() -> None:
    code = Code().map(1, 0, 2).op(0x56, 5, imm=0xFFFFFFFE, to="end").op(0xBF, 2, 10).place("end")
    made = code.op(0x95).assembled()
    assert made == [
        bytes.fromhex("1821000000000000"),
        bytes(8),
        bytes.fromhex("56050100feffffff"),
        bytes.fromhex("bfa2000000000000"),
        bytes.fromhex("9500000000000000"),
    ]
    assert object_of(XDP, made)[:12] == struct.pack("<3I", 6, 0, 5)


def told(arm: str, count: int, held: str) -> list[str]:
    (tool,) = RUNGS[arm].tools
    return list(tool.lines(PLACE, listed(count), held))


@pytest.mark.parametrize("arm", ["nft-raw", "nft-input", "nft-ingress", "tc-flower"])
def test_rules_are_one_for_each_address(arm: str) -> None:
    drops = [line for line in told(arm, 3, "rules") if line.endswith(" drop")]
    assert len(drops) == 3
    assert all(f" {each} " in line for each, line in zip(listed(3), drops, strict=True))


def test_iptables_gets_a_rule_for_each_address() -> None:
    assert told("iptables-raw", 2, "rules") == [
        "*raw",
        *(f"-A PREROUTING -s {each} -j DROP" for each in listed(2)),
        "COMMIT",
    ]


@pytest.mark.parametrize(("held", "kind"), [("set", "hash:ip"), ("prefixes", "hash:net")])
def test_iptables_looks_into_a_set_that_is_filled_before(held: str, kind: str) -> None:
    rule = "-A PREROUTING -m set --match-set listed src -j DROP"
    assert told("iptables-raw", 2, held) == ["*raw", rule, "COMMIT"]
    (tool,) = RUNGS["iptables-raw"].tools
    fill, restore = tool.commands(held)
    assert fill.endswith(f"ipset listed {kind} {{list}}") and "restore" in restore


def test_sets_are_filled_from_numbers_in_their_order() -> None:
    numbers = struct.unpack("<100I", packed(100))
    assert list(numbers) == sorted(int(IPv4Address(each)) for each in listed(100))
    (tool,) = RUNGS["nft-ingress"].tools
    assert [each.split()[0] for each in tool.commands("rules")] == ["/bin/nft"]
    assert "nftset netdev ladder listed prefixes {list}" in tool.commands("prefixes")[1]


def test_who_tracks_on_a_bridge_is_the_bridge_and_open_vswitch_tracks_by_itself() -> None:
    by = {arm: rung.tracks for arm, rung in RUNGS.items() if rung.tracks != "ip"}
    assert by == {"bridge": "bridge", "openvswitch": ""}
    assert "table bridge tracks {" in list(tracks("bridge").lines(PLACE, [], "rules"))
    (tool,) = RUNGS["openvswitch"].tools
    assert "{tracked} {near} {far}" in tool.commands("rules")[0]


def test_filters_of_tc_are_one_list_after_the_other_or_one_hash() -> None:
    rules, one = told("tc-flower", 3, "rules")[1:], told("tc-flower", 3, "set")[1:]
    assert [line.split()[6] for line in rules] == ["1", "2", "3"]
    assert [line.split()[6] for line in one] == ["1", "1", "1"]


def test_nft_holds_addresses_in_a_set_with_intervals_or_without() -> None:
    assert any("flags interval" in line for line in told("nft-raw", 2, "prefixes"))
    assert not any("flags interval" in line for line in told("nft-raw", 2, "set"))
    assert "hook ingress device a priority 0" in "\n".join(told("nft-ingress", 1, "rules"))


NFT = """table ip ladder {
	chain drops {
		type filter hook prerouting priority raw; policy accept;
		ip saddr 198.18.0.0 counter packets 11000 bytes 506000 drop
		ip saddr 198.18.158.55 counter packets 24 bytes 1104 drop
	}
}
"""
IPTABLES = """*raw
:PREROUTING ACCEPT [64:2944]
:OUTPUT ACCEPT [7:588]
[11000:507104] -A PREROUTING -s 198.18.0.0/32 -j DROP
[24:1104] -A PREROUTING -s 198.18.158.55/32 -j DROP
COMMIT
"""


@pytest.mark.parametrize(
    ("arm", "text"),
    [
        ("nft-raw", NFT),
        ("iptables-raw", IPTABLES),
        ("tc-flower", "dropped 11000,\ndropped 24,\n"),
    ],
)
def test_counters_are_read_as_the_tools_print_them(arm: str, text: str) -> None:
    assert RUNGS[arm].tools[0].dropped(text) == 11024
    assert RUNGS[arm].tools[0].dropped("") == 0


def cell(arm: str, addresses: int = 1, held: str = "rules", conntrack: str = "off") -> Cell:
    return Cell({"arm": arm, "addresses": addresses, "held": held, "conntrack": conntrack})


def test_what_a_rung_cannot_hold_is_refused() -> None:
    assert scenario_named("drop") is Drop
    refused = [
        cell("tc-flower", 10, "prefixes"),
        cell("tc-matchall", 2),
        cell("socket-filter", 2001),
        cell("xdp-native", 10_001),
        cell("flowtable"),
        cell("application", 1, "prefixes"),
    ]
    assert all(map(Drop.refusal, refused))
    assert not any(
        Drop.refusal(each)
        for each in (
            cell("xdp-native", 100_000, "set"),
            cell("iptables-raw", 100_000, "prefixes"),
            cell("flowtable", conntrack="on"),
            cell("socket-filter", 2000),
            cell("forward", conntrack="on"),
        )
    )


def drop_with(sent_: float, dropped: float, passed: float) -> Drop:
    scenario = Drop({})
    scenario.sent, scenario.dropped, scenario.passed = sent_, dropped, passed
    return scenario


def test_a_packet_that_nobody_counted_is_a_wrong_state() -> None:
    drop_with(1088, 1024, 64).check({}, cell("nft-raw"))
    drop_with(1088, 1088, 0).check({}, cell("empty"))
    drop_with(1088, 0, 1088).check({}, cell("forward"))
    for arm, counts in (
        ("nft-raw", (1088, 1023, 64)),
        ("nft-raw", (1088, 1088, 0)),
        ("empty", (1088, 1087, 0)),
        ("forward", (1088, 0, 1087)),
    ):
        with pytest.raises(WrongState, match="packets"):
            drop_with(*counts).check({}, cell(arm))


def test_each_rung_has_one_that_counts() -> None:
    for arm, rung in RUNGS.items():
        assert (rung.counter is Counter.HOOK) <= bool(rung.hook), arm
        if rung.counter is Counter.TOOL:
            (tool,) = rung.tools
            assert tool.asked and tool.pattern, arm


def test_a_ratio_is_near_alike_or_neither() -> None:
    assert Finding.of_ratio(0.70, 0.657, 2) is Finding.REPRODUCED
    assert Finding.of_ratio(0.5, 0.657, 2) is Finding.IN_PART
    assert Finding.of_ratio(1.01, 0.657, 2) is Finding.NOT_REPRODUCED  # the other way round
    assert Finding.of_ratio(12, 4.83, 2) is Finding.NOT_REPRODUCED


def test_the_ladders_neighbours_that_are_swapped_are_named() -> None:
    order = ("application", "socket-filter", "iptables-input", "nft-ingress", "iptables-raw")
    rates: dict[str, Any] = {arm: place for place, arm in enumerate(order)}
    rates |= {"tc-matchall": 10, "xdp-native": 20}
    assert swapped(rates) == []
    rates["socket-filter"] = 2
    assert swapped(rates) == [("socket-filter", "iptables-input")]


def test_what_a_guest_says_is_who_counted_it() -> None:
    scenario = Drop({})
    words = "sent 100\nread_dropped 36\nread_passed 64\nsocket_dropped 5\nhook0 7\n"
    for arm, dropped, passed in (
        ("application", 36, 64),
        ("socket-filter", 5, 64),
        ("xdp-native", 7, 64),
        ("forward", 0, 7),
    ):
        scenario._count(Said(words), cell(arm), None)  # type: ignore[arg-type]
        assert (scenario.dropped, scenario.passed) == (dropped, passed), arm


def run_with(rates: dict[tuple[str, str], float], *, verified: bool = True) -> Run:
    """A run of one address, as rules: packets a second by rung and conntrack."""
    samples = [
        sample_in(
            "nosysfs",
            cell(arm, conntrack=tracked),
            {"packets_per_second": rate},
            verified=verified,
        )
        for (arm, tracked), rate in rates.items()
    ]
    return run_of(["nosysfs"], samples, scenario="drop", shape=Drop.shape.to_json())


PUBLISHED = {
    ("iptables-raw", "off"): 5_051_787.0,
    ("iptables-input", "off"): 3_319_718.0,
    ("iptables-input", "on"): 1_819_409.0,
    ("xdp-native", "off"): 24_379_188.0,
    ("xdp-redirect", "off"): 8_649_872.0,
}
LADDER = {
    ("application", "off"): 1.0,
    ("socket-filter", "off"): 2.0,
    ("nft-ingress", "off"): 5_000_000.0,
    ("tc-matchall", "off"): 6_000_000.0,
}


def test_the_published_figures_reproduce_themselves() -> None:
    found = claims(run_with(PUBLISHED | LADDER))
    assert [each.finding for each in found] == [Finding.REPRODUCED] * 5
    assert [each.theirs.split()[0] for each in found[:4]] == ["0.657", "0.36", "4.83", "1.71"]


def test_a_run_without_the_rungs_measured_nothing_and_says_what_it_takes() -> None:
    for run in (run_with({}), run_with(PUBLISHED | LADDER, verified=False)):
        found = claims(run)
        assert [each.finding for each in found] == [Finding.NOT_MEASURED] * 5
        assert all("conntrack=" in each.why for each in found)


def test_a_claim_that_holds_in_part_says_that_instructions_are_no_cycles() -> None:
    found = claims(run_with(PUBLISHED | {("xdp-native", "off"): 15_000_000.0}))
    assert found[2].finding is Finding.IN_PART and "cycles" in found[2].why
    assert found[4].finding is Finding.NOT_MEASURED


def test_a_step_that_is_swapped_is_named_by_the_claim() -> None:
    last = claims(run_with(PUBLISHED | LADDER | {("socket-filter", "off"): 4_000_000.0}))[-1]
    assert last.finding is Finding.IN_PART
    assert "socket-filter before iptables-input" in last.why
