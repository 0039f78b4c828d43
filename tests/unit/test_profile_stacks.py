"""Samples from `perf script`'s text to collapsed stacks and back."""

from __future__ import annotations

from collections import Counter

import pytest
from fake_perf import kernel_sample, user_sample
from hypothesis import given
from hypothesis import strategies as st

from linklab.errors import LabError
from linklab.profile.stacks import (
    Samples,
    collapsed,
    frame_name,
    is_kernel,
    read_collapsed,
    read_script,
)


def test_a_chain_becomes_a_stack_from_the_process_to_what_ran() -> None:
    samples = read_script(kernel_sample("ip", "inner", "outer"))
    assert samples.stacks == {("ip", "outer_[k]", "inner_[k]"): 1}


def test_user_space_is_the_program_or_library_that_ran() -> None:
    text = user_sample("ip", "/usr/lib/libc.so.6") + user_sample("ip", "[vdso]")
    assert set(read_script(text).stacks) == {("ip", "[libc.so.6]"), ("ip", "[vdso]")}


def test_of_user_space_only_the_frame_that_entered_the_kernel_is_believed() -> None:
    guessed = "\t7ffe00000001 [unknown] (/bin/ip)\n\t51 [unknown] ([unknown])\n\n"
    text = kernel_sample("ip", "inner", "outer").rstrip("\n") + "\n"
    assert set(read_script(text + guessed).stacks) == {("ip", "[ip]", "outer_[k]", "inner_[k]")}
    assert set(read_script("ip 7 \n" + guessed).stacks) == {("ip", "[ip]")}


def test_idle_and_perf_itself_are_counted_and_left_out() -> None:
    text = (
        kernel_sample("swapper", "default_idle")
        + kernel_sample("perf", "do_poll")
        + user_sample("perf", "/bin/perf")
        + user_sample("ip", "/bin/ip")
    )
    samples = read_script(text)
    assert (samples.work, samples.idle, samples.sampler, samples.total) == (1, 1, 2, 4)


def test_kernel_workers_are_one_whatever_they_are_called() -> None:
    text = kernel_sample("kworker/0:1-events", "f") + kernel_sample("kworker/u4:2", "f")
    assert read_script(text).stacks == {("kworker", "f_[k]"): 2}


def test_names_with_blanks_and_semicolons_do_not_tear_a_stack() -> None:
    samples = read_script(kernel_sample("a b;c", "f"))
    assert read_collapsed(collapsed(samples.stacks)) == {("a b:c", "f_[k]"): 1}


def test_a_sample_without_a_frame_still_counts() -> None:
    assert read_script("              ip     7 \n\n").stacks == {("ip", "[unknown]"): 1}


@pytest.mark.parametrize("text", ["Error: something\n", "ip 7 \n\tnonsense\n", "ip 7 7fff what\n"])
def test_text_that_is_no_sample_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="printed what is no"):
        read_script(text)


def test_lots_of_samples_add_up() -> None:
    samples = Samples()
    for _ in range(2):
        samples.add(read_script(user_sample("ip", "/bin/ip") + kernel_sample("swapper", "idle")))
    assert (samples.work, samples.idle) == (2, 2)


@pytest.mark.parametrize("text", ["no count\n", " 3\n", "a;b x\n"])
def test_a_line_that_is_no_collapsed_stack_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="no collapsed stack"):
        read_collapsed(text)


FRAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=";"), min_size=1)


@given(st.dictionaries(st.lists(FRAMES, min_size=1).map(tuple), st.integers(1, 10**6)))
def test_collapsing_loses_nothing_and_orders_lines(stacks: dict[tuple[str, ...], int]) -> None:
    text = collapsed(stacks)
    assert read_collapsed(text) == Counter(stacks)
    assert text == collapsed(dict(reversed(stacks.items())))


def test_a_frame_knows_its_space() -> None:
    assert is_kernel("f_[k]") and frame_name("f_[k]") == "f"
    assert not is_kernel("[ip]") and frame_name("[ip]") == "[ip]"
