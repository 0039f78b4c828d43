"""The kernel's parameters, and what each of them is relied on for."""

from __future__ import annotations

import pytest

from linklab.machine.commandline import AGENT_PATH, measuring_command_line, shell_command_line


def parameters(words: tuple[str, ...]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    names = [name for name, _, _ in pairs]
    assert len(set(names)) == len(names), f"one of {names} stands twice"
    return {name: value for name, _, value in pairs}


@pytest.fixture
def measuring() -> dict[str, str]:
    return parameters(measuring_command_line("ttyS1", 2_900_000))


def test_the_agent_is_the_first_program_and_knows_its_port(measuring: dict[str, str]) -> None:
    assert measuring["rdinit"] == AGENT_PATH
    assert measuring["linklab.port"] == "ttyS1"


def test_only_a_guest_that_takes_turns_is_told_of_them(measuring: dict[str, str]) -> None:
    assert "linklab.turns" not in measuring
    assert "linklab.turns" not in parameters(shell_command_line("ttyS1", 1_000_000))
    assert "linklab.turns" in measuring_command_line("vport0p1", 1_000_000, takes_turns=True)


def test_the_console_is_the_serial_port_that_is_logged(measuring: dict[str, str]) -> None:
    assert measuring["console"] == "ttyS0"


def test_the_crash_watch_gets_the_time_stamps_it_needs(measuring: dict[str, str]) -> None:
    assert measuring["printk.time"] == "1"


def test_warnings_reach_the_console(measuring: dict[str, str]) -> None:
    warning = 4  # KERN_WARNING in linux/kern_levels.h; shown is what is below the level
    assert int(measuring["loglevel"]) > warning


def test_a_crash_ends_the_guest_at_once(measuring: dict[str, str]) -> None:
    assert measuring["oops"] == "panic"
    assert int(measuring["panic"]) < 0, "0 would wait for ever, a positive number so many seconds"


def test_the_driver_makes_no_interface_of_its_own(measuring: dict[str, str]) -> None:
    assert measuring["dummy.numdummies"] == "0"


@pytest.mark.parametrize(
    "words", [measuring_command_line("ttyS1", 2_900_000), shell_command_line("ttyS1", 2_900_000)]
)
def test_a_clock_that_was_measured_is_told(words: tuple[str, ...]) -> None:
    told = parameters(words)
    assert told["tsc_early_khz"] == "2900000"
    assert told["tsc"] == "reliable"


@pytest.mark.parametrize(
    "words", [measuring_command_line("ttyS1", None), shell_command_line("ttyS1", None)]
)
def test_a_clock_that_the_guest_finds_out_is_not_told(words: tuple[str, ...]) -> None:
    assert not {"tsc_early_khz", "tsc"} & parameters(words).keys()


def test_a_persons_guest_keeps_its_init_and_has_an_agent_for_its_window() -> None:
    told = parameters(shell_command_line("vport0p1", None))
    assert told["console"] == "ttyS0"
    assert told["linklab.port"] == "vport0p1"
    assert "rdinit" not in told


@pytest.mark.parametrize(
    "words", [measuring_command_line("vport0p1", 1), shell_command_line("ttyS1", None)]
)
def test_every_parameter_is_one_word(words: tuple[str, ...]) -> None:
    assert all(word and not set(word) & set(" \t\n\"'") for word in words)


@pytest.mark.parametrize(
    "words", [measuring_command_line("ttyS1", 2_900_000), shell_command_line("ttyS1", 2_900_000)]
)
def test_an_emulated_guest_has_its_programs_at_fixed_addresses(words: tuple[str, ...]) -> None:
    assert "norandmaps" in words


def test_a_virtualised_guest_has_the_addresses_that_it_would_choose() -> None:
    assert "norandmaps" not in measuring_command_line("ttyS1", None)
