"""`invoke setup`: only what is missing, with root's rights or a command to type."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from linklab.commands import develop
from linklab.errors import LabError
from linklab.events import Event, Note, StepAdvanced, StepFinished, StepStarted
from linklab.host import packages
from linklab.host.packages import Apt, Need, SetupOutcome, candidates, lists_age, setup
from linklab.host.run import CommandFailed

NEEDS = (
    Need("tool", "why", ("tool-package",), programs=("tool",)),
    Need("source", "why", ("source-2", "source"), files=("usr/src/source-*",)),
)
INSTALL = "apt-get update && apt-get install --no-install-recommends -y tool-package source-2"


class Debian:
    """A machine with nothing in PATH but fakes of apt and sudo, which write down what they do."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.listed = folder / "listed"
        self.lists = self.root / "var/lib/apt/lists"
        self.events: list[Event] = []
        self.bin.mkdir()
        self.lists.mkdir(parents=True)
        (self.root / "usr/src").mkdir(parents=True)
        self.log.touch()
        for name in ("env", "true", "sleep", "touch", "cp", "chmod", "cat", "rm"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.list_packages("tool-package", "source-2", "source")
        self.script(
            "apt-cache",
            'shift; for name in "$@"; do while read -r known; do '
            '[ "$known" = "$name" ] && printf "%s:\\n  Installed: (none)\\n  Candidate: 1\\n" '
            f'"$name"; done < {self.listed}; done; printf "virtual:\\n  Candidate: (none)\\n"',
        )
        self.apt_get()

    def list_packages(self, *names: str) -> None:
        """Let apt's lists hold these packages."""
        self.listed.write_text("".join(f"{name}\n" for name in names))

    def script(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{text}\n')
        path.chmod(0o755)

    def apt_get(self, update: str = ":", install: str = ":") -> None:
        """Have an apt-get that does this, and then installs whatever it is told to."""
        self.script(
            "apt-get",
            f'echo "frontend $DEBIAN_FRONTEND" >> {self.log}\n'
            f'case "$*" in\n*update*) {update};;\n*)\n{install}\n'
            f'case "$*" in *tool-package*) touch {self.bin}/tool; chmod +x {self.bin}/tool;; esac\n'
            f'case "$*" in *source*) touch {self.root}/usr/src/source-9;; esac;;\nesac',
        )

    def setup(self, *, superuser: bool = True, terminal: bool = False) -> SetupOutcome:
        return setup(
            self.events.append,
            needs=NEEDS,
            root=self.root,
            superuser=superuser,
            terminal=terminal,
        )

    def commands(self, program: str) -> list[str]:
        """Return what a fake was called with, each time it was."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if line.startswith(f"{program} ")]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Debian:
    debian = Debian(tmp_path)
    monkeypatch.setenv("PATH", str(debian.bin))
    return debian


def test_when_nothing_is_missing_nothing_is_started(debian: Debian) -> None:
    debian.script("tool", ":")
    (debian.root / "usr/src/source-1").touch()
    outcome = debian.setup(superuser=False)
    assert outcome.installed == ()
    assert outcome.seconds < 0.2
    assert debian.log.read_text() == ""
    assert debian.events == []


def test_either_of_two_programs_will_do(debian: Debian) -> None:
    need = Need("browser", "why", ("one-package", "other"), either=("one", "other"))
    assert need.lacks(debian.root) == ("one or other",)
    debian.script("other", ":")
    assert need.lacks(debian.root) == ()


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["setup", "run"], False),
        (["setup", "lint", "test"], True),
        (["setup", "--no-optional", "test"], False),
    ],
)
def test_what_only_tests_use_is_installed_before_tests(
    monkeypatch: pytest.MonkeyPatch, words: list[str], more: bool
) -> None:
    asked: list[tuple[Need, ...]] = []

    def installed(_listener: object, *, needs: tuple[Need, ...]) -> SetupOutcome:
        asked.append(needs)
        return SetupOutcome((), 0.0)

    monkeypatch.setattr(develop, "setup", installed)
    options = develop.SetupOptions(no_optional="--no-optional" in words)
    develop.set_up(options, ["invoke", *words])
    assert asked == [(*packages.NEEDS, *packages.TESTING) if more else packages.NEEDS]


def test_everything_that_is_missing_is_installed_in_one_go(debian: Debian) -> None:
    outcome = debian.setup()
    assert outcome.installed == ("tool-package", "source-2")
    (command,) = debian.commands("apt-get")
    assert " install --no-install-recommends -y " in command
    assert command.endswith(" tool-package source-2")
    assert debian.commands("frontend") == ["frontend noninteractive"]
    assert debian.setup().installed == ()


def test_what_is_there_is_not_installed_again(debian: Debian) -> None:
    debian.script("tool", ":")
    assert debian.setup().installed == ("source-2",)
    (command,) = debian.commands("apt-get")
    assert "tool-package" not in command


def test_old_package_lists_are_fetched_again(debian: Debian) -> None:
    days_ago = time.time() - 3 * 86400
    os.utime(debian.lists, (days_ago, days_ago))
    debian.setup()
    assert ["update" in command for command in debian.commands("apt-get")] == [True, False]


def test_package_lists_that_were_never_fetched_are_fetched(debian: Debian) -> None:
    debian.lists.rmdir()
    assert lists_age(debian.root) == float("inf")
    debian.setup()
    assert len(debian.commands("apt-get")) == 2


def test_a_fetch_is_seen_by_the_age_of_the_folder_for_partial_ones(debian: Debian) -> None:
    days_ago = time.time() - 3 * 86400
    (debian.lists / "partial").mkdir()
    os.utime(debian.lists, (days_ago, days_ago))
    assert lists_age(debian.root) < 60


def test_a_package_that_is_not_listed_is_looked_for_in_new_lists(debian: Debian) -> None:
    debian.list_packages("tool-package", "source")
    debian.apt_get(update=f"echo source-2 >> {debian.listed}")
    assert debian.setup().installed == ("tool-package", "source-2")


def test_the_second_choice_is_taken_where_the_first_is_not_to_be_had(debian: Debian) -> None:
    debian.list_packages("tool-package", "source")
    assert debian.setup().installed == ("tool-package", "source")


def test_a_package_that_does_not_exist_is_named(debian: Debian) -> None:
    debian.list_packages("tool-package")
    debian.apt_get(update="echo 'E: the mirror is away'; exit 100")
    with pytest.raises(LabError, match=r"source-2 or source \(source\)") as failure:
        debian.setup()
    assert "tool-package" not in failure.value.message
    assert failure.value.evidence == "E: the mirror is away"
    assert failure.value.verdict.status == 3
    assert not any("install" in command for command in debian.commands("apt-get"))


def test_a_mirror_that_is_away_is_no_error_when_the_packages_can_be_had(debian: Debian) -> None:
    debian.list_packages("tool-package", "source")
    debian.apt_get(update="echo 'E: the mirror is away'; exit 100")
    assert debian.setup().installed == ("tool-package", "source")
    assert debian.notes == ["apt-get update: E: the mirror is away"]


def test_what_apt_said_is_the_evidence_when_it_fails(debian: Debian) -> None:
    debian.apt_get(
        install="echo 'Unpacking tool-package'; echo 'pmstatus:tool:10:Unpacking'\n"
        "echo 'dpkg: error processing package' >&2; exit 100"
    )
    with pytest.raises(CommandFailed, match=r"status 100 from: env .*apt-get") as failure:
        debian.setup()
    assert failure.value.evidence == "Unpacking tool-package\ndpkg: error processing package"
    assert isinstance(debian.events[-1], StepFinished)


def test_a_package_that_does_not_bring_what_it_should_is_an_error(debian: Debian) -> None:
    debian.apt_get(install="exit 0")
    with pytest.raises(LabError, match=r"still not found:\n  tool: tool\n  source: /usr/src"):
        debian.setup()


def test_without_apt_the_programs_are_listed(debian: Debian) -> None:
    (debian.bin / "apt-get").unlink()
    with pytest.raises(LabError, match=r"no Debian.*\n  tool: tool\n  source: /usr/src/source-"):
        debian.setup()


def test_without_root_and_sudo_the_error_is_the_command_to_type(debian: Debian) -> None:
    with pytest.raises(LabError, match="there is no sudo") as failure:
        debian.setup(superuser=False, terminal=True)
    assert failure.value.message.endswith(f"\n{INSTALL}")
    assert failure.value.verdict.status == 3
    assert debian.commands("apt-get") == []


def test_the_command_to_type_has_the_package_that_there_is(debian: Debian) -> None:
    debian.list_packages("tool-package", "source")
    with pytest.raises(LabError, match=r" tool-package source$"):
        debian.setup(superuser=False)


def test_the_command_to_type_has_the_preferred_package_while_nothing_is_known(
    debian: Debian,
) -> None:
    debian.list_packages()
    with pytest.raises(LabError, match=r" tool-package source-2$"):
        debian.setup(superuser=False)


def test_sudo_that_asks_for_nothing_is_used(debian: Debian) -> None:
    debian.script("sudo", '[ "$1" = -n ] && shift; exec "$@"')
    assert debian.setup(superuser=False).installed == ("tool-package", "source-2")
    first, second = debian.commands("sudo")
    assert first == "sudo -n true"
    assert second.startswith("sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get ")
    assert debian.notes == []


PASSWORD_SUDO = '[ "$1" = -n ] && exit 1; [ "$1" = -v ] && exit {}; exec "$@"'


def test_sudo_asks_for_a_password_where_there_is_a_terminal(debian: Debian) -> None:
    debian.script("sudo", PASSWORD_SUDO.format(0))
    debian.setup(superuser=False, terminal=True)
    assert [command.split()[1] for command in debian.commands("sudo")] == ["-n", "-v", "env"]
    assert "password" in debian.notes[0]


def test_a_refused_password_ends_in_the_command_to_type(debian: Debian) -> None:
    debian.script("sudo", PASSWORD_SUDO.format(1))
    with pytest.raises(LabError, match="sudo said no") as failure:
        debian.setup(superuser=False, terminal=True)
    assert failure.value.message.endswith(f"\n{INSTALL}")
    assert debian.commands("apt-get") == []


def test_sudo_asks_nobody_where_there_is_no_terminal(debian: Debian) -> None:
    debian.script("sudo", PASSWORD_SUDO.format(0))
    with pytest.raises(LabError) as failure:
        debian.setup(superuser=False, terminal=False)
    assert "no terminal" in failure.value.message
    assert failure.value.message.endswith(f"\n{INSTALL}")
    assert debian.commands("sudo") == ["sudo -n true"]


def test_who_we_are_is_found_out(debian: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="As root, type"):
        setup(debian.events.append, needs=NEEDS, root=debian.root)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert setup(debian.events.append, needs=NEEDS, root=debian.root).installed


def test_only_what_can_be_installed_is_a_candidate(debian: Debian) -> None:
    debian.list_packages("tool-package")
    assert candidates(["tool-package", "source", "virtual"]) == {"tool-package"}


def test_downloading_and_unpacking_are_one_progress(debian: Debian) -> None:
    debian.apt_get(
        install="echo 'dlstatus:1:40.0:Retrieving file 1 of 2'\n"
        "printf 'Building dependency tree... pmstatus:a:50.0:Unpacking a: (amd64)\\n'\n"
        "printf 'pmstatus:a:100:done'"
    )
    debian.setup()
    assert debian.events == [
        StepStarted("Debian packages", 100),
        StepAdvanced("Debian packages", 20, "Retrieving file 1 of 2"),
        StepAdvanced("Debian packages", 75, "Unpacking a: (amd64)"),
        StepAdvanced("Debian packages", 100, "done"),
        debian.events[-1],
    ]


LOCKED = "echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1' >&2"


def test_a_lock_of_another_apt_is_waited_for(debian: Debian) -> None:
    held = debian.root / "held"
    held.touch()
    debian.apt_get(update=f"[ -e {held} ] && rm {held} && {LOCKED} && exit 100; exit 0")
    Apt(debian.events.append).update()
    assert len(debian.commands("apt-get")) == 2
    assert debian.notes == ["another apt or dpkg is at work: waiting for that one"]


def test_a_lock_that_nobody_gives_back_is_an_error(debian: Debian) -> None:
    debian.apt_get(install=f"{LOCKED}; exit 100")
    with pytest.raises(CommandFailed) as failure:
        Apt(debian.events.append, lock_wait=1.2).install(["tool-package"])
    assert "held by process 1" in failure.value.evidence
    assert len(debian.commands("apt-get")) > 1


INTERRUPTED = "echo 'E: dpkg was interrupted, you must manually run dpkg --configure -a' >&2"


@pytest.mark.parametrize("status", [0, 1])
def test_an_interrupted_installation_is_finished_first(debian: Debian, status: int) -> None:
    half = debian.root / "half"
    half.touch()
    debian.script("dpkg", f"rm {half}; echo 'Setting up half'; exit {status}")
    debian.apt_get(install=f"[ -e {half} ] && {INTERRUPTED} && exit 100")
    debian.setup()
    assert debian.commands("dpkg") == ["dpkg --force-confdef --force-confold --configure -a"]
    assert "--fix-broken" in debian.commands("apt-get")[-1]
    assert debian.notes == ["an earlier installation was interrupted: finishing that first"]


def test_an_interruption_that_cannot_be_mended_is_an_error(debian: Debian) -> None:
    debian.script("dpkg", "exit 1")
    debian.apt_get(install=f"{INTERRUPTED}; exit 100")
    with pytest.raises(CommandFailed) as failure:
        debian.setup()
    assert "dpkg was interrupted" in failure.value.evidence
    assert len(debian.commands("apt-get")) == 2


def test_an_apt_that_says_nothing_is_stopped(debian: Debian) -> None:
    pid = debian.root / "pid"
    debian.apt_get(install=f"echo $$ > {pid}; exec sleep 600")
    began = time.monotonic()
    with pytest.raises(LabError, match="said nothing"):
        Apt(debian.events.append, silence=0.2).install(["tool-package"])
    assert time.monotonic() - began < 300  # on however busy a host
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_service_that_keeps_the_pipe_does_not_keep_setup(debian: Debian) -> None:
    pid = debian.root / "pid"
    debian.apt_get(install=f"sleep 60 & echo $! > {pid}")
    began = time.monotonic()
    try:
        Apt(debian.events.append).install(["tool-package"])
        assert time.monotonic() - began < 10
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
