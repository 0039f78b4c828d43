"""Programs of BPF, assembled by hand: what sends packets, and what drops or redirects them.

A program goes to the guest as a file that `guest/traffic/flood.c` reads: its type, its
maps with their entries, its instructions. So nobody needs clang. Instructions are those of
the kernel's Documentation/bpf/standardization/instruction-set.rst; classic BPF is that of
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from linklab.errors import LabError

SOCKET_FILTER, SCHED_CLS, XDP = 1, 3, 6  # BPF_PROG_TYPE_*
CLASSIC = 0
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
_VERDICTS = {XDP: (XDP_DROP, XDP_PASS), SCHED_CLS: (2, 0), SOCKET_FILTER: (0, -1)}
"""How a type drops, and how it lets pass: TC_ACT_SHOT, TC_ACT_OK; the bytes to keep."""
_DATA = {XDP: (0, 4), SCHED_CLS: (76, 80)}  # where the context says where the packet lies

FIRST = IPv4Address("198.18.0.0")  # RFC 2544: a network for measurements, a /15
_NETWORK = 1 << 17
_SCATTER = 40503  # odd: neighbours on the list are none in the network
_STRIDE = 7_368_787  # a prime, so each comes as often; soon from all over the list
MOST_LISTED = 100_000
_OTHER = _NETWORK - 1
_FIRST_PORT = 1024
POLL = 64  # packets that come at once
_WARM = 16 * POLL  # before those that are timed: all flows are known, all caches filled

_HASH, _ARRAY, _TRIE, _DEVMAP = 1, 2, 11, 14  # BPF_MAP_TYPE_*
_NO_PREALLOC = 1
_LOOKUP, _KTIME, _REDIRECT, _REDIRECT_MAP = 1, 5, 23, 51  # helpers
_COUNTER = 0  # the map that each program begins with

# Opcodes, as the comments in the instructions' list name them.
_LD_IMM64, _LD_ABS_W = 0x18, 0x20
_LDX_W, _LDX_H, _LDX_DW, _STX_W, _STX_H, _STX_DW = 0x61, 0x69, 0x79, 0x63, 0x6B, 0x7B
_ST_W, _ST_B, _ATOMIC_DW = 0x62, 0x72, 0xDB
_ADD_K, _ADD_X, _MUL_K, _MOD_K, _AND_K, _RSH_K, _XOR_K = 0x07, 0x0F, 0x27, 0x97, 0x57, 0x77, 0xA7
_MOV_K, _MOV_X, _BE = 0xB7, 0xBF, 0xDC
_JA, _JEQ_K, _JGT_X, _JNE_K, _JNE32_K, _CALL, _EXIT = 0x05, 0x15, 0x2D, 0x55, 0x56, 0x85, 0x95
_SUB32_K = 0x14
_W, _H = (_LDX_W, _STX_W), (_LDX_H, _STX_H)
_AS_MAP, _AS_VALUE = 1, 2  # what the number of a map stands for: BPF_PSEUDO_MAP_FD, _VALUE


def address_at(number: int) -> IPv4Address:
    """Return the address at a place of the list."""
    return FIRST + number * _SCATTER % _NETWORK


def packed(count: int) -> bytes:
    """Return the addresses on the list as numbers, in the order of these."""
    first = int(FIRST)
    numbers = sorted(first + number * _SCATTER % _NETWORK for number in range(count))
    return struct.pack(f"<{count}I", *numbers)


OTHER = address_at(_OTHER)
"""An address that is on no list."""


@dataclass(frozen=True)
class Map:
    """A map and what is in it."""

    kind: int
    key: int
    value: int
    most: int
    flags: int = 0
    entries: bytes = b""

    def to_bytes(self) -> bytes:
        """Return it as a file has it."""
        count = len(self.entries) // (self.key + self.value)
        head = (self.kind, self.key, self.value, self.most, self.flags, count)
        return struct.pack("<6I", *head) + self.entries


COUNTER = Map(_ARRAY, 4, 8, 1)


def object_of(kind: int, code: Sequence[bytes], maps: Iterable[Map] = ()) -> bytes:
    """Return a program as a file has it."""
    made = [each.to_bytes() for each in maps]
    return b"".join((struct.pack("<3I", kind, len(made), len(code)), *made, *code))


@dataclass
class Code:
    """Instructions, and jumps to places that have names."""

    _made: list[tuple[int, int, int, int, int, str]] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def op(
        self, code: int, dst: int = 0, src: int = 0, *, off: int = 0, imm: int = 0, to: str = ""
    ) -> Self:
        """Add an instruction, a jump with the name of a place."""
        self._made.append((code, dst, src, off, imm, to))
        return self

    def map(self, dst: int, number: int, what: int = _AS_MAP) -> Self:
        """Load a map, or the address of the first value of one. It takes two instructions."""
        return self.op(_LD_IMM64, dst, what, imm=number).op(0)

    def place(self, name: str) -> Self:
        """Name what comes next."""
        self._places[name] = len(self._made)
        return self

    def assembled(self) -> list[bytes]:
        """Return the instructions, 8 bytes each. Raises `LabError` for a jump to nowhere."""
        found = []
        for at, (code, dst, src, off, imm, to) in enumerate(self._made):
            if to and to not in self._places:
                raise LabError(f"a program of BPF jumps to {to}, which is no place in it")
            distance = self._places[to] - at - 1 if to else off
            if not -(1 << 15) <= distance < 1 << 15:
                raise LabError(f"a jump over {distance} instructions: BPF jumps over 32767")
            number = imm - (1 << 32) if imm >= 1 << 31 else imm
            found.append(struct.pack("<BBhi", code, dst | src << 4, distance, number))
        return found


def _verdict(code: Code, number: int) -> Code:
    return code.op(_MOV_K, 0, imm=number).op(_EXIT)


def _count(code: Code) -> Code:
    """Count a packet in the first map. It takes registers 1 and 2."""
    return code.map(1, _COUNTER, _AS_VALUE).op(_MOV_K, 2, imm=1).op(_ATOMIC_DW, 1, 2)


def _within(code: Code, length: int, data: tuple[int, int] = _DATA[XDP]) -> Code:
    """Have the packet at register 6; one that is shorter passes."""
    code.op(_LDX_W, 6, 1, off=data[0]).op(_LDX_W, 7, 1, off=data[1])
    return code.op(_MOV_X, 4, 6).op(_ADD_K, 4, imm=length).op(_JGT_X, 4, 7, to="pass")


def dropping_all() -> bytes:
    """Return the least that counts and drops at XDP: it does not look at the packet."""
    return object_of(XDP, _verdict(_count(Code()), XDP_DROP).assembled(), [COUNTER])


def passing_all() -> bytes:
    """Return what counts packets at XDP, and lets them pass."""
    return object_of(XDP, _verdict(_count(Code()), XDP_PASS).assembled(), [COUNTER])


def dropping_timed(window: tuple[int, int]) -> bytes:
    """Return the same with the instants of two packets behind the counter."""
    code = _verdict(_numbered(Code(), window), XDP_DROP)
    return object_of(XDP, code.assembled(), [Map(_ARRAY, 4, 24, 1)])


def _numbered(code: Code, window: tuple[int, int]) -> Code:
    """Have the packet's number at register 8, and keep the instants of two. It takes 9, too."""
    code.map(9, _COUNTER, _AS_VALUE).op(_LDX_DW, 8, 9)
    code.op(_MOV_X, 4, 8).op(_ADD_K, 4, imm=1).op(_STX_DW, 9, 4)
    for offset, which in zip((8, 16), window, strict=True):
        code.op(_JNE_K, 8, imm=which, to=f"not-{offset}")
        code.op(_CALL, imm=_KTIME).op(_STX_DW, 9, 0, off=offset).place(f"not-{offset}")
    return code


def answering() -> bytes:
    """Return what counts packets of UDP at XDP, and sends each back to where it came from."""
    code = _within(_count(Code().op(_MOV_X, 3, 1)).op(_MOV_X, 1, 3), 42)
    # MACs, addresses and ports change places; sums stay as they are.
    for size, here, there in ((_W, 0, 6), (_H, 4, 10), (_W, 26, 30), (_H, 34, 36)):
        load, store = size
        code.op(load, 2, 6, off=here).op(load, 3, 6, off=there)
        code.op(store, 6, 3, off=here).op(store, 6, 2, off=there)
    _verdict(code, XDP_TX)
    return object_of(XDP, _verdict(code.place("pass"), XDP_PASS).assembled(), [COUNTER])


def classifying(interface: int, handle: int) -> bytes:
    """Return what has tc send packets on by an interface, in a class for each address.

    Classes are numbered from 1 in the order of the list, below a qdisc's handle: a packet's
    priority names its class (tc-htb(8)).
    """
    code = _within(_count(Code().op(_MOV_X, 8, 1)).op(_MOV_X, 1, 8), 34, _DATA[SCHED_CLS])
    code.op(_LDX_W, 5, 6, off=26).op(_BE, 5, imm=32).op(_SUB32_K, 5, imm=int(FIRST))
    code.op(_MUL_K, 5, imm=pow(_SCATTER, -1, _NETWORK)).op(_AND_K, 5, imm=_NETWORK - 1)
    code.op(_ADD_K, 5, imm=(handle << 16) + 1).op(_STX_W, 8, 5, off=32)
    code.op(_MOV_K, 1, imm=interface).op(_MOV_K, 2, imm=0).op(_CALL, imm=_REDIRECT).op(_EXIT)
    return object_of(SCHED_CLS, _verdict(code.place("pass"), 0).assembled(), [COUNTER])


def dropping(kind: int, held: str, count: int) -> bytes:
    """Return what drops packets from the first `count` addresses, and counts them.

    They are `held` as comparisons one after the other (`rules`), in a hash (`set`) or in a
    tree of prefixes (`prefixes`).
    """
    drops, passes = _VERDICTS[kind]
    code, maps = Code(), [COUNTER]
    if kind == SOCKET_FILTER:
        # The socket is handed what is behind the UDP header; SKF_NET_OFF is where IP begins.
        code.op(_MOV_X, 6, 1).op(_LD_ABS_W, imm=_NET_OFFSET + 12)
        code.op(_BE, 0, imm=32).op(_MOV_X, 5, 0)
    else:
        _within(code, 34, _DATA[kind]).op(_LDX_H, 5, 6, off=12)
        code.op(_JNE_K, 5, imm=_swapped(0x0800), to="pass").op(_LDX_W, 5, 6, off=26)
    listed = [address_at(number).packed for number in range(count)]
    if held == "rules":
        for number, each in enumerate(listed):
            (value,) = struct.unpack("<I", each)
            code.op(_JNE32_K, 5, imm=value, to=f"after-{number}").op(_JA, to="drop")
            code.place(f"after-{number}")
        code.op(_JA, to="pass")
    else:
        maps.append(_holding(held, listed))
        code.op(_STX_W, 10, 5, off=-4).op(_MOV_X, 2, 10)
        if held == "prefixes":
            code.op(_ST_W, 10, off=-8, imm=32).op(_ADD_K, 2, imm=-8)
        else:
            code.op(_ADD_K, 2, imm=-4)
        code.map(1, 1).op(_CALL, imm=_LOOKUP).op(_JEQ_K, 0, imm=0, to="pass")
    _verdict(_count(code.place("drop")), drops)
    return object_of(kind, _verdict(code.place("pass"), passes).assembled(), maps)


def _holding(held: str, listed: Sequence[bytes]) -> Map:
    if held == "prefixes":
        entries = b"".join(struct.pack("<I", 32) + each + b"\1" for each in listed)
        return Map(_TRIE, 8, 1, len(listed), _NO_PREALLOC, entries)
    return Map(_HASH, 4, 1, len(listed), 0, b"".join(each + b"\1" for each in listed))


def classic_filter(count: int) -> bytes:
    """Return the same as classic BPF for a socket: comparisons, and no counter."""
    code = [struct.pack("<HBBI", 0x20, 0, 0, _NET_OFFSET % (1 << 32) + 12)]
    for number in range(count):
        code.append(struct.pack("<HBBI", 0x15, 0, 1, int(address_at(number))))
        code.append(struct.pack("<HBBI", 0x06, 0, 0, 0))
    return object_of(CLASSIC, [*code, struct.pack("<HBBI", 0x06, 0, 0, 0xFFFFFFFF)])


_NET_OFFSET = -0x100000  # SKF_NET_OFF


def redirecting(interface: int, ethernet: bytes) -> bytes:
    """Return what sends all packets out by an interface, by its number, with other MACs."""
    code = _with_macs(_within(Code(), 14), ethernet)
    code.map(1, 1).op(_MOV_K, 2, imm=0).op(_MOV_K, 3, imm=XDP_DROP)
    code.op(_CALL, imm=_REDIRECT_MAP).op(_EXIT)
    devices = Map(_DEVMAP, 4, 4, 1, 0, struct.pack("<2I", 0, interface))
    return object_of(XDP, _verdict(code.place("pass"), XDP_PASS).assembled(), [COUNTER, devices])


def _with_macs(code: Code, ethernet: bytes) -> Code:
    for offset, word in zip((0, 4, 8), struct.unpack("<3I", ethernet), strict=True):
        code.op(_ST_W, 6, off=offset, imm=word)
    return code


@dataclass(frozen=True)
class Stream:
    """Packets in their order: the same each time, from so many addresses and ports in turns."""

    timed: int
    """How many of them are timed: in polls, behind those that warm up."""
    addresses: int = 1
    """None: from one that is on no list."""
    flows: int = 1
    """The ports that each address sends from."""
    first: int = 0
    """The number of the first packet, where another stream goes on."""
    period: int = 0
    """After how many packets they are the same again, where addresses and ports do not say it."""

    @classmethod
    def of(cls, packets: int, addresses: int, flows: int) -> Self:
        """Return one of exactly so many packets, 1088 at least: what it takes does not matter."""
        return cls(packets - _WARM - POLL, addresses, flows)

    @property
    def window(self) -> tuple[int, int]:
        """The packets that time begins and ends with, each the first one of a poll."""
        begin = self.first + _WARM
        return begin, begin + self.timed

    @property
    def packets(self) -> int:
        """How many are sent."""
        return _WARM + self.timed + POLL


@dataclass(frozen=True)
class Packet:
    """What is sent: 64 bytes with the check sum of Ethernet, which no interface here has.

    `ethernet` is the receiver's MAC and then the sender's.
    """

    ethernet: bytes
    target: IPv4Address
    port: int

    def frame(self) -> bytes:
        """Return it, from no address: the program that sends it fills one in."""
        payload = bytes(18)
        udp = struct.pack(">4H", 0, self.port, 8 + len(payload), 0)  # no check sum of UDP's
        return self.ethernet + b"\x08\x00" + self._ip(len(udp + payload)) + udp + payload

    def _ip(self, length: int) -> bytes:
        head = struct.pack(">2B3H2BH", 0x45, 0, 20 + length, 0, 0, 64, 17, 0)
        return head + bytes(4) + self.target.packed

    def sender(self, stream: Stream, interface: int | None) -> bytes:
        """Return what sends packets of a stream by an interface, or only drops them.

        All that the way of a packet may have changed is written anew, since the
        kernel uses frames again. Behind the counter stands when each of the two packets
        of the stream's window was made.
        """
        code = _numbered(_within(Code(), 42), stream.window)
        if stream.period:
            code.op(_MOD_K, 8, imm=stream.period)
        if stream.addresses:
            code.op(_MOV_X, 2, 8).op(_MUL_K, 2, imm=_STRIDE)
            code.op(_MOD_K, 2, imm=stream.addresses)
        else:
            code.op(_MOV_K, 2, imm=_OTHER)
        code.op(_MUL_K, 2, imm=_SCATTER).op(_AND_K, 2, imm=_NETWORK - 1)
        code.op(0xB4, 4, imm=int(FIRST)).op(_ADD_X, 2, 4)
        # The sum of the header's words (RFC 1071), those of the source added to the others.
        others = sum(struct.unpack(">10H", self._ip(26)))
        code.op(_MOV_X, 3, 2).op(_RSH_K, 3, imm=16).op(_MOV_X, 4, 2).op(_AND_K, 4, imm=0xFFFF)
        code.op(_ADD_X, 3, 4).op(_ADD_K, 3, imm=others)
        for _ in range(2):
            code.op(_MOV_X, 4, 3).op(_RSH_K, 4, imm=16).op(_AND_K, 3, imm=0xFFFF).op(_ADD_X, 3, 4)
        code.op(_XOR_K, 3, imm=0xFFFF).op(_BE, 3, imm=16).op(_STX_H, 6, 3, off=24)
        code.op(_BE, 2, imm=32).op(_STX_W, 6, 2, off=26).op(_ST_B, 6, off=22, imm=64)
        code.op(_MOD_K, 8, imm=stream.flows).op(_ADD_K, 8, imm=_FIRST_PORT)
        code.op(_BE, 8, imm=16).op(_STX_H, 6, 8, off=34)
        _with_macs(code, self.ethernet)
        if interface is not None:
            code.op(_MOV_K, 1, imm=interface).op(_MOV_K, 2, imm=0)
            code.op(_CALL, imm=_REDIRECT).op(_EXIT)
        code = _verdict(code.place("pass"), XDP_DROP)
        begun = struct.pack("<I3Q", 0, stream.first, 0, 0)
        return object_of(XDP, code.assembled(), [Map(_ARRAY, 4, 24, 1, 0, begun)])


def _swapped(word: int) -> int:
    return int.from_bytes(word.to_bytes(2, "big"), "little")
