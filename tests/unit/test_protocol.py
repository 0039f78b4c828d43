"""Frames and fields: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.agent import protocol
from linklab.agent.protocol import (
    MARK,
    MAX_PARTS,
    PART_BYTES,
    Assembly,
    FieldError,
    FieldReader,
    Frame,
    FrameKind,
    Torn,
    decode_line,
    encode_fields,
    encode_frame,
    encode_parts_list,
    split,
)

EXAMPLE = Frame(FrameKind.REQUEST, 1, payload=encode_fields(["hello"]))
EXAMPLE_LINE = b"@LL1 q 00000001 0000 0001 0009 97ae2936 BQAAAGhlbGxv\n"

payloads = st.one_of(
    st.binary(max_size=60),
    st.binary(min_size=PART_BYTES - 3, max_size=PART_BYTES),
    st.sampled_from([MARK, MARK * 3, b"\n", b"\r\n", b"\0" * 5]),
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    parts = draw(st.integers(1, MAX_PARTS))
    return Frame(
        draw(st.sampled_from(FrameKind)),
        draw(st.integers(0, 0xFFFFFFFF)),
        draw(st.integers(0, parts - 1)),
        parts,
        draw(payloads),
    )


def other_text(**kwargs: int) -> st.SearchStrategy[bytes]:
    """What a kernel may write on the line: anything but a newline and our mark."""
    text = st.binary(**kwargs).map(lambda raw: raw.replace(b"\n", b"?"))
    return text.filter(lambda raw: b"@" not in raw)


class TestFrame:
    def test_looks_as_documented(self) -> None:
        assert encode_frame(EXAMPLE) == EXAMPLE_LINE
        assert decode_line(EXAMPLE_LINE) == EXAMPLE

    @given(frames())
    def test_survives_the_line(self, frame: Frame) -> None:
        line = encode_frame(frame)
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        assert decode_line(line[:-1]) == frame

    @given(frames(), other_text())
    def test_is_found_behind_other_text(self, frame: Frame, text: bytes) -> None:
        assert decode_line(text + encode_frame(frame)) == frame

    @given(frames(), st.sampled_from([b"\r", b"\r\r", b" \r", b"  "]))
    def test_bears_what_a_terminal_puts_behind_it(self, frame: Frame, behind: bytes) -> None:
        assert decode_line(encode_frame(frame)[:-1] + behind) == frame

    @given(frames(), st.data())
    def test_is_torn_by_text_behind_or_inside_of_it(
        self, frame: Frame, data: st.DataObject
    ) -> None:
        line = encode_frame(frame)[:-1]
        text = data.draw(other_text(min_size=1).filter(lambda raw: raw.strip(b"\r ") != b""))
        at = data.draw(st.integers(len(MARK), len(line)))
        assert decode_line(line[:at] + text + line[at:]) == Torn(line[:at] + text + line[at:])

    @given(frames(), frames())
    def test_two_in_one_line_give_the_second(self, first: Frame, second: Frame) -> None:
        assert decode_line(encode_frame(first)[:-1] + encode_frame(second)) == second

    @given(frames(), frames(), st.data())
    def test_one_cut_short_by_the_next_gives_the_next(
        self, first: Frame, second: Frame, data: st.DataObject
    ) -> None:
        line = encode_frame(first)
        cut = data.draw(st.integers(0, len(line) - 1))
        assert decode_line(line[:cut] + encode_frame(second)) == second

    @given(frames(), st.data())
    def test_cut_short_is_never_a_frame(self, frame: Frame, data: st.DataObject) -> None:
        line = encode_frame(frame).rstrip(b"\n ")
        cut = data.draw(st.integers(0, len(line) - 1))
        assert not isinstance(decode_line(line[:cut]), Frame)

    def test_of_a_kind_nobody_knows_is_torn(self) -> None:
        assert isinstance(decode_line(EXAMPLE_LINE.replace(b" q ", b" x ")), Torn)

    def test_whose_part_is_beyond_its_parts_is_torn(self) -> None:
        line = encode_frame(Frame(FrameKind.REPLY, 1, part=2, parts=2))
        assert isinstance(decode_line(line), Torn)

    @given(other_text())
    def test_is_not_seen_in_other_text(self, text: bytes) -> None:
        assert decode_line(text) is None

    @given(st.binary(), st.binary())
    def test_decoding_takes_any_bytes(self, before: bytes, behind: bytes) -> None:
        assert not isinstance(decode_line(before + MARK + behind), Frame)


def damaged_by_one_byte(line: bytes) -> Iterator[bytes]:
    """Every line that differs from this one in one byte: changed, lost, or put in."""
    for at in range(len(line)):
        yield line[:at] + line[at + 1 :]
        for byte in range(256):
            yield line[:at] + bytes([byte]) + line[at + 1 :]
            yield line[:at] + bytes([byte]) + line[at:]


class TestDamage:
    @pytest.mark.parametrize(
        "frame",
        [
            EXAMPLE,
            Frame(FrameKind.UNKNOWN, 0),
            Frame(FrameKind.REPLY, 0xFFFFFFFF, 7, 9, b"\0\0\0\0\xff"),
            Frame(FrameKind.RESEND, 0x10, payload=encode_parts_list([1, 2])),
        ],
        ids=lambda frame: str(frame.kind.name),
    )
    def test_of_any_one_byte_never_gives_another_frame(self, frame: Frame) -> None:
        for line in damaged_by_one_byte(encode_frame(frame)[:-1]):
            found = decode_line(line)
            assert not isinstance(found, Frame) or found == frame, line

    @given(frames(), st.data())
    def test_of_up_to_four_neighbouring_bytes_never_gives_another_frame(
        self, frame: Frame, data: st.DataObject
    ) -> None:
        line = encode_frame(frame)[:-1]
        at = data.draw(st.integers(0, len(line) - 1))
        new = data.draw(st.binary(min_size=1, max_size=4))
        found = decode_line(line[:at] + new + line[at + len(new) :])
        assert not isinstance(found, Frame) or found == frame

    @given(frames(), st.data())
    def test_by_swapped_bytes_never_gives_another_frame(
        self, frame: Frame, data: st.DataObject
    ) -> None:
        line = bytearray(encode_frame(frame)[:-1])
        at = data.draw(st.integers(0, len(line) - 2))
        line[at], line[at + 1] = line[at + 1], line[at]
        found = decode_line(bytes(line))
        assert not isinstance(found, Frame) or found == frame


class TestSplit:
    @given(st.binary(max_size=40), st.integers(0, 4))
    def test_gives_the_body_in_order(self, tail: bytes, whole_parts: int) -> None:
        body = bytes(range(256)) * (PART_BYTES // 256) * whole_parts + tail
        parts = list(split(FrameKind.REPLY, 5, body))
        assert b"".join(frame.payload for frame in parts) == body
        assert [frame.part for frame in parts] == list(range(len(parts)))
        assert {frame.parts for frame in parts} == {len(parts)}
        assert all(len(frame.payload) <= PART_BYTES for frame in parts)

    def test_needs_no_empty_part_behind_a_full_one(self) -> None:
        assert len(list(split(FrameKind.REPLY, 5, bytes(PART_BYTES)))) == 1

    def test_sends_an_empty_body_as_one_frame(self) -> None:
        assert list(split(FrameKind.POKE, 9, b"")) == [Frame(FrameKind.POKE, 9)]

    def test_refuses_a_body_beyond_the_number_of_parts(self) -> None:
        with pytest.raises(FieldError, match="does not fit"):
            next(split(FrameKind.REQUEST, 1, bytes(PART_BYTES * MAX_PARTS + 1)))


class TestAssembly:
    @given(st.binary(min_size=1, max_size=5 * PART_BYTES), st.data())
    def test_takes_parts_in_any_order_and_any_number(
        self, body: bytes, data: st.DataObject
    ) -> None:
        parts = list(split(FrameKind.REPLY, 1, body))
        doubled = data.draw(st.lists(st.sampled_from(parts), max_size=4))
        assembly = Assembly()
        for frame in data.draw(st.permutations(parts + doubled)):
            assembly.add(frame)
        assert assembly.missing == []
        assert assembly.body == body

    def test_knows_what_is_missing(self) -> None:
        assembly = Assembly()
        assert (assembly.started, assembly.missing, assembly.body) == (False, [], None)
        assembly.add(Frame(FrameKind.REPLY, 1, 2, 4, b"c"))
        assert (assembly.started, assembly.missing, assembly.body) == (True, [0, 1, 3], None)

    def test_drops_a_part_of_another_count(self) -> None:
        assembly = Assembly()
        assembly.add(Frame(FrameKind.REPLY, 1, 0, 2, b"a"))
        assembly.add(Frame(FrameKind.REPLY, 1, 1, 3, b"x"))
        assert assembly.missing == [1]
        assembly.add(Frame(FrameKind.REPLY, 1, 1, 2, b"b"))
        assert assembly.body == b"ab"

    def test_keeps_the_first_of_two_that_contradict(self) -> None:
        assembly = Assembly()
        assembly.add(Frame(FrameKind.REPLY, 1, 0, 2, b"a"))
        assembly.add(Frame(FrameKind.REPLY, 1, 0, 2, b"z"))
        assembly.add(Frame(FrameKind.REPLY, 1, 1, 2, b"b"))
        assert assembly.body == b"ab"

    def test_an_empty_body_is_a_body(self) -> None:
        assembly = Assembly()
        assembly.add(Frame(FrameKind.REPLY, 1))
        assert assembly.body == b""


def test_a_list_of_parts_fits_into_one_frame() -> None:
    payload = encode_parts_list(range(MAX_PARTS))
    assert len(payload) == PART_BYTES
    assert payload[:6] == b"\x00\x00\x01\x00\x02\x00"


fields = st.lists(st.one_of(st.binary(max_size=40), st.text(), st.integers(0, 2**64 - 1)))


class TestFields:
    @given(fields)
    def test_come_back_in_order(self, values: list[bytes | str | int]) -> None:
        reader = FieldReader(encode_fields(values))
        for left, value in zip(range(len(values), 0, -1), values, strict=True):
            assert reader.left == left
            match value:
                case bytes():
                    assert reader.take_bytes() == value
                case str():
                    assert reader.take_text() == value
                case int():
                    assert reader.take_int() == value
        assert reader.left == 0

    @given(st.binary(max_size=60))
    def test_are_read_in_one_way_or_not_at_all(self, body: bytes) -> None:
        try:
            reader = FieldReader(body)
        except FieldError:
            return
        assert encode_fields([reader.take_bytes() for _ in range(reader.left)]) == body

    @given(fields.filter(bool), st.data())
    def test_a_body_cut_short_lacks_its_last_field(
        self, values: list[bytes | str | int], data: st.DataObject
    ) -> None:
        body = encode_fields(values)
        last = len(encode_fields(values[-1:]))
        cut = len(body) - data.draw(st.integers(1, last))
        with pytest.raises(FieldError):
            reader = FieldReader(body[:cut])
            for _ in values:
                reader.take_bytes()

    def test_a_number_has_eight_bytes(self) -> None:
        with pytest.raises(FieldError, match="4 bytes instead of 8"):
            FieldReader(encode_fields([b"1234"])).take_int()

    def test_one_that_is_missing_is_told(self) -> None:
        with pytest.raises(FieldError, match="missing"):
            FieldReader(b"").take_bytes()

    def test_text_that_is_no_utf8_is_still_text(self) -> None:
        assert FieldReader(encode_fields([b"a\xffb"])).take_text() == "a\ufffdb"

    def test_a_field_error_is_a_value_error(self) -> None:
        assert issubclass(protocol.FieldError, ValueError)
