"""`invoke gdb`: what it refuses, gdb's command line, and what is typed for the guest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_lab import lab_of, subject
from fake_tree import make_tarball, make_tree

from linklab.commands import gdb
from linklab.commands.gdb import GdbOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.errors import LabError, UsageError
from linklab.events import Event, Note, ignore
from linklab.host import packages
from linklab.host.cache import Cache
from linklab.host.packages import DEBUGGING
from linklab.kernel.kernel import BuildOptions, Kernel, KernelSpec, plan, sources_of
from linklab.lab.debugger import Debugging, _Typist, gdb_argv, gdb_script
from linklab.machine.spec import DirectBoot

OPTIONS = GdbOptions(KernelOptions("debug"), MachineOptions(), commands=("break rtnl_setlink",))
SOCKET = Path("/run/gdb")


@pytest.fixture(autouse=True)
def gdb_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "unmet", lambda _needs: ())


# the command line


def test_a_scripted_gdb_attaches_first_and_asks_nobody() -> None:
    what = Debugging(Path("/vmlinux"), commands=("break f", "continue"))
    words = ("gdb", "--quiet", "--batch", "--nx", "-x", "/script", "/vmlinux")
    assert gdb_argv(what, Path("/script")) == words
    lines = ["set breakpoint pending off", "target remote /run/gdb", "break f", "continue"]
    assert gdb_script(what, SOCKET).splitlines() == lines


def test_a_persons_gdb_keeps_its_settings() -> None:
    words = gdb_argv(Debugging(Path("/vmlinux")), Path("/script"))
    assert words == ("gdb", "--quiet", "-x", "/script", "/vmlinux")


def test_sources_are_read_where_they_are_now() -> None:
    moved = Debugging(Path("v"), sources=(Path("/cache/tree"), Path("/home/me/linux")))
    assert "set substitute-path /cache/tree /home/me/linux\n" in gdb_script(moved, SOCKET)
    there = Debugging(Path("v"), sources=(Path("/cache/tree"), Path("/cache/tree")))
    assert "substitute" not in gdb_script(there, SOCKET)


# where the sources are


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_a_persons_folder_is_where_its_sources_are_read(tmp_path: Path, cache: Cache) -> None:
    tree = make_tree(tmp_path / "linux")
    compiled, read = sources_of(KernelSpec("debug", BuildOptions(tree)), cache, ignore)
    assert read == tree
    assert compiled.is_relative_to(cache.root)


def test_other_sources_are_brought_back_to_what_was_compiled(tmp_path: Path, cache: Cache) -> None:
    archive = make_tarball(make_tree(tmp_path / "linux"), tmp_path / "linux.tar.xz")
    spec = KernelSpec("debug", BuildOptions(archive))
    compiled, read = sources_of(spec, cache, ignore)
    assert read == compiled
    (read / "net/a.c").write_text("another state\n")
    sources_of(spec, cache, ignore)
    assert (read / "net/a.c").read_text().startswith("// a\none\n")


def test_nobody_waits_for_a_build_to_read_sources(tmp_path: Path, cache: Cache) -> None:
    archive = make_tarball(make_tree(tmp_path / "linux"), tmp_path / "linux.tar.xz")
    spec = KernelSpec("debug", BuildOptions(archive))
    source = plan(spec, cache, ignore).source
    told: list[Event] = []
    with source.building(ignore):
        compiled, read = sources_of(spec, cache, told.append)
    assert read == compiled == source.store.tree
    notes = [event.text for event in told if isinstance(event, Note)]
    assert notes == [f"a build is at work in {read}: the sources shown may be of another state"]


# what is refused


def refused(options: GdbOptions) -> str:
    with pytest.raises(UsageError) as caught:
        gdb.main(options)
    return caught.value.message


def test_more_than_one_kernel_is_refused() -> None:
    assert "exactly one" in refused(replace(OPTIONS, kernels=KernelOptions("debug,sysfs")))


def test_a_kernel_without_debug_information_is_refused_before_it_is_built() -> None:
    told = refused(replace(OPTIONS, kernels=KernelOptions("nosysfs")))
    assert "--kernel debug" in told and "--config symbols" in told


def test_the_fragment_for_debug_information_is_enough() -> None:
    fragment = str(gdb._FRAGMENT)
    options = replace(OPTIONS, kernels=KernelOptions("nosysfs", configs=(fragment,)))
    assert gdb.check(options) == "nosysfs"


def test_no_terminal_and_no_commands_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert "--command" in refused(replace(OPTIONS, commands=()))


@pytest.mark.parametrize("timeout", ["soon", "-1"])
def test_a_wrong_timeout_is_refused(timeout: str) -> None:
    assert "--timeout" in refused(replace(OPTIONS, timeout=timeout))


def test_a_missing_gdb_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "unmet", lambda _needs: DEBUGGING)
    with pytest.raises(LabError, match="apt-get install --no-install-recommends -y gdb"):
        gdb.check(OPTIONS)


# what is started


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    calls: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gdb, "set_up_lab", lambda *_: lab_of())
    monkeypatch.setattr(gdb, "debug", lambda *words: calls.append(words))
    monkeypatch.setattr(gdb, "sources_of", lambda *_: (Path("/a"), Path("/b")))
    yield calls


def kernel(symbols: Path | None, *, built_by_lab: bool = True) -> Kernel:
    for made in filter(None, (Path("bzImage"), symbols)):
        made.write_text("a kernel")
    return Kernel(
        "debug", "6.12.0", Path("bzImage"), None, None, "0" * 64, built_by_lab, symbols=symbols
    )


def test_the_guest_is_a_shell_without_an_agent(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gdb, "resolve_kernel", lambda *_: kernel(Path("vmlinux.debug")))
    gdb.main(replace(OPTIONS, typed=("ip link",), log="console.log", timeout="7"))
    ((_, spec, what, log),) = started
    assert isinstance(spec.boot, DirectBoot)
    assert {"nokaslr", "panic=0"} <= set(spec.boot.command_line)
    assert not [word for word in spec.boot.command_line if word.startswith("rdinit=")]
    assert what == Debugging(
        Path("vmlinux.debug"),
        (Path("/a"), Path("/b")),
        ("break rtnl_setlink",),
        ("ip link",),
        7.0,
    )
    assert log == Path("console.log")


def test_a_kernel_of_ones_own_has_its_sources_where_its_symbols_say(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = kernel(Path("vmlinux"), built_by_lab=False)
    monkeypatch.setattr(gdb, "resolve_kernel", lambda *_: own)
    gdb.main(OPTIONS)
    assert started[0][2].sources is None


def test_a_kernel_of_ones_own_without_symbols_is_refused(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gdb, "resolve_kernel", lambda *_: kernel(None, built_by_lab=False))
    assert "no debug information" in refused(OPTIONS)
    assert not started


def test_the_machine_is_the_one_that_the_kernel_boots_on() -> None:
    spec = gdb.debugging_spec(lab_of(), subject("debug"))
    assert spec.machine.value == "microvm"


# what is typed


class FakeConsole:
    def __init__(self) -> None:
        self.watch = SimpleNamespace(tail="")
        self.typed: list[bytes] = []

    def type(self, text: bytes) -> None:
        self.typed.append(text)


def test_each_line_is_typed_at_a_prompt_of_its_own() -> None:
    console = FakeConsole()
    typist = _Typist(console, ["ip link", "ip addr"])  # type: ignore[arg-type]
    screens = [
        ("booting", []),
        ("booting\n~ # ", [b"ip link\n"]),
        ("booting\n~ # ", [b"ip link\n"]),
        ("booting\n~ # ip link\n1: lo", [b"ip link\n"]),
        ("1: lo\n~ # \x1b[6n", [b"ip link\n", b"ip addr\n"]),
        ("ip addr", [b"ip link\n", b"ip addr\n"]),
        ("~ # ", [b"ip link\n", b"ip addr\n"]),
    ]
    for tail, typed in screens:
        console.watch.tail = tail
        typist.look()
        assert console.typed == typed
