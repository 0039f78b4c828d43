"""Kernels in Debian's packages: found, fetched, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_apt import FakeApt, deb
from fake_modules import module
from fake_tree import header

from linklab.errors import LabError, UsageError
from linklab.events import Event, Note, ignore
from linklab.host.cache import Cache
from linklab.host.debs import Archive
from linklab.host.run import CommandFailed
from linklab.kernel.compile import CONFIG
from linklab.kernel.debkernel import (
    VMLINUZ,
    check_package,
    is_package,
    modules_of,
    package_artefact,
)
from linklab.kernel.kernel import find_kernel

RELEASE = "6.1.0-56-cloud-amd64"
IMAGE = f"linux-image-{RELEASE}"
META = "linux-image-cloud-amd64"
FILES = {
    f"boot/vmlinuz-{RELEASE}": header(RELEASE) + b"payload",
    f"boot/config-{RELEASE}": b"CONFIG_DUMMY=m\n",
    f"boot/System.map-{RELEASE}": b"elsewhere",
    f"lib/modules/{RELEASE}/modules.builtin": b"kernel/net/ipv6.ko\n",
    f"lib/modules/{RELEASE}/kernel/drivers/net/dummy.ko": module(),
    "usr/share/doc/copyright": b"GPL",
}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    """A Debian whose own kernel is `IMAGE`, and that knows of it."""
    apt = FakeApt(tmp_path, monkeypatch)
    apt.add(META, "1", f"{IMAGE} (= 1)")
    apt.add(IMAGE, "1", "kmod, initramfs-tools | linux-initramfs-tool", deb(tmp_path, FILES))
    apt.tell_system()
    return apt


# What names a package


@pytest.mark.parametrize(
    ("name", "one"),
    [("debian", True), ("deb:linux-image-6.12-amd64", True), ("sysfs", False), ("a.deb", False)],
)
def test_a_word_names_a_package_or_does_not(name: str, one: bool) -> None:
    assert is_package(name) is one


def test_what_cannot_be_a_kernels_package_is_refused_before_anything_is_fetched(
    apt: FakeApt, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="a kernel's package is expected, linux-image"):
        check_package("deb:bash")
    with pytest.raises(UsageError, match=r"there is no file nowhere/x\.deb"):
        check_package("deb:nowhere/x.deb")
    check_package("debian")
    check_package(f"deb:{deb(tmp_path, FILES)}")
    assert apt.calls == ""


# Packages that are fetched


def test_this_debians_kernel_is_fetched_once(apt: FakeApt, cache: Cache) -> None:
    kernel = find_kernel("debian", cache, ignore)
    assert (kernel.name, kernel.release) == ("debian", RELEASE)
    assert kernel.bzimage.read_bytes() == FILES[f"boot/vmlinuz-{RELEASE}"]
    assert kernel.config is not None
    assert kernel.config.read_text() == "CONFIG_DUMMY=m\n"
    assert kernel.inputs["package"] == IMAGE
    assert kernel.modules is not None
    assert [m.name for m in kernel.modules.in_order(["dummy"])] == ["dummy"]
    assert kernel.modules.builtin == {"ipv6"}
    assert "install" not in apt.calls

    assert apt.calls.count(" download ") == 1


def test_what_apt_said_is_remembered_while_its_lists_are_the_same(
    apt: FakeApt, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linklab.kernel.debkernel.Archive", rooted(apt))
    package_artefact("debian", cache, ignore)
    asked = apt.calls.count("apt-cache")
    package_artefact("debian", cache, ignore)
    assert apt.calls.count("apt-cache") == asked
    apt.add(META, "2", f"{IMAGE} (= 1)")
    (apt.system / META).unlink()
    apt.tell_system()
    package_artefact("debian", cache, ignore)
    assert apt.calls.count("apt-cache") > asked


def rooted(apt: FakeApt) -> object:
    return lambda cache, listener: Archive(cache, listener, apt.root)


def test_a_machine_without_lists_gets_lists_of_the_labs_own(apt: FakeApt, cache: Cache) -> None:
    for file in apt.system.iterdir():
        file.unlink()
    events: list[Event] = []
    assert package_artefact("debian", cache, events.append).about["release"] == RELEASE
    assert any("do not name" in e.text for e in events if isinstance(e, Note))
    assert "Sandbox" in apt.calls, "as root apt would not write into the cache"


def test_a_version_that_is_gone_is_replaced_by_the_one_that_came_after(
    apt: FakeApt, cache: Cache, tmp_path: Path
) -> None:
    apt.withdraw(IMAGE, "1")
    newer = {**FILES, f"boot/config-{RELEASE}": b"newer\n"}
    apt.add(IMAGE, "2", "kmod", deb(tmp_path, newer))
    artefact = package_artefact("debian", cache, ignore)
    assert artefact.file(CONFIG).read_text() == "newer\n"


def test_a_package_that_nobody_has_is_an_error_that_says_where_to_look(
    apt: FakeApt, cache: Cache
) -> None:
    with pytest.raises(LabError, match="apt knows no package linux-image-9"):
        package_artefact("deb:linux-image-9", cache, ignore)


def test_a_package_that_cannot_be_fetched_leaves_nothing_behind(apt: FakeApt, cache: Cache) -> None:
    apt.withdraw(IMAGE, "1")
    with pytest.raises(CommandFailed) as caught:
        package_artefact("debian", cache, ignore)
    assert "404" in caught.value.evidence
    assert list((cache.root / "tmp").iterdir()) == []


def test_meta_packages_that_lead_in_a_circle_are_told(apt: FakeApt, cache: Cache) -> None:
    apt.add("linux-image-a", "1", "linux-image-b")
    apt.add("linux-image-b", "1", "linux-image-a")
    apt.tell_system()
    with pytest.raises(LabError, match="from one meta-package to the next"):
        package_artefact("deb:linux-image-a", cache, ignore)


def test_without_apt_it_is_told(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="apt-get is not on this machine"):
        package_artefact("debian", cache, ignore)


# Packages that a person has


def test_a_packages_file_is_taken_apart(cache: Cache, tmp_path: Path) -> None:
    moved = {
        f"usr/{name}" if name.startswith("lib") else name: content
        for name, content in FILES.items()
        if "config" not in name
    }
    file = deb(tmp_path, moved)
    kernel = find_kernel(f"deb:{file}", cache, ignore)
    assert kernel.release == RELEASE
    assert kernel.config is None
    assert kernel.modules is not None
    assert kernel.modules.has("dummy")


def test_the_same_package_gives_the_same_artefact(tmp_path: Path) -> None:
    file = deb(tmp_path, FILES)
    one, other = (
        package_artefact(f"deb:{file}", Cache(tmp_path / name), ignore) for name in ("a", "b")
    )
    assert one.hashes == other.hashes
    assert set(one.hashes) == {VMLINUZ, CONFIG, "modules.zip"}
    assert modules_of(one).origin == "package made"


def test_a_package_without_a_kernel_is_refused(cache: Cache, tmp_path: Path) -> None:
    file = deb(tmp_path, {"usr/bin/x": b""})
    with pytest.raises(UsageError, match="no kernel's package: there is no boot/vmlinuz"):
        package_artefact(f"deb:{file}", cache, ignore)


def test_what_is_no_package_is_refused_with_dpkgs_words(cache: Cache, tmp_path: Path) -> None:
    file = tmp_path / "x.deb"
    file.write_bytes(b"no archive at all" * 100)
    with pytest.raises(UsageError, match=r"x\.deb is no Debian package: .*not a Debian"):
        package_artefact(f"deb:{file}", cache, ignore)
