"""What the kernel's taint says of it."""

from __future__ import annotations

import pytest

from linklab.console.taint import new_faults, read_taint

W, D, O = 1 << 9, 1 << 7, 1 << 12  # noqa: E741 - the letters that the kernel prints


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0, 0, ""),
        (0, W, "W (warning)"),
        (W, W, ""),
        (W, W | D, "D (it died once)"),
        (0, W | D, "D (it died once), W (warning)"),
        (0, O, ""),  # somebody loaded a module of another tree
        (None, W, ""),
        (0, None, ""),
    ],
)
def test_new_bits_that_mean_a_fault_are_named(
    before: int | None, after: int | None, said: str
) -> None:
    assert new_faults(before, after) == said


def test_what_is_no_number_is_no_taint() -> None:
    assert read_taint(b"512\n") == W
    assert read_taint(b"") is None
