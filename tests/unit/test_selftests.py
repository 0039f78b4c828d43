"""Self-tests found in a source, compiled, and packed, from a tree in miniature."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_tree import make_tree
from selftest_tree import make_selftests

from linklab.commands import selftest
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.errors import BuildSkipped, LabError, UsageError
from linklab.events import Note, ignore
from linklab.host.cache import Cache
from linklab.image.userland import Entry, File
from linklab.kernel import make as make_module
from linklab.kernel.kernel import BuildOptions, Kernel, KernelSpec, plan
from linklab.machine.spec import Boot
from linklab.selftests import workplan as workplan_module
from linklab.selftests.catalogue import (
    SelftestFiles,
    checked_out,
    choose_tests,
    find_selftests,
    normalized,
)
from linklab.selftests.programs import (
    INCLUDE,
    Unbuilt,
    Workshop,
    build_headers,
    missing_in,
    packages_of,
)
from linklab.selftests.workplan import (
    BUILT_IN,
    COMMON,
    GUEST_ROOT,
    IMAGE,
    PYTHON_IMAGE,
    Ready,
    Toolbox,
    built_in,
    built_in_entry,
    config_of,
    make_ready,
    plan_tests,
    read_toolbox,
    said_of,
    wanted_by,
)


@pytest.fixture(autouse=True)
def no_tools_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_module, "_NEEDED", frozenset(("gcc", "make")))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_selftests(tmp_path / "linux")


def checkout_of(tree: Path, cache: Cache) -> SelftestFiles:
    planned = plan(KernelSpec("sysfs", BuildOptions(source=tree)), cache, ignore)
    return find_selftests(planned.source, planned.tree)


@pytest.fixture
def checkout(tree: Path, cache: Cache) -> Iterator[SelftestFiles]:
    with checked_out(checkout_of(tree, cache), ignore) as there:
        yield there


def chosen(checkout: SelftestFiles, *words: str) -> list[str]:
    return [test.path for test in choose_tests(checkout, words)]


# --- which tests there are --------------------------------------------------------


def test_a_collection_is_what_its_makefile_names_in_the_runners_order(
    checkout: SelftestFiles,
) -> None:
    assert chosen(checkout, "net") == [
        "net/good",
        "net/bad",
        "net/lonely",
        "net/unlinked",
        "net/hello.sh",
        "net/uses.sh",
    ]


@pytest.mark.parametrize(
    "word", ["net/good", "net:good", "tools/testing/selftests/net/good", "/net/good/"]
)
def test_a_test_has_a_name_in_every_way_people_write_it(checkout: SelftestFiles, word: str) -> None:
    (test,) = choose_tests(checkout, [word])
    assert test.path == "net/good"


def test_a_test_that_two_words_name_is_run_once(checkout: SelftestFiles) -> None:
    assert chosen(checkout, "net/hello.sh", "net/good", "net/hello.sh") == [
        "net/hello.sh",
        "net/good",
    ]


def test_collections_may_lie_in_one_another(checkout: SelftestFiles) -> None:
    assert chosen(checkout, "net/inner", "elsewhere") == ["net/inner/deep.sh", "elsewhere/other.sh"]
    assert "net/inner/deep.sh" not in checkout.own_files("net")


def test_one_that_is_run_by_hand_has_to_be_named(checkout: SelftestFiles) -> None:
    assert chosen(checkout, "net/byhand.sh") == ["net/byhand.sh"]
    assert "net/byhand.sh" not in chosen(checkout, "net")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("net/helo.sh", "near are net/hello.sh"),
        ("nett", "near are net"),
        ("net/helper", "compiled for other tests to run"),
        ("net/lib.sh", "a file of net and no test"),
        ("net/nothing-like-it-at-all-anywhere", "there is no self-test"),
        ("xyzzy", "such as net/rtnetlink.sh, is expected"),
        ("empty", "its Makefile names none"),
    ],
)
def test_a_word_that_means_no_test_is_refused(
    checkout: SelftestFiles, word: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        choose_tests(checkout, [word])
    assert word in error.value.message


def test_a_makefile_that_make_cannot_read_is_named(checkout: SelftestFiles) -> None:
    with pytest.raises(LabError, match="selftests/broken") as error:
        choose_tests(checkout, ["broken"])
    assert "this collection cannot be read" in error.value.evidence


def test_a_source_without_self_tests_says_so(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(UsageError, match="has no self-tests"):
        checkout_of(make_tree(tmp_path / "bare"), cache)


def test_the_files_are_those_of_the_state_that_was_asked_for(tree: Path, cache: Cache) -> None:
    before = checkout_of(tree, cache)
    (tree / "tools/testing/selftests/net/hello.sh").write_text("#!/bin/sh\necho changed\n")
    after = checkout_of(tree, cache)
    for state, text in ((after, b"changed"), (before, b"nft list")):
        with checked_out(state, ignore) as there:
            assert text in there.read("net/hello.sh")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("lib.sh", "net/lib.sh"),
        ("../elsewhere/shared.sh", "elsewhere/shared.sh"),
        ("./x", "net/x"),
        ("../../../../Documentation", None),
    ],
)
def test_paths_are_named_from_the_root(path: str, found: str | None) -> None:
    assert normalized("net", path) == found


# --- what they want of a kernel ------------------------------------------------------


def test_modules_are_built_in_and_what_is_no_option_is_left_out() -> None:
    text = "CONFIG_A=m\nCONFIG_B=y\n# why\n# CONFIG_C is not set\nnonsense\nCONFIG_D=7\n"
    assert built_in(text) == "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=7\n"


def test_a_collection_wants_its_own_options_or_those_around_it(
    checkout: SelftestFiles, cache: Cache
) -> None:
    own, inner = (wanted_by(checkout, name, cache) for name in ("net", "net/inner"))
    assert own.fragments[0] == COMMON
    assert "CONFIG_VETH=y" in own.fragments[1].read_text()
    assert inner == own
    assert own.origin == "net/config"
    assert wanted_by(checkout, "elsewhere", cache).fragments == (COMMON,)


def test_options_that_a_kernel_lacks_are_named(
    checkout: SelftestFiles, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (common := tmp_path / "common").write_text("")
    monkeypatch.setattr(workplan_module, "COMMON", common)
    wanted = wanted_by(checkout, "net", cache)
    (finished := tmp_path / "config").write_text("CONFIG_NET_NS=y\n")
    missing = wanted.missing(finished)
    assert [entry.wish.option for entry in missing] == ["CONFIG_VETH"]
    assert said_of(missing, "sysfs").endswith("1 options that the tests would like: CONFIG_VETH")
    assert wanted.missing(None) == []


def test_a_config_that_makes_no_sense_names_its_file(tree: Path, cache: Cache) -> None:
    (tree / "tools/testing/selftests/net/config").write_text("CONFIG_A=what\n")
    with (
        checked_out(checkout_of(tree, cache), ignore) as checkout,
        pytest.raises(UsageError, match="net/config of the self-tests"),
    ):
        wanted_by(checkout, "net", cache)


# --- compiled ones ---------------------------------------------------------------------


@pytest.fixture
def workshop(checkout: SelftestFiles, cache: Cache) -> Workshop:
    return Workshop(checkout, build_headers(checkout, cache, ignore), cache, ignore)


def test_a_program_is_compiled_with_the_sources_own_headers(workshop: Workshop) -> None:
    program = workshop.build("net", "good")
    assert subprocess.run([program], check=False).returncode == 0
    kept = sorted(path.name for path in program.parent.iterdir())
    assert kept == ["manifest.json", "program"]


def test_a_program_is_compiled_once_and_not_for_a_script_that_changes(
    tree: Path, cache: Cache, workshop: Workshop
) -> None:
    first = workshop.build("net", "good")
    (tree / "tools/testing/selftests/net/hello.sh").write_text("#!/bin/sh\n")
    changed = checkout_of(tree, cache)
    headers = build_headers(changed, cache, ignore)
    assert headers.key == workshop.headers.key
    assert Workshop(changed, headers, cache, ignore).build("net", "good") == first


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad", r"net/bad does not compile: bad\.c:1:\d+: error: .nothing. undeclared"),
        ("lonely", r"there is no numa\.h.*apt-get install .* libnuma-dev"),
        ("unlinked", "there is no libnosuchthing"),
    ],
)
def test_one_that_cannot_be_compiled_says_why(workshop: Workshop, name: str, said: str) -> None:
    if name == "lonely" and Path("/usr/include/numa.h").exists():
        pytest.skip("this host has numa.h")
    with pytest.raises(Unbuilt, match=said) as error:
        workshop.build("net", name)
    assert error.value.evidence


def test_what_is_missing_is_read_out_of_what_tools_say() -> None:
    text = """
a.c:2:10: fatal error: sys/capability.h: No such file or directory
/usr/bin/ld: cannot find -lmnl: No such file or directory
/bin/sh: 1: clang: not found
ModuleNotFoundError: No module named 'yaml'
"""
    lacking = missing_in(text)
    assert lacking == {"sys/capability.h", "libmnl", "clang", "python3-yaml"}
    assert packages_of(lacking) == ["clang", "libcap-dev", "libmnl-dev", "python3-yaml"]
    assert packages_of({"nobody-knows"}) == []


def test_headers_that_cannot_be_installed_say_why(tree: Path, cache: Cache) -> None:
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text() + "headers: nothing-makes-this\n")
    with (
        checked_out(checkout_of(tree, cache), ignore) as checkout,
        pytest.raises(BuildSkipped, match="headers of") as error,
    ):
        build_headers(checkout, cache, ignore)
    assert "nothing-makes-this" in error.value.evidence


def test_headers_are_those_of_the_source(workshop: Workshop) -> None:
    header = workshop.headers.file(INCLUDE) / "linux/fromthekernel.h"
    assert "FROM_THE_KERNEL 42" in header.read_text()


# --- packed -------------------------------------------------------------------------------


TOOLS = Toolbox(
    {"bash": "bash", "ip": "iproute2", "nft": "nftables", "python3": "python3"},
    frozenset({"bash", "ip", "python3"}),
)


def ready(tree: Path, cache: Cache, *words: str) -> Ready:
    planned = plan(KernelSpec("sysfs", BuildOptions(source=tree)), cache, ignore)
    work = plan_tests(planned.source, planned.tree, words, ignore)
    (collection,) = work.collections
    assert config_of(work, collection, cache, ignore).origin == "net/config"
    return make_ready(work, collection, TOOLS, cache, ignore)


def paths(part: Ready) -> set[str]:
    return {entry.path.removeprefix(f"{GUEST_ROOT}/") for entry in part.entries}


def test_a_collections_files_are_packed_and_their_sources_are_not(tree: Path, cache: Cache) -> None:
    part = ready(tree, cache, "net/hello.sh")
    assert paths(part) == {
        "elsewhere/shared.sh",
        "kselftest/runner.sh",
        "net/byhand.sh",
        "net/config",
        "net/data/packet.pkt",
        "net/hello.sh",
        "net/lib.sh",
        "net/settings",
        "net/uses.sh",
    }
    modes = {e.path: e.mode for e in part.entries if isinstance(e, File)}
    assert modes[f"{GUEST_ROOT}/net/hello.sh"] == 0o755
    assert modes[f"{GUEST_ROOT}/net/settings"] == 0o644
    assert part.settings == "timeout=3600\n"


def test_tools_that_are_asked_for_in_vain_are_named_with_their_package(
    tree: Path, cache: Cache
) -> None:
    part = ready(tree, cache, "net/hello.sh")
    assert part.lacking == {"hello.sh": {"frobnicator": "", "nft": "nftables"}}


def test_one_in_python_gets_an_image_with_that_and_the_netlink_library(
    tree: Path, cache: Cache
) -> None:
    for name in (
        "tools/testing/selftests/net/lib/py/ksft.py",
        "tools/net/ynl/lib/ynl.py",
        "Documentation/netlink/specs/netdev.yaml",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("\n")
    script = tree / "tools/testing/selftests/net/hello.sh"
    script.write_text("#!/usr/bin/env python3\n")
    part = ready(tree, cache, "net/hello.sh", "net/uses.sh")
    assert part.image == PYTHON_IMAGE
    assert {
        "net/lib/py/ksft.py",
        "/linux/tools/net/ynl/lib/ynl.py",
        "/linux/Documentation/netlink/specs/netdev.yaml",
    } <= paths(part)
    assert ready(tree, cache, "net/uses.sh").image == IMAGE


def test_programs_that_a_script_runs_are_compiled_and_packed(tree: Path, cache: Cache) -> None:
    part = ready(tree, cache, "net/uses.sh", "net/good", "net/bad")
    assert {"net/helper", "net/good"} <= paths(part)
    assert "bad" in part.unbuilt
    assert not {"net/bad", "net/unlinked"} & paths(part)


def test_the_image_has_what_busybox_lacks_or_names_it() -> None:
    toolbox = read_toolbox()
    assert {"bash", "sh", "tc", "ss", "modprobe"} <= toolbox.there
    assert toolbox.packages["nft"] == "nftables"
    assert toolbox.packages["python3"] == "python3"


def test_the_kernels_list_of_what_is_built_in_is_packed(tmp_path: Path) -> None:
    (listing := tmp_path / "modules.builtin").write_text("kernel/net/tls/tls.ko\n")
    entry = built_in_entry(listing)
    assert isinstance(entry, File)
    assert (entry.path, entry.read()) == (BUILT_IN, b"kernel/net/tls/tls.ko\n")
    empty = built_in_entry(None)
    assert isinstance(empty, File) and empty.read() == b""


# --- made ready for the command -------------------------------------------------------------


class Prepared:
    """What the command prepared, its kernels and machines faked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.options: list[BuildOptions] = []
        self.images: list[tuple[Entry, ...]] = []
        self.boots: list[str] = []
        self.saved = 0
        self.folder = folder
        monkeypatch.setattr(selftest, "resolve_kernel", self._kernel)
        monkeypatch.setattr(selftest, "set_up_lab", self._lab)

    def _kernel(self, name: str, options: BuildOptions, *_words: object) -> Kernel:
        self.options.append(options)
        (self.folder / "modules.builtin").write_text("kernel/net/tls/tls.ko\n")
        (config := self.folder / "config").write_text("CONFIG_NET_NS=y\n")
        (bzimage := self.folder / "bzImage").write_text("a kernel")
        return Kernel(name, "6.6.6", bzimage, None, config, "0" * 64, built_by_lab=True)

    def _lab(self, machine: MachineOptions, *words: object) -> object:
        self.boots.append(machine.boot)
        self.images.append(words[-1])  # type: ignore[arg-type]
        return SimpleNamespace(boot=Boot(machine.boot), with_snapshots=self._save)

    def _save(self, *_words: object) -> object:
        self.saved += 1
        return SimpleNamespace(boot=Boot.RESUME)


def test_all_is_prepared_before_the_first_test_runs(
    tree: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Prepared(monkeypatch, tmp_path)
    notes: list[str] = []
    (part,) = selftest.prepare(
        KernelOptions("sysfs", str(tree)),
        MachineOptions(boot="auto"),
        ["net"],
        512,
        cache,
        lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    assert seen.options[0].optional[0].name == "kernel.config"
    assert seen.boots == ["resume"] and seen.saved == 1
    packed = {entry.path: entry for entry in seen.images[0]}
    assert f"{GUEST_ROOT}/net/good" in packed
    listing = packed[BUILT_IN]
    assert isinstance(listing, File) and listing.read() == b"kernel/net/tls/tls.ko\n"
    assert "CONFIG_VETH" in part.missing
    assert part.subject.name == "sysfs"
    assert any("net/bad does not compile" in note for note in notes)
    assert any("CONFIG_VETH" in note for note in notes)


def test_each_collection_has_a_kernel_of_its_own(
    tree: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Prepared(monkeypatch, tmp_path)
    parts = selftest.prepare(
        KernelOptions("sysfs", str(tree)),
        MachineOptions(boot="auto"),
        ["net/hello.sh", "elsewhere"],
        512,
        cache,
        ignore,
    )
    assert [part.subject.name for part in parts] == ["sysfs for net", "sysfs for elsewhere"]
    assert seen.boots == ["direct", "direct"] and not seen.saved
    assert [len(options.optional) for options in seen.options] == [2, 1]


def test_a_distributions_kernel_is_refused(cache: Cache) -> None:
    with pytest.raises(UsageError, match="as modules"):
        selftest.prepare(KernelOptions("debian"), MachineOptions(), ["net"], 512, cache, ignore)
