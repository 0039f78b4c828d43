"""Options as typed: what is right becomes a value, what is wrong says what would be right."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.bisect.criterion import FaultKind
from linklab.commands.machines import MachineOptions
from linklab.errors import UsageError, Verdict
from linklab.host.accel import Accel
from linklab.kernel.kernel import BuildOptions, check_kernel
from linklab.machine.spec import Boot, MachineType
from linklab.options import (
    choose,
    choose_list,
    flat,
    group,
    made,
    number,
    numbers,
    option,
    options_of,
    seconds,
    split_list,
    word,
)
from linklab.scenarios.grouping.change import Operation

WORDS = st.text(st.characters(exclude_characters=",", exclude_categories=["Z", "C"]), min_size=1)
COUNTS = st.integers(1, 32768)


def refused(act: Callable[[], object]) -> str:
    """What is said of an option that is refused."""
    with pytest.raises(UsageError) as caught:
        act()
    assert caught.value.verdict is Verdict.USAGE
    return caught.value.message


# Lists


@given(st.lists(WORDS, min_size=1, unique=True), st.data())
def test_a_list_is_its_words_whatever_stands_around_them(
    words: list[str], data: st.DataObject
) -> None:
    space = st.sampled_from(["", " ", "  ", "\t"])
    text = ",".join(f"{data.draw(space)}{word}{data.draw(space)}" for word in words)
    assert split_list("kernel", text) == words


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_an_empty_list_is_refused(text: str) -> None:
    message = refused(lambda: split_list("kernel", text))
    assert message == "--kernel is empty: a comma-separated list is expected"


@pytest.mark.parametrize("text", ["16,,64", "16,64,", ",16,64", "16, ,64"])
def test_a_list_with_a_gap_is_refused(text: str) -> None:
    """A variable of a script's was empty, or a word was lost: not for us to guess."""
    says = refused(lambda: split_list("counts", text))
    assert says == f"--counts {text}: nothing stands at a comma; is 16,64 meant?"


def test_a_word_that_is_there_twice_is_refused_and_named() -> None:
    message = refused(lambda: split_list("kernel", "sysfs,nosysfs, sysfs"))
    assert message == "--kernel names sysfs twice"


# Names


@pytest.mark.parametrize(
    ("option", "valid"),
    [
        ("accel", Accel),
        ("boot", Boot),
        ("machine", MachineType),
        ("operations", Operation),
        ("fault", FaultKind),
    ],
)
def test_an_unknown_name_is_refused_with_all_valid_ones(option: str, valid: type[StrEnum]) -> None:
    for one in ("frob", "", "FROB", str(next(iter(valid))).upper()):
        message = refused(lambda one=one: choose(option, one, valid))  # type: ignore[misc]
        assert message.startswith(f"--{option} {one}: unknown; valid are ")
        for member in valid:
            assert member.value in message
    for member in valid:
        assert choose(option, member.value, valid) is member


def test_one_unknown_name_in_a_list_is_enough() -> None:
    message = refused(lambda: choose_list("fault", "hang,frob,crash", FaultKind))
    assert message == "--fault frob: unknown; valid are crash, hang, fail, warning"


@given(st.lists(st.sampled_from(list(Operation)), min_size=1, unique=True))
def test_names_keep_their_order(wanted: list[Operation]) -> None:
    assert choose_list("operations", ",".join(wanted), Operation) == tuple(wanted)


def test_all_stands_for_all_and_for_nothing_beside_others() -> None:
    assert choose_list("fault", " all ", FaultKind) == tuple(FaultKind)
    assert "--fault all: unknown" in refused(lambda: choose_list("fault", "hang,all", FaultKind))


# Numbers


@given(st.lists(COUNTS, min_size=1, unique=True))
def test_numbers_come_in_order(wanted: list[int]) -> None:
    text = ", ".join(map(str, wanted))
    assert numbers("counts", text, 1, 32768) == tuple(sorted(wanted))


@given(COUNTS)
def test_thousands_may_be_set_apart(value: int) -> None:
    assert number("counts", f"{value:_}", 1, 32768) == value


def test_a_number_spelt_in_two_ways_counts_once() -> None:
    assert numbers("counts", "1024,1_024,512", 1, 32768) == (512, 1024)


@pytest.mark.parametrize(
    "text", ["many", "12x", "1.5", "1e3", "0x10", "1;2", "1 2", "-", "_", "nan", "9" * 5000]
)
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    message = refused(lambda: numbers("counts", f"128,{text}", 1, 32768))
    assert message == f"--counts {text}: a whole number is expected"


@pytest.mark.parametrize("text", ["0", "-1", "-0", "32769", "99999999999999999999"])
def test_a_number_beyond_its_limits_is_refused_with_the_limits(text: str) -> None:
    message = refused(lambda: numbers("counts", f"128,{text}", 1, 32768))
    assert message == f"--counts {int(text)}: a number from 1 to 32768 is expected"


@pytest.mark.parametrize("value", [1, 32768])
def test_the_limits_themselves_are_valid(value: int) -> None:
    assert number("counts", value, 1, 32768) == value


@given(st.text(st.sampled_from("0123456789,-_ +.xe٣\n")) | st.text())
def test_whatever_is_typed_gives_valid_numbers_or_a_usage_error(text: str) -> None:
    try:
        found = numbers("counts", text, 1, 32768)
    except UsageError as error:
        assert error.message.startswith("--counts ")
    else:
        assert found
        assert list(found) == sorted(set(found))
        assert all(1 <= value <= 32768 for value in found)


# Times


@pytest.mark.parametrize(
    ("text", "value"), [("0", None), ("0.0", None), ("-0", None), ("2.5", 2.5), ("1e6", 1e6)]
)
def test_seconds_with_nought_for_the_default(text: str, value: float | None) -> None:
    assert seconds("timeout", text) == value


@pytest.mark.parametrize("text", ["", "soon", "1s", "1,5", "--"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    message = refused(lambda: seconds("timeout", text))
    assert message == f"--timeout {text}: a number of seconds is expected"


@pytest.mark.parametrize("text", ["-1", "-0.001", "1000001", "inf", "-inf", "nan"])
def test_a_time_beyond_the_limits_is_refused_with_the_limits(text: str) -> None:
    message = refused(lambda: seconds("boot-timeout", text))
    assert message == f"--boot-timeout {text}: a number of seconds from 0 to 1000000 is expected"


# Options as dataclasses


@dataclass(frozen=True)
class Machine:
    """Options that several commands have; the last field is none."""

    cpus: str = option("1", "the CPUs")
    boot_limit: str = option("0", "seconds", "boot-timeout")
    files: tuple[str, ...] = option((), "a file", "file")
    asked: bool = False


@dataclass(frozen=True)
class Work:
    """Options that commands inherit."""

    counts: str = option("1,2", "how many")


@dataclass(frozen=True)
class Run(Work):
    """The options of a command: another default for one that it inherits, a group."""

    counts: str = "5"
    what: str = word("what to do")
    machine: Machine = group(Machine, {"cpus": "one CPU"}, without=("boot_limit",), cpus="4")


def test_options_are_found_with_their_defaults_and_what_is_said_of_them() -> None:
    assert [(each.name, each.default, each.help) for each in options_of(Run)] == [
        ("counts", "5", "how many"),
        ("what", "", "what to do"),
        ("cpus", "4", "one CPU"),
        ("file", (), "a file"),
    ]
    assert [each.flag for each in options_of(Machine)] == ["--cpus", "--boot-timeout", "--file"]
    assert [each.name for each in options_of(Run) if each.is_word] == ["what"]


def test_values_by_name_make_an_instance_and_back() -> None:
    run = made(Run, {"counts": "7", "cpus": "8", "file": ["a", "b"]})
    assert run == Run("7", "", Machine("8", files=("a", "b")))
    assert made(Run, flat(run)) == run
    assert made(Run, {}) == Run() == Run("5", "", Machine("4"))


# Files


@pytest.mark.parametrize(
    "read",
    [
        lambda pipe: check_kernel(str(pipe), BuildOptions()),
        lambda pipe: check_kernel("sysfs", BuildOptions(source=pipe)),
        lambda pipe: check_kernel("sysfs", BuildOptions(configs=(pipe,))),
        lambda pipe: MachineOptions(noise=str(pipe)).check(),
    ],
    ids=["kernel", "source", "config", "noise"],
)
def test_a_pipe_is_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert f"{pipe} is no file but a pipe or a device" in refused(lambda: read(pipe))
