"""A machine for the programs of BPF that the lab assembles: enough of one to see what they do."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_PACKET, _CONTEXT, _STACK, _VALUE, _FOUND = 1 << 32, 2 << 32, 3 << 32, 4 << 32, 5 << 32
_SIZES = {0x00: "<I", 0x08: "<H", 0x10: "<B", 0x18: "<Q"}
_MASK = (1 << 64) - 1


@dataclass
class Machine:
    """A program, its maps, and the packet that it meets."""

    kind: int
    maps: list[tuple[int, dict[bytes, bytes]]]
    code: list[tuple[int, int, int, int, int]]
    memory: dict[int, bytearray] = field(default_factory=dict)
    redirected: int | None = None
    ticks: int = 0

    @classmethod
    def of(cls, content: bytes) -> Machine:
        """Read a program as the guest does."""
        kind, count, length = struct.unpack_from("<3I", content)
        at, maps = 12, []
        for _ in range(count):
            which, key, value, _most, _flags, entries = struct.unpack_from("<6I", content, at)
            at += 24
            held = {}
            for _ in range(entries):
                held[content[at : at + key]] = content[at + key : at + key + value]
                at += key + value
            maps.append((which, held))
        assert len(content) - at == 8 * length
        code = []
        for number in range(length):
            op, registers, off, imm = struct.unpack_from("<BBhi", content, at + 8 * number)
            code.append((op, registers & 15, registers >> 4, off, imm))
        begun = maps[0][1].get(bytes(4), b"") if maps else b""
        return cls(
            kind, maps, code, {_VALUE: bytearray(begun.ljust(64, b"\0")), _FOUND: bytearray(8)}
        )

    @property
    def priority(self) -> int:
        """What the last packet's priority was set to: of tc's context."""
        (value,) = struct.unpack_from("<I", self.memory[_CONTEXT], 32)
        return int(value)

    @property
    def counted(self) -> int:
        """The first number of the first map."""
        return self.numbers[0]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The first three numbers of the first map."""
        return struct.unpack_from("<3Q", self.memory[_VALUE])

    def _at(self, address: int) -> tuple[bytearray, int]:
        region = address & ~((1 << 32) - 1)
        return self.memory[region], address - region

    def load(self, address: int, form: str) -> int:
        """Read from memory; outside of all of it is a fault."""
        region, at = self._at(address)
        (value,) = struct.unpack_from(form, region, at)
        return int(value)

    def store(self, address: int, form: str, value: int) -> None:
        """Write to memory."""
        region, at = self._at(address)
        struct.pack_into(form, region, at, value & ((1 << 8 * struct.calcsize(form)) - 1))

    def run(self, packet: bytes) -> tuple[int, bytes]:
        """Let it meet a packet: its verdict, and what became of the packet."""
        self.memory[_PACKET] = bytearray(packet)
        self.memory[_CONTEXT] = context = bytearray(128)
        self.memory[_STACK] = bytearray(512)
        for at, value in ((0, 0), (4, len(packet)), (76, 0), (80, len(packet))):
            struct.pack_into("<I", context, at, value)
        registers = [0] * 11
        registers[1], registers[10] = _CONTEXT, _STACK + 512
        at = 0
        while True:
            op, dst, src, off, imm = self.code[at]
            at += 1
            if op == 0x95:
                return registers[0], bytes(self.memory[_PACKET])
            at = self._step(registers, at, (op, dst, src, off, imm))

    def _step(self, r: list[int], at: int, instruction: tuple[int, int, int, int, int]) -> int:
        op, dst, src, off, imm = instruction
        kind, form = op & 7, _SIZES[op & 0x18]
        if op == 0x18:
            r[dst] = _VALUE if src == 2 else imm
            return at + 1
        if op == 0x20:  # of a packet, as numbers are sent
            packet = bytes(self.memory[_PACKET])
            (r[0],) = struct.unpack_from(">I", packet, imm + 0x100000 + 14)
        elif op == 0x85:
            self._call(r, imm)
        elif op == 0xDB:
            self.store(r[dst] + off, "<Q", self.load(r[dst] + off, "<Q") + r[src])
        elif kind == 1:
            r[dst] = self.load(r[src] + off, form)
            if r[src] == _CONTEXT:
                r[dst] += _PACKET
        elif kind in (2, 3):
            self.store(r[dst] + off, form, imm if kind == 2 else r[src])
        elif op == 0xDC:
            r[dst] = int.from_bytes((r[dst] & ((1 << imm) - 1)).to_bytes(imm // 8, "little"), "big")
        elif kind in (4, 7):
            r[dst] = _arithmetic(op, r[dst], r[src] if op & 8 else imm)
            if kind == 4:
                r[dst] &= 0xFFFFFFFF
        elif _jumps(op, r[dst], r[src] if op & 8 else imm):
            return at + off
        return at

    def _call(self, r: list[int], helper: int) -> None:
        if helper == 5:
            r[0] = self.ticks = self.ticks + 100
        elif helper == 1:
            which, held = self.maps[r[1]]
            region, place = self._at(r[2])
            key = bytes(region[place : place + (8 if which == 11 else 4)])
            r[0] = _FOUND if key in held else 0
        else:
            assert helper in (23, 51)
            values = self.maps[r[1]][1].values() if helper == 51 else ()
            self.redirected = int.from_bytes(next(iter(values)), "little") if values else r[1]
            r[0] = 4


def _arithmetic(op: int, left: int, right: int) -> int:
    right &= _MASK
    what = op & 0xF0
    results = {
        0x00: left + right,
        0x10: left - right,
        0x20: left * right,
        0x50: left & right,
        0x70: left >> (right & 63),
        0x90: left % (right or 1),
        0xA0: left ^ right,
        0xB0: right,
    }
    return results[what] & _MASK


def _jumps(op: int, left: int, right: int) -> bool:
    if op & 7 == 6:
        left, right = left & 0xFFFFFFFF, right & 0xFFFFFFFF
    what = op & 0xF0
    results = {0x00: True, 0x10: left == right, 0x20: left > right, 0x50: left != right}
    return results[what]
