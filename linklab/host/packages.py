"""What the lab needs from Debian, and how each need is recognised.

A need is met by the program or the file that a package brings, not by the
package: a person's own QEMU in /usr/local counts. The list holds for Debian
12 and 13 installed with `debootstrap --variant=minbase`, without recommended
packages.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.host import qemu

ROOT = Path("/")
"""Where the files of `Need.files` are looked for."""

_SOURCE = "usr/src/linux-source-*.tar.xz"


@dataclass(frozen=True)
class Need:
    """Something that the lab uses and Debian has.

    `packages` are alternatives, the preferred one first. The need is met when
    every one of `programs` is in PATH and every pattern of `files` (relative
    to the root folder) matches a file. `version` is a command that prints
    its version; packages of files alone have none.
    """

    name: str
    why: str
    packages: tuple[str, ...]
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    version: tuple[str, ...] = ()

    def lacks(self, root: Path = ROOT) -> tuple[str, ...]:
        """Return the programs and files that are not there; empty when it is met."""
        programs = (name for name in self.programs if shutil.which(name) is None)
        files = (f"/{glob}" for glob in self.files if next(root.glob(glob), None) is None)
        return (*programs, *files)


NEEDS: tuple[Need, ...] = (
    Need(
        "QEMU",
        "the machine that the guest runs in",
        ("qemu-system-x86",),
        programs=(qemu.PROGRAM,),
        version=(qemu.PROGRAM, "--version"),
    ),
    Need(
        "kernel source",
        "the kernels are built from it, unless --source names another one",
        ("linux-source-6.12", "linux-source"),
        files=(_SOURCE,),
    ),
    Need(
        "gcc",
        "compiles the kernel and the agent",
        ("gcc",),
        programs=("gcc",),
        version=("gcc", "--version"),
    ),
    Need(
        "binutils",
        "assembles and links the kernel",
        ("binutils",),
        programs=("as", "ld", "objcopy"),
        version=("ld", "--version"),
    ),
    Need(
        "make",
        "drives the kernel's build",
        ("make",),
        programs=("make",),
        version=("make", "--version"),
    ),
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
    Need(
        "flex",
        "the kernel's Kconfig parser is made with it",
        ("flex",),
        programs=("flex",),
        version=("flex", "--version"),
    ),
    Need(
        "bison",
        "as flex",
        ("bison",),
        programs=("bison",),
        version=("bison", "--version"),
    ),
    Need(
        "bc",
        "computes the kernel's time constants",
        ("bc",),
        programs=("bc",),
        version=("bc", "--version"),
    ),
    Need(
        "libelf headers",
        "objtool, which checks and patches the kernel's objects, reads ELF with it",
        ("libelf-dev",),
        files=("usr/include/libelf.h", "usr/include/gelf.h"),
    ),
    Need(
        "patch",
        "applies --patch files",
        ("patch",),
        programs=("patch",),
        version=("patch", "--version"),
    ),
    Need(
        "xz",
        "unpacks the kernel source",
        ("xz-utils",),
        programs=("xz",),
        version=("xz", "--version"),
    ),
    Need(
        "lz4",
        "packs the bzImage that boots fastest",
        ("lz4",),
        programs=("lz4",),
        version=("lz4", "--version"),
    ),
    Need(
        "zstd",
        "packs what goes on the ISO",
        ("zstd",),
        programs=("zstd",),
        version=("zstd", "--version"),
    ),
    Need(
        "musl",
        "links the agent statically, in a tenth of glibc's size",
        ("musl-tools",),
        programs=("musl-gcc",),
        version=("/lib/ld-musl-x86_64.so.1",),
    ),
    Need(
        "busybox",
        "the guest's shell and tools",
        ("busybox",),
        programs=("busybox",),
        version=("busybox",),
    ),
    Need(
        "iproute2",
        "the guest's `ip`; copied into the image with the libraries it needs",
        ("iproute2",),
        programs=("ip",),
        version=("ip", "-Version"),
    ),
    Need(
        "bsdtar",
        "writes the initramfs, device nodes included, without root",
        ("libarchive-tools",),
        programs=("bsdtar",),
        version=("bsdtar", "--version"),
    ),
    Need(
        "genisoimage",
        "writes the ISO",
        ("genisoimage",),
        programs=("genisoimage",),
        version=("genisoimage", "--version"),
    ),
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
        files=(
            "usr/lib/syslinux/modules/bios/ldlinux.c32",
            "usr/lib/syslinux/modules/bios/menu.c32",
        ),
    ),
    Need(
        "faketime",
        "holds genisoimage's clock: the same inputs give the same ISO",
        ("faketime",),
        programs=("faketime",),
        version=("faketime", "--version"),
    ),
    Need(
        "git",
        "names the state of a person's own kernel tree",
        ("git",),
        programs=("git",),
        version=("git", "--version"),
    ),
    Need(
        "shellcheck",
        "`invoke lint` checks the guest's shell with it",
        ("shellcheck",),
        programs=("shellcheck",),
        version=("shellcheck", "--version"),
    ),
)

PROFILING: tuple[Need, ...] = (
    Need(
        "perf",
        "samples the guest for `invoke profile`; goes into an image of its own",
        ("linux-perf",),
        programs=("perf",),
        version=("perf", "--version"),
    ),
)
"""What `invoke profile` needs on top: 33 MB with its libraries, so it is left out of set-up."""

DEBUGGING: tuple[Need, ...] = (
    Need(
        "gdb",
        "attaches to the guest for `invoke gdb`",
        ("gdb",),
        programs=("gdb",),
        version=("gdb", "--version"),
    ),
)
"""What `invoke gdb` needs on top; it brings a Python of its own."""

SELFTESTING: tuple[Need, ...] = tuple(
    Need(program, "`invoke selftest`: tests ask for it", (package,), programs=(program,))
    for program, package in (
        ("ethtool", "ethtool"),
        ("iptables", "iptables"),
        ("jq", "jq"),
        ("nft", "nftables"),
        ("ping", "iputils-ping"),
        ("socat", "socat"),
        ("tcpdump", "tcpdump"),
    )
)
"""What the kernel's self-tests ask for most; images/selftest/manifest.toml has all of it."""


def unmet(needs: Sequence[Need] = NEEDS, root: Path = ROOT) -> tuple[Need, ...]:
    """Return the needs that this machine does not meet. Starts no program."""
    return tuple(need for need in needs if need.lacks(root))


def kernel_sources(root: Path = ROOT) -> tuple[Path, ...]:
    """Return Debian's kernel source archives on this machine, the newest version last."""
    return tuple(sorted(root.glob(_SOURCE), key=_version_of))


def _version_of(archive: Path) -> tuple[int, ...]:
    digits = archive.name.removeprefix("linux-source-").removesuffix(".tar.xz")
    return tuple(int(part) for part in digits.split(".") if part.isdigit())
