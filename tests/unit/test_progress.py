"""Events as a person sees them: on a terminal, and in a log."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr

import pytest

from linklab.events import Event, Note, StepAdvanced, StepFinished, StepStarted
from linklab.report.progress import progress


class Terminal(io.StringIO):
    """A standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def show(*events: Event, on: Terminal | None = None) -> None:
    with redirect_stderr(on or sys.stderr), progress() as listener:
        for event in events:
            listener(event)


LONG_STEP = (
    StepStarted("building the kernel", 100),
    StepAdvanced("building the kernel", 40, "net/core"),
    StepFinished("building the kernel", 61.23),
)


def test_in_a_log_notes_and_long_steps_leave_a_line_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(Note("no KVM: [why]"), *LONG_STEP, StepStarted("short"), StepFinished("short", 0.1))
    out, err = capsys.readouterr()
    assert err == "note: no KVM: [why]\nbuilding the kernel: 61.2 s\n"
    assert out == "", "standard output is for results"


def test_on_a_terminal_a_bar_says_what_is_in_hand(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    show(*LONG_STEP[:2], on=terminal)
    shown = terminal.getvalue()
    for word in ("building the kernel", "40%", "net/core"):
        assert word in shown
    assert capsys.readouterr().out == ""


def test_on_a_terminal_notes_and_long_steps_stay_behind(terminal: Terminal) -> None:
    show(Note("no KVM"), *LONG_STEP, StepStarted("short"), StepFinished("short", 0.1), on=terminal)
    shown = terminal.getvalue()
    assert "note: no KVM\n" in shown.replace("\r", "")
    assert "building the kernel: 61.2 s" in shown
    assert "short: " not in shown


def test_a_step_inside_of_another_leaves_no_line(terminal: Terminal) -> None:
    show(
        StepStarted("outer"),
        StepStarted("inner"),
        StepFinished("inner", 9),
        StepFinished("outer", 9),
        on=terminal,
    )
    assert "outer: 9.0 s" in terminal.getvalue()
    assert "inner: 9.0 s" not in terminal.getvalue()


def test_a_step_of_unknown_length_and_one_that_was_never_begun_do_no_harm(
    terminal: Terminal,
) -> None:
    show(
        StepStarted("open end"),
        StepAdvanced("open end", 3, "still"),
        StepAdvanced("never begun", 1, "what"),
        StepFinished("never begun", 9.0),
        on=terminal,
    )
    assert "open end" in terminal.getvalue()


NAMES = ["[bold]", "[/]", "a[/red]b", "{x}", "%s", ":smile:"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_looks_like_markup_is_shown_as_it_is(name: str, terminal: Terminal) -> None:
    step, detail = f"kernel {name}", f"detail {name}"
    begun = (StepStarted(step, 10), StepAdvanced(step, 5, detail), Note(f"note {name}"))
    show(*begun, on=terminal)
    shown = terminal.getvalue()
    for text in (f"{step} ", detail, f"note: note {name}"):
        assert text in shown
    show(*begun, StepFinished(step, 9.0), on=terminal)
    assert f"{step}: 9.0 s" in terminal.getvalue()


EVIL = "net\x1b]0;evil\x07"


def test_nothing_that_a_terminal_would_act_on_is_shown(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    events = (Note(EVIL), StepStarted(EVIL, 2), StepAdvanced(EVIL, 1, EVIL), StepFinished(EVIL, 9))
    show(*events, on=terminal)
    show(*events)
    said = terminal.getvalue() + capsys.readouterr().err
    assert said.count(r"net\x1b]0;evil\x07") >= 5
    assert "\x1b]" not in said and "\x07" not in said
