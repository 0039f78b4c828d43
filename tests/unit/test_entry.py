"""The first moment of a command: a signal before all is up, streams that are closed or full."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from linklab.host.run import environment
from linklab.paths import ROOT

INVOKE = Path(sys.executable).with_name("invoke")
LIMIT = 60.0

# Python imports this by itself: it stops where `tasks.py` begins to import the rest.
SLOW = """
import os, pathlib, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SLOW"]:
            pathlib.Path(os.environ["READY"]).touch()
            time.sleep(60)

sys.meta_path.insert(0, Slow())
"""


def interrupted(folder: Path, number: signal.Signals, slow: str, *words: str) -> tuple[int, str]:
    """Send a signal to a real command while it imports; return its status and last words."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    (folder / "sitecustomize.py").write_text(SLOW)
    ready = folder / "ready"
    env = environment(
        {
            "PYTHONPATH": f"{folder}:{ROOT}",
            "SLOW": slow,
            "READY": str(ready),
            "PYTHONSAFEPATH": None,
        }
    )
    process = subprocess.Popen([INVOKE, *words], cwd=ROOT, env=env, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + LIMIT
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=LIMIT)
        return process.returncode, said.decode()
    finally:
        process.kill()
        process.wait()


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_before_anything_is_imported_interrupts(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Invoke would end with 1 for Ctrl-C: the kernel is at fault."""
    end = interrupted(tmp_path, number, "linklab.commands.cli", "verdict", "--kernel", "nosysfs")
    assert end == (130, "interrupted\n")


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_before_a_command_begins_interrupts(
    number: signal.Signals, tmp_path: Path
) -> None:
    end = interrupted(tmp_path, number, "linklab.commands.history", "history")
    assert end == (130, "interrupted\n")


def test_a_signal_while_a_command_line_is_put_in_order_interrupts(tmp_path: Path) -> None:
    """Invoke starts anew for it, and Python takes no signals for us until it has."""
    begun = ("report", "a", "b")
    end = interrupted(tmp_path, signal.SIGTERM, "linklab.commands.history", *begun)
    assert end == (130, "interrupted\n")


@pytest.mark.parametrize(("command", "status"), [("run", 2), ("--list", 2), ("verdict", 255)])
def test_outside_the_checkout_it_is_said_where_that_is(
    command: str, status: int, tmp_path: Path
) -> None:
    code = "import sys; from linklab.entry import main; sys.argv[0] = 'invoke'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, command], cwd=tmp_path, check=False, text=True,
        env=environment({"PYTHONPATH": str(ROOT)}), capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, "")
    assert f"no tasks.py in {tmp_path}" in done.stderr and f"`cd {ROOT}` first" in done.stderr


def test_inside_the_checkout_the_program_is_invoke() -> None:
    code = "import sys; from linklab.entry import main; sys.argv[0] = 'invoke'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--list"], cwd=ROOT, check=True, capture_output=True,
        env=environment({"PYTHONPATH": str(ROOT)}),
    )  # fmt: skip
    assert b"build-kernel" in done.stdout


def test_the_package_installs_that_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"invoke": "linklab.entry:main", "inv": "linklab.entry:main"}


def imported(folder: Path, *words: str) -> set[str]:
    """Return what a real command imports, by the list that Python itself makes of it."""
    env = environment({"PYTHONPATH": str(ROOT)})
    argv = [sys.executable, "-X", "importtime", str(INVOKE), "-r", str(ROOT), *words]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=True, text=True)
    lines = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines())
    return set(filter(None, lines))


@pytest.mark.parametrize(("told_not_to", "kept"), [(None, True), ("1", False)])
def test_what_is_compiled_is_kept_unless_python_was_told_not_to(
    told_not_to: str | None, kept: bool, tmp_path: Path
) -> None:
    """Invoke keeps nothing by itself (its `--write-pyc`)."""
    own = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": told_not_to}
    env = environment({"PYTHONPATH": str(ROOT), **own})
    subprocess.run([INVOKE, "--list"], cwd=ROOT, env=env, capture_output=True, check=True)
    assert bool(list(tmp_path.rglob("cli.*.pyc"))) is kept


SLOW_TO_IMPORT = {"jinja2", "numpy", "pexpect", "pyroute2", "qemu", "rich"}
OF_A_LIST = {"", ".commands", ".commands.cli", ".commands.exit_status"}
OF_A_LIST |= {".entry", ".errors", ".options"}
DOING = {"agent", "image", "lab", "machine", "trials"}
"""The folders that do a run's work."""


def test_the_list_of_commands_imports_no_command(tmp_path: Path) -> None:
    found = imported(tmp_path, "--list")
    assert {name for name in found if name.startswith("linklab")} == {
        f"linklab{name}" for name in OF_A_LIST
    }
    assert not found & SLOW_TO_IMPORT


def test_help_of_run_imports_its_options_and_none_of_its_work(tmp_path: Path) -> None:
    found = imported(tmp_path, "run", "--help")
    assert "linklab.commands.workflow" in found
    assert not found & SLOW_TO_IMPORT
    assert not found & {f"linklab.{name}" for name in DOING}


def test_past_runs_are_listed_without_what_makes_runs(tmp_path: Path) -> None:
    found = imported(tmp_path, "history", "--results", ".")
    assert not found & (SLOW_TO_IMPORT - {"rich"})
    assert not found & {f"linklab.{name}" for name in DOING}


def test_of_pyroute2_only_messages_are_imported_until_more_is_asked_for() -> None:
    """A scenario may use all of it, as its author's own program does."""
    code = (
        "import sys, linklab.agent.links as links; before = set(sys.modules); "
        "from pyroute2 import IPRoute, netlink; import pyroute2; "
        "assert pyroute2.netlink.rtnl.ifinfmsg.ifinfmsg is links.ifinfmsg; "
        "print('pyroute2.ndb' in before, IPRoute.__name__, netlink.__name__, pyroute2.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, text=True, capture_output=True,
        env=environment({"PYTHONPATH": str(ROOT)}),
    )  # fmt: skip
    assert done.stdout == "False IPRoute pyroute2.netlink pyroute2\n"


def ended(words: str, streams: str, folder: Path) -> tuple[int, str]:
    """Run a command in a shell with some redirections; return its status, and standard error."""
    line = f"{shlex.quote(str(INVOKE))} -r {shlex.quote(str(ROOT))} {words} {streams}"
    env = environment({"PYTHONPATH": str(ROOT)})
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "words", ["history --results .", "history --results . --json", "--list", "run --help"]
)
def test_a_stream_that_is_closed_changes_no_status(
    words: str, streams: str, tmp_path: Path
) -> None:
    assert ended(words, streams, tmp_path) == (0, "")


def test_a_terminal_that_is_closed_is_none(tmp_path: Path) -> None:
    status, said = ended("shell --kernel nosysfs", "<&-", tmp_path)
    assert (status, said) == (2, "usage: a shell needs a terminal on standard input\n")


@pytest.mark.parametrize(
    ("words", "status"),
    [("history --results .", 3), ("history --results . --json", 3), ("--list", 3),
     ("run --help", 3), ("verdict --help", 255)],
)  # fmt: skip
def test_an_output_that_is_full_is_named(words: str, status: int, tmp_path: Path) -> None:
    says = "error: standard output cannot be written: No space left on device\n"
    assert ended(words, "> /dev/full", tmp_path) == (status, says)


def test_errors_that_nobody_can_read_stop_no_work(tmp_path: Path) -> None:
    """What is found is on standard output and in the status."""
    assert ended("history --results .", "2> /dev/full", tmp_path) == (0, "")
    assert ended("show nothing", "2> /dev/full", tmp_path) == (2, "")


def test_what_we_open_does_not_become_what_we_print_to(tmp_path: Path) -> None:
    """Descriptor 1 would be the first file that is opened: a guest's, say."""
    code = (
        "from linklab.entry import open_streams; open_streams(); "
        f"file = open({str(tmp_path / 'state')!r}, 'w'); import subprocess; print('printed'); "
        "subprocess.run(['echo', 'a program']); assert file.fileno() > 2"
    )
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", line], env=env, check=False).returncode == 0
    assert (tmp_path / "state").read_text() == ""
