"""Debian's packages: what the lab needs of them, how that is recognised, how it is installed.

A need is met by the program or the file that a package brings, not by the
package: a person's own QEMU in /usr/local counts. The list holds for Debian
12 and 13 installed with `debootstrap --variant=minbase`, without recommended
packages. Root is asked for only when something is missing, and only through
sudo. Where there is neither, the error is the command that a person with root
types.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import LabError
from linklab.events import Listener, Note, StepAdvanced, step
from linklab.host import qemu
from linklab.host.run import CommandFailed, environment, lines_of, run, shown, start

ROOT = Path("/")
"""Where the files of `Need.files` are looked for."""

SILENCE = 600.0
"""Seconds without a line from apt-get after which it counts as stuck."""

LOCK_WAIT = 600.0
"""Seconds to wait for another apt or dpkg, such as an unattended upgrade."""

_FRESH = 24 * 3600.0
"""Seconds for which package lists are taken as they are: Debian's archive
changes four times a day, and a package that was replaced cannot be fetched."""

_SOURCE = "usr/src/linux-source-*.tar.xz"
_LISTS = ("var/lib/apt/lists", "var/lib/apt/lists/partial")
_KEPT_LINES = 60
_END_WAIT = 30.0
_LOCKED = "Could not get lock"
_INTERRUPTED = "dpkg was interrupted"

# A configuration file that was changed would make dpkg ask; it keeps the one there is.
_KEEP_CONFIG = ("--force-confdef", "--force-confold")

# What apt-get writes to APT::Status-Fd: "dlstatus:1:20.2:Retrieving file ...",
# "pmstatus:gcc:41.2:Unpacking gcc" (README.progress-reporting of apt).
_PROGRESS = re.compile(r"(dl|pm)status:[^:]*:([0-9.]+):(.*)")


@dataclass(frozen=True)
class Need:
    """Something that the lab uses and Debian has.

    `packages` are alternatives, the preferred one first. The need is met when
    every one of `programs` is in PATH, and one of `either`, and every pattern of
    `files` (relative to the root folder) matches a file. `version` is a command
    that prints its version; packages of files alone have none.
    """

    name: str
    why: str
    packages: tuple[str, ...]
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    either: tuple[str, ...] = ()

    def lacks(self, root: Path = ROOT) -> tuple[str, ...]:
        """Return the programs and files that are not there; empty when it is met."""
        programs = [name for name in self.programs if shutil.which(name) is None]
        if self.either and not any(map(shutil.which, self.either)):
            programs.append(" or ".join(self.either))
        files = (f"/{glob}" for glob in self.files if next(root.glob(glob), None) is None)
        return (*programs, *files)


def _tool(
    program: str, why: str, package: str = "", *, name: str = "", version: str = "--version"
) -> Need:
    """Return the need for a program, which tells its version, of a package of that name."""
    return Need(name or program, why, (package or program,), (program,), (), (program, version))


NEEDS: tuple[Need, ...] = (
    _tool(qemu.PROGRAM, "the machine that the guest runs in", "qemu-system-x86", name="QEMU"),
    Need(
        "kernel source",
        "the kernels are built from it, unless --source names another one",
        ("linux-source-6.12", "linux-source"),
        files=(_SOURCE,),
    ),
    _tool("gcc", "compiles the kernel and the agent"),
    Need(
        "binutils",
        "assembles and links the kernel",
        ("binutils",),
        programs=("as", "ld", "objcopy"),
        version=("ld", "--version"),
    ),
    _tool("make", "drives the kernel's build"),
    Need(
        "C library headers",
        "programs that the kernel's build runs on this machine; gcc does not bring them",
        ("libc6-dev",),
        files=("usr/include/stdio.h",),
    ),
    Need(
        "kernel headers",
        "the netlink and rtnetlink definitions that the agent is compiled with",
        ("linux-libc-dev",),
        files=("usr/include/linux/rtnetlink.h", "usr/include/*/asm/types.h"),
    ),
    _tool("flex", "the kernel's Kconfig parser is made with it"),
    _tool("bison", "as flex"),
    _tool("bc", "computes the kernel's time constants"),
    Need(
        "libelf headers",
        "objtool, which checks and patches the kernel's objects, reads ELF with it",
        ("libelf-dev",),
        files=("usr/include/libelf.h", "usr/include/gelf.h"),
    ),
    _tool("patch", "applies --patch files"),
    _tool("xz", "unpacks the kernel source", "xz-utils"),
    _tool("lz4", "packs the bzImage that boots fastest"),
    _tool("zstd", "packs what goes on the ISO"),
    Need(
        "musl",
        "links the agent statically, in a tenth of glibc's size",
        ("musl-tools",),
        programs=("musl-gcc",),
        version=("/lib/ld-musl-x86_64.so.1",),
    ),
    Need("busybox", "the guest's shell and tools", ("busybox",), ("busybox",), (), ("busybox",)),
    _tool(
        "ip",
        "the guest's `ip`; copied into the image with the libraries it needs",
        "iproute2",
        name="iproute2",
        version="-Version",
    ),
    Need(
        "nft",
        "drops packets in guests of the scenario `drop`",
        ("nftables",),
        files=("usr/sbin/nft",),  # no person's PATH has this folder
        version=("/usr/sbin/nft", "--version"),
    ),
    Need(
        "iptables",
        "as nft, by the kernel's older tables",
        ("iptables",),
        files=("usr/sbin/iptables-legacy-restore",),
        version=("/usr/sbin/iptables-legacy-restore", "--version"),
    ),
    _tool(
        "bsdtar", "writes the initramfs, device nodes included, without root", "libarchive-tools"
    ),
    _tool("genisoimage", "writes the ISO"),
    Need(
        "isolinux",
        "boots the ISO on a BIOS machine",
        ("isolinux",),
        files=("usr/lib/ISOLINUX/isolinux.bin",),
    ),
    Need(
        "syslinux modules",
        "isolinux loads them: its core library and the boot menu",
        ("syslinux-common",),
        files=tuple(f"usr/lib/syslinux/modules/bios/{name}.c32" for name in ("ldlinux", "menu")),
    ),
    _tool("faketime", "holds genisoimage's clock: the same inputs give the same ISO"),
    _tool("git", "names the state of a person's own kernel tree"),
    _tool("shellcheck", "`invoke lint` checks the guest's shell with it"),
)

PROFILING: tuple[Need, ...] = (
    _tool(
        "perf",
        "samples the guest for `invoke profile`; goes into an image of its own",
        "linux-perf",
    ),
)
"""What `invoke profile` needs on top: 33 MB with its libraries, so it is left out of set-up."""

DEBUGGING: tuple[Need, ...] = (_tool("gdb", "attaches to the guest for `invoke gdb`"),)
"""What `invoke gdb` needs on top; it brings a Python of its own."""

_OF_TESTS = {"ethtool": "ethtool", "iptables": "iptables", "jq": "jq", "nft": "nftables",
             "ping": "iputils-ping", "socat": "socat", "tcpdump": "tcpdump"}  # fmt: skip

SELFTESTING: tuple[Need, ...] = tuple(
    Need(program, "`invoke selftest`: tests ask for it", (package,), (program,))
    for program, package in _OF_TESTS.items()
)
"""What the kernel's self-tests ask for most; images/selftest/manifest.toml has all of it."""

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")
"""The programs that can look at a page for its tests, by their names in PATH."""

TESTING: tuple[Need, ...] = (
    *PROFILING,
    *DEBUGGING,
    _tool("tshark", "the tests of captures read them with it"),
    Need(
        "browser",
        "the tests of pages look at them in it",
        ("chromium-headless-shell", "chromium"),
        either=BROWSERS,
    ),
    *SELFTESTING,
)
"""What the tests need on top, or some of them are skipped."""


def unmet(needs: Sequence[Need] = NEEDS, root: Path = ROOT) -> tuple[Need, ...]:
    """Return the needs that this machine does not meet. Starts no program."""
    return tuple(need for need in needs if need.lacks(root))


def require(needs: Sequence[Need], command: str) -> None:
    """Raise `LabError` where a command lacks a program, with the line that installs it."""
    if lacking := unmet(needs):
        packages = " ".join(need.packages[0] for need in lacking)
        raise LabError(
            f"`{command}` needs Debian's package {packages}, which `invoke setup` leaves out: "
            f"as root, type `apt-get install --no-install-recommends -y {packages}`"
        )


def kernel_sources(root: Path = ROOT) -> tuple[Path, ...]:
    """Return Debian's kernel source archives on this machine, the newest version last."""
    return tuple(sorted(root.glob(_SOURCE), key=_version_of))


def _version_of(archive: Path) -> tuple[int, ...]:
    digits = archive.name.removeprefix("linux-source-").removesuffix(".tar.xz")
    return tuple(int(part) for part in digits.split(".") if part.isdigit())


@dataclass(frozen=True)
class SetupOutcome:
    """What `setup` did: the packages that it installed; none when nothing was missing."""

    installed: tuple[str, ...]
    seconds: float


def setup(
    listener: Listener,
    *,
    needs: Sequence[Need] = NEEDS,
    root: Path = ROOT,
    superuser: bool | None = None,
    terminal: bool | None = None,
) -> SetupOutcome:
    """Install what `needs` lacks on this machine; at once when that is nothing.

    `root` is where the needs' files and apt's lists are looked for;
    `superuser` and `terminal` are found out when they are not given.
    Raises `LabError`: on a system without apt, for a package that does not
    exist here, when apt fails, and, without root and sudo, with the command
    to type.
    """
    began = time.monotonic()
    missing = unmet(needs, root)
    if not missing:
        return SetupOutcome((), time.monotonic() - began)
    if shutil.which("apt-get") is None:
        text = "there is no apt-get, so this is no Debian. Install with your own tools:\n"
        raise LabError(text + _lacking(missing, root))
    become, refusal = _privilege(
        os.geteuid() == 0 if superuser is None else superuser,
        sys.stdin.isatty() if terminal is None else terminal,
        listener,
    )
    available = _available(missing)
    if refusal:
        names = ", ".join(need.name for need in missing)
        packages = " ".join(_choice(need, available) for need in missing)
        raise LabError(
            f"not installed: {names}. Installing takes root, and {refusal}. As root, type:\n"
            f"apt-get update && apt-get install --no-install-recommends -y {packages}"
        )
    apt, said = Apt(listener, become), ""
    if lists_age(root) > _FRESH or not all(need.packages[0] in available for need in missing):
        said = apt.update()
        available = _available(missing)
    if unknown := [need for need in missing if not available & set(need.packages)]:
        wanted = "; ".join(f"{' or '.join(need.packages)} ({need.name})" for need in unknown)
        raise LabError(
            f"no such package here: {wanted}. Debian 12 and 13 have it in main: "
            "see /etc/apt/sources.list and /etc/apt/sources.list.d",
            said,
        )
    chosen = tuple(_choice(need, available) for need in missing)
    apt.install(chosen)
    if still := unmet(missing, root):
        text = f"{' '.join(chosen)}: installed, and still not found:\n"
        raise LabError(text + _lacking(still, root))
    return SetupOutcome(chosen, time.monotonic() - began)


def _lacking(needs: Sequence[Need], root: Path) -> str:
    return "\n".join(f"  {need.name}: {', '.join(need.lacks(root))}" for need in needs)


def _privilege(superuser: bool, terminal: bool, listener: Listener) -> tuple[tuple[str, ...], str]:
    """Return what makes a command one of root's, and why there is no way to do so, if so.

    sudo asks for the password now, while nothing else is on the terminal.
    """
    if superuser:
        return (), ""
    if shutil.which("sudo") is None:
        return (), "there is no sudo"
    if run(["sudo", "-n", "true"], check=False, deadline=30).returncode == 0:
        return ("sudo",), ""
    if not terminal:
        return (), "sudo wants a password, with no terminal to type it on"
    listener(Note("packages are missing, and installing them takes root: sudo asks for a password"))
    # No deadline: a person is typing, and Ctrl-C ends it.
    refused = start(["sudo", "-v"], stdin=None, stdout=None, stderr=None).wait()
    return ("sudo",), "sudo said no" if refused else ""


def _available(needs: Sequence[Need]) -> frozenset[str]:
    return candidates([name for need in needs for name in need.packages])


def _choice(need: Need, available: frozenset[str]) -> str:
    """Return the preferred package of those there are; the first while none is known."""
    return next((name for name in need.packages if name in available), need.packages[0])


def candidates(names: Sequence[str]) -> frozenset[str]:
    """Return those of the packages that apt's lists, as they are, can install."""
    found = set()
    name = ""
    for line in run(["apt-cache", "policy", *names]).text.splitlines():
        if not line.startswith(" "):
            name = line.removesuffix(":")
        elif line.startswith("  Candidate: ") and not line.endswith("(none)"):
            found.add(name)
    return frozenset(found)


def lists_age(root: Path) -> float:
    """Return how many seconds ago apt's lists were fetched; infinite if never.

    The lists themselves carry the archive's times, the folders ours.
    """
    times = [path.stat().st_mtime for name in _LISTS if (path := root / name).is_dir()]
    return time.time() - max(times) if times else float("inf")


@dataclass(frozen=True)
class Apt:
    """apt-get with root's rights, which `become` (`("sudo",)` or nothing) gives.

    It is stopped after `silence` seconds without a word.
    """

    listener: Listener
    become: Sequence[str] = ()
    silence: float = SILENCE
    lock_wait: float = LOCK_WAIT

    def update(self) -> str:
        """Fetch the package lists; return what apt-get complained of.

        A mirror that cannot be reached is no error yet: the packages may all
        come from another one, and `install` says so if they do not.
        """
        try:
            self._apt_get("package lists", "update")
        except CommandFailed as error:
            self.listener(Note(f"apt-get update: {error.evidence or error.message}"))
            return error.evidence or error.message
        return ""

    def install(self, packages: Sequence[str]) -> None:
        """Install the packages without those that Debian merely recommends.

        What an installation that was interrupted left undone is finished
        first: apt-get does nothing before that. Raises `CommandFailed`, with
        what apt-get and dpkg said, when it fails.
        """
        try:
            self._install(*packages)
        except CommandFailed as error:
            if _INTERRUPTED not in error.evidence:
                raise
            self.listener(Note("an earlier installation was interrupted: finishing that first"))
            # It fails for packages whose dependencies were not unpacked in time:
            # these are what --fix-broken is for.
            name = "interrupted packages"
            with step(self.listener, name), suppress(CommandFailed):
                self._until_unlocked(name, "dpkg", *_KEEP_CONFIG, "--configure", "-a")
            self._install("--fix-broken", *packages)

    def _install(self, *words: str) -> None:
        keep = [f"-oDPkg::Options::={option}" for option in _KEEP_CONFIG]
        self._apt_get("Debian packages", "install", "--no-install-recommends", "-y", *keep, *words)

    def _apt_get(self, name: str, *words: str) -> None:
        with step(self.listener, name, total=100):
            self._until_unlocked(name, "apt-get", "-q", "-o", "APT::Status-Fd=1", *words)

    def _until_unlocked(self, name: str, *words: str) -> None:
        """Run a command as root, again while another apt holds a lock.

        apt's own DPkg::Lock::Timeout waits for dpkg's lock alone, not for the
        lists' one, and says that it waits to a terminal only.
        """
        argv = (*self.become, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", *words)
        deadline = time.monotonic() + self.lock_wait
        told = False
        while True:
            status, said = self._converse(name, argv)
            if status == 0:
                return
            if _LOCKED not in said or time.monotonic() > deadline:
                raise CommandFailed(f"status {status} from: {shown(argv)}", said, status)
            if not told:
                self.listener(Note("another apt or dpkg is at work: waiting for that one"))
                told = True
            time.sleep(1)

    def _converse(self, name: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run apt-get to its end; return its status and its last lines."""
        said: deque[str] = deque(maxlen=_KEPT_LINES)
        process = start(
            argv,
            # dpkg wants the system folders in PATH, which a plain `su` leaves out.
            env={"PATH": f"{environment().get('PATH', '')}:/usr/sbin:/sbin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Killed outright, it would leave packages half installed.
            death_signal=signal.SIGTERM,
        )
        try:
            for raw in lines_of(process, self.silence):
                line = raw.decode(errors="replace")
                if progress := _PROGRESS.search(line):
                    phase, percent, detail = progress.groups()
                    # Downloading is the first half of it, unpacking the second.
                    done = int(float(percent) / 2 + (50 if phase == "pm" else 0))
                    self.listener(StepAdvanced(name, done, detail))
                elif line.strip():
                    said.append(line.rstrip())
            return process.wait(), "\n".join(said)
        except TimeoutError:
            text = f"apt-get has said nothing for {self.silence:.0f} s: stopped it"
            raise LabError(text) from None
        finally:
            if process.poll() is None:  # asked to end, never killed, for dpkg's sake
                with suppress(PermissionError, subprocess.TimeoutExpired):
                    process.terminate()  # not permitted when it is sudo's: the terminal's Ctrl-C is
                    process.wait(_END_WAIT)
            if process.stdout is not None:
                process.stdout.close()
