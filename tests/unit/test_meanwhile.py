"""A first table while kernels are built: when it begins, when it is shown, and that it ends."""

from __future__ import annotations

import shlex
import time

import pytest

from linklab.commands.kernels import KernelOptions
from linklab.commands.meanwhile import meanwhile
from linklab.commands.run import RunOptions, check_meanwhile, meanwhile_words
from linklab.errors import UsageError
from linklab.events import Event, Note, StepStarted, TerminalLent, TerminalReturned

BUILD = StepStarted("build kernel nosysfs", 900)


class Heard(list[Event]):
    def __call__(self, event: Event) -> None:
        self.append(event)


def words(code: str) -> list[str]:
    """What `python -m` takes that runs a line of Python."""
    return ["timeit", "-n", "1", "-r", "1", code]


def test_nothing_is_started_where_nothing_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    with meanwhile(heard, words("print('a table')")) as listener:
        listener(StepStarted("initramfs, packed"))
        time.sleep(0.1)
    assert heard == [StepStarted("initramfs, packed")]
    assert capsys.readouterr().out == ""


def test_the_table_is_shown_while_the_kernel_is_being_built(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard = Heard()
    with meanwhile(heard, words("print('a table')")) as listener:
        listener(BUILD)
        for tries in range(1000):
            listener(Note(f"still building {tries}"))
            if TerminalLent() in heard:
                break
            time.sleep(0.02)
        assert "a table" in capsys.readouterr().out
    assert heard[0] == BUILD
    assert heard.index(TerminalReturned()) == heard.index(TerminalLent()) + 1
    assert heard.count(TerminalLent()) == 1


def test_it_is_waited_for_so_that_it_disturbs_no_measurement(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with meanwhile(Heard(), words("import time; time.sleep(0.5); print('late')")) as listener:
        listener(BUILD)
    assert "late" in capsys.readouterr().out


def test_its_failure_is_told_and_is_no_failure_of_the_run() -> None:
    heard = Heard()
    with meanwhile(heard, ["linklab.no_such_module"]) as listener:
        listener(BUILD)
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert len(notes) == 1
    assert "No module named linklab.no_such_module" in notes[0]


def test_it_ends_with_a_build_that_fails() -> None:
    began = time.monotonic()
    with (
        pytest.raises(KeyError),
        meanwhile(Heard(), words("import time; time.sleep(60)")) as listener,
    ):
        listener(BUILD)
        raise KeyError
    assert time.monotonic() - began < 30


def test_its_command_has_the_scenario_and_none_of_the_changes_to_the_kernel() -> None:
    kernels = KernelOptions("sysfs,nosysfs", patches=("fix.patch",), configs=("debug",))
    options = RunOptions(kernels=kernels, while_building="debian", repeat="3")
    command = meanwhile_words(options)
    assert command[:2] == ["invoke", "run"]
    assert command[command.index("--kernel") + 1] == "debian"
    assert command[command.index("--repeat") + 1] == "3"
    assert "fix.patch" not in shlex.join(command)
    assert "--while-building" not in command


@pytest.mark.parametrize(
    ("name", "as_json", "says"),
    [
        ("nosysfs", False, "needs no building"),
        ("debian,nosysfs", False, "one kernel"),
        ("debian", True, "--json"),
        ("/no/such/bzImage", False, "/no/such/bzImage"),
    ],
)
def test_what_cannot_be_shown_is_refused(name: str, as_json: bool, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_meanwhile(RunOptions(while_building=name, as_json=as_json))
