"""Shares, their intervals, and when there are enough samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.profile.stacks import LEAST, SamplingRule, Stack, kernel_share, share_of, symbol_shares


def test_the_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, method 3.
    share = share_of(81, 263)
    assert (round(share.low, 4), round(share.high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_the_interval_holds_the_share_and_stays_a_share(among: int, samples: int) -> None:
    share = share_of(min(samples, among), among)
    assert 0 <= share.low <= share.share <= share.high <= 1


def test_without_samples_nothing_is_known() -> None:
    share = share_of(0, 0)
    assert (share.low, share.high) == (0, 1)


STACKS: dict[Stack, int] = {
    ("ip", "outer_[k]", "inner_[k]"): 30,
    ("ip", "outer_[k]"): 10,
    ("ip", "outer_[k]", "again_[k]", "outer_[k]"): 5,
    ("ip", "[libc.so.6]"): 55,
}


def test_a_symbols_own_share_and_that_with_what_it_calls() -> None:
    shares = {symbol.symbol: symbol for symbol in symbol_shares(STACKS)}
    assert list(shares) == ["[libc.so.6]", "inner", "outer", "again"]
    assert shares["outer"].own.samples == 15
    assert shares["outer"].total.samples == 45  # once for a function that calls itself
    assert shares["again"].own.samples == 0
    assert [shares[name].space for name in ("outer", "[libc.so.6]")] == ["kernel", "user"]


def test_kernel_and_user_are_told_by_what_ran() -> None:
    assert kernel_share(STACKS).samples == 45


def halves(samples: int, part: float) -> dict[Stack, int]:
    top = round(samples * part)
    rest = samples - top
    return {("ip", "[a]"): top, ("ip", "[b]"): rest // 2, ("ip", "[c]"): rest - rest // 2}


def test_a_number_that_was_asked_for_is_the_rule() -> None:
    assert SamplingRule(5000).missing(halves(1200, 0.5)) == 3800
    assert SamplingRule(5000).missing(halves(5001, 0.5)) == 0
    assert "5000" in SamplingRule(5000).text


def test_without_one_there_are_never_less_than_the_least() -> None:
    assert SamplingRule().missing({}) == LEAST
    assert SamplingRule().missing(halves(LEAST - 1, 0.1)) == 1


@pytest.mark.parametrize(("part", "enough"), [(0.05, 1000), (0.2, 1537), (0.5, 2401), (0.9, 1000)])
def test_the_top_symbol_decides_how_many_are_enough(part: float, enough: int) -> None:
    share = share_of(round(enough * part), enough)
    assert (share.high - share.low) / 2 <= 0.0201
    # Only the top symbol counts, so the others are smaller.
    many: dict[Stack, int] = {("ip", "[a]"): round(1000 * part)}
    rest = 1000 - round(1000 * part)
    many |= {("ip", f"[{n}]"): rest // 50 for n in range(50)}
    assert abs(sum(many.values()) + SamplingRule().missing(many) - enough) <= 60


@given(st.integers(0, 20_000), st.floats(0.02, 0.98))
def test_following_the_rule_comes_to_an_end(have: int, part: float) -> None:
    rounds = 0
    while missing := SamplingRule().missing(halves(have, part)):
        have += missing
        rounds += 1
        assert rounds < 10
    assert have >= LEAST
