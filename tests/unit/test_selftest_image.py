"""The image for self-tests: tools that the host may lack, and scripts that stand in for some."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import image_box
import pytest

from linklab.host.cache import Cache, Remembered
from linklab.image.userland import (
    Entry,
    File,
    Link,
    Manifest,
    program_entries,
    read_manifest,
    tree_of,
)
from linklab.paths import GUEST, IMAGES

MODPROBE = GUEST / "selftest" / "modprobe"
TOOLS = """
include = "../base"
[[tools]]
package = "things"
folder = "/bin"
commands = ["cat", "no-such-tool", "one", "two", "script"]
[host]
files = ["{folder}/*.so", "{folder}/deep/**/*"]
[links]
"/usr/bin" = "/bin"
[files]
"/bin/helper" = "helper"
"""


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    image_box.small_image(tmp_path / "base")
    (bin_folder := tmp_path / "bin").mkdir()
    (bin_folder / "one").symlink_to("/bin/cat")
    (bin_folder / "two").symlink_to("/bin/cat")
    (bin_folder / "script").write_text("#!/bin/sh\n")
    for name in ("one", "two", "script"):
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/data").write_text("data")
    (tmp_path / "plain.so").write_text("no program")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/helper").write_text("#!/bin/sh\n")
    (tmp_path / "more/manifest.toml").write_text(TOOLS.format(folder=tmp_path))
    return read_manifest(tmp_path / "more")


@pytest.fixture
def packed(manifest: Manifest, tmp_path: Path) -> dict[str, Entry]:
    entries, _ = program_entries(manifest, Remembered(Cache(tmp_path / "cache")))
    return {entry.path: entry for entry in tree_of([*manifest.fixed, *entries])}


def test_a_tool_that_the_host_lacks_is_left_out(packed: dict[str, Entry]) -> None:
    assert "/bin/cat" in packed
    assert "/bin/no-such-tool" not in packed


def test_one_program_of_many_names_is_packed_once(packed: dict[str, Entry]) -> None:
    assert isinstance(packed["/bin/cat"], File)
    assert [packed[path] for path in ("/bin/one", "/bin/two")] == [
        Link("/bin/one", "/bin/cat"),
        Link("/bin/two", "/bin/cat"),
    ]


def test_a_tool_may_be_a_script(packed: dict[str, Entry]) -> None:
    assert packed["/bin/script"].mode == 0o755


def test_files_of_the_host_are_packed_where_they_are(
    packed: dict[str, Entry], tmp_path: Path
) -> None:
    assert {f"{tmp_path}/plain.so", f"{tmp_path}/deep/er/data"} <= packed.keys()


def test_scripts_of_the_manifest_may_run_and_links_are_links(packed: dict[str, Entry]) -> None:
    assert packed["/bin/helper"].mode == 0o755
    assert packed["/usr/bin"] == Link("/usr/bin", "/bin")


def test_a_file_of_its_own_takes_the_place_of_the_other_images(
    packed: dict[str, Entry], tmp_path: Path
) -> None:
    (tmp_path / "over").mkdir()
    (tmp_path / "over/mine").write_text("mine")
    (tmp_path / "over/manifest.toml").write_text(
        'include = "../base"\n[files]\n"/etc/a file" = "mine"\n'
    )
    fixed = [e for e in read_manifest(tmp_path / "over").fixed if e.path == "/etc/a file"]
    assert [entry.read() for entry in fixed if isinstance(entry, File)] == [b"mine"]


def test_a_library_is_packed_once_however_it_is_called(packed: dict[str, Entry]) -> None:
    files = [
        entry.content.resolve()
        for entry in packed.values()
        if isinstance(entry, File) and isinstance(entry.content, Path)
    ]
    libraries = [path for path in files if ".so" in path.name and path.name != "plain.so"]
    assert libraries
    assert len(libraries) == len(set(libraries))


def test_the_image_takes_scripts_for_what_no_guest_has() -> None:
    fixed = {entry.path: entry for entry in read_manifest(IMAGES / "selftest").fixed}
    for path in ("/bin/modprobe", "/bin/udevadm", "/usr/lib/linklab/selftest"):
        assert fixed[path].mode == 0o755


# --- modprobe ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["tls"], 0),
        (["-q", "tls"], 0),
        (["-n", "-q", "esp4-offload"], 0),
        (["esp4_offload"], 0),
        (["test_bpf"], 1),
        (["-q", "test_bpf"], 1),
        (["-r", "tls"], 0),
        (["tls", "version=1"], 0),
    ],
)
def test_modprobe_answers_from_the_kernels_own_list(
    tmp_path: Path, words: list[str], status: int
) -> None:
    (listing := tmp_path / "modules.builtin").write_text(
        "kernel/net/tls/tls.ko\nkernel/net/ipv4/esp4_offload.ko\n"
    )
    (script := tmp_path / "modprobe").write_text(
        MODPROBE.read_text().replace("/lib/modules/modules.builtin", str(listing))
    )
    done = subprocess.run(["/bin/sh", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert not done.stdout
    assert bool(done.stderr) == (status == 1 and "-q" not in words)


def test_modinfo_names_what_is_built_in(tmp_path: Path) -> None:
    (listing := tmp_path / "modules.builtin").write_text("kernel/net/sched/act_mirred.ko\n")
    (script := tmp_path / "modinfo").write_text(
        MODPROBE.read_text().replace("/lib/modules/modules.builtin", str(listing))
    )
    told = [
        subprocess.run(["/bin/sh", script, name], capture_output=True, text=True, check=False)
        for name in ("act_mirred", "act_other")
    ]
    assert [done.returncode for done in told] == [0, 1]
    assert "name: act_mirred\n" in told[0].stdout
    assert "modinfo: act_other is not built" in told[1].stderr
