"""What a kernel must have to be tested, and the image that it gets for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import image_box
import pytest
from fake_modules import RELEASE, module, modules_folder, tree_in
from fake_tree import header

from linklab import paths
from linklab.errors import UsageError
from linklab.events import Event, Note, ignore
from linklab.host.cache import Cache
from linklab.image.initramfs import ARCHIVE, MODULES, build_initramfs, with_modules
from linklab.kernel.kernel import BuildOptions, Kernel, check_kernel, find_kernel
from linklab.kernel.modules import Module, ModuleTree
from linklab.kernel.requirements import BOOT, SHELL, modules_needed, needs_of
from linklab.machine.spec import Boot, MachineType
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.scenario import Scenario
from linklab.trials import subjects
from linklab.trials.subjects import Requirements, guest_image

(GROUPING,) = Grouping.all_needs()
GROUPS = (BOOT, GROUPING)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def kernel(folder: Path, config: str | None = None, modules: ModuleTree | None = None) -> Kernel:
    """Return a kernel; a config in which all of the boot's needs are met has `config` on top."""
    path = None
    if config is not None:
        path = folder / "config"
        met = "".join(f"{need.option}=y\n" for need in needs_of((BOOT,)))
        path.write_text(f"{met}{config}")
    return Kernel("mine", RELEASE, folder / "bzImage", None, path, "0" * 64, False, modules=modules)


def with_dummy(folder: Path) -> ModuleTree:
    return tree_in(modules_folder(folder / "modules", net_dummy=module()))


# What is needed


def test_each_boot_and_scenario_names_needs_and_says_what_for() -> None:
    for groups in ((BOOT,), (GROUPING,), (SHELL,), ("iso",), ("microvm",)):
        needs = needs_of(groups)
        assert needs
        assert all(need.option.startswith("CONFIG_") and need.why for need in needs)
    assert needs_of(("frob",)) == ()


def test_what_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    assert modules_needed(kernel(tmp_path, "CONFIG_DUMMY=y\n"), GROUPS) == ()
    tree = with_dummy(tmp_path)
    assert modules_needed(kernel(tmp_path, "CONFIG_DUMMY=y\n", tree), GROUPS) == ()


def test_what_is_a_module_is_loaded(tmp_path: Path) -> None:
    tree = with_dummy(tmp_path)
    assert modules_needed(kernel(tmp_path, "CONFIG_DUMMY=m\n", tree), GROUPS) == ("dummy",)
    assert modules_needed(kernel(tmp_path, None, tree), GROUPS) == ("dummy",), "by its modules"


def test_a_kernel_that_tells_nothing_of_itself_is_trusted(tmp_path: Path) -> None:
    assert modules_needed(kernel(tmp_path), GROUPS) == ()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("", "CONFIG_DUMMY, which is neither built in nor a module: the interfaces that"),
        ("CONFIG_DUMMY=m\n", f"is a module, and the modules of {RELEASE} were not found"),
        ("CONFIG_DUMMY=y\n# CONFIG_NET is not set\n", "CONFIG_NET, which is not built in: what"),
        ("CONFIG_DUMMY=y\nCONFIG_BINFMT_ELF=m\n", "is a module and must be built in: the agent"),
    ],
)
def test_what_a_kernel_lacks_is_named_with_what_it_is_for(
    tmp_path: Path, config: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        modules_needed(kernel(tmp_path, config), GROUPS)
    assert says in caught.value.message
    assert "kernel mine (6.12.0-test) lacks" in caught.value.message


def test_a_kernel_that_takes_no_command_line_is_refused(tmp_path: Path) -> None:
    own = 'CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="quiet"\nCONFIG_CMDLINE_OVERRIDE=y\n'
    with pytest.raises(UsageError, match=r'CONFIG_CMDLINE_OVERRIDE=y: it takes its own .* "quiet"'):
        modules_needed(kernel(tmp_path, own), ())
    modules_needed(kernel(tmp_path, own.replace("OVERRIDE=y", "OVERRIDE=n")), ())


def test_a_fragment_that_takes_the_command_line_away_is_refused_before_anything_is_built(
    tmp_path: Path,
) -> None:
    fragment = tmp_path / "own.config"
    fragment.write_text("CONFIG_CMDLINE_OVERRIDE=y\n")
    with pytest.raises(UsageError, match="kernel nosysfs has CONFIG_CMDLINE_OVERRIDE=y"):
        check_kernel("nosysfs", BuildOptions(configs=(fragment,)))


def test_modules_without_the_one_that_is_needed_are_told(tmp_path: Path) -> None:
    tree = tree_in(modules_folder(tmp_path / "modules"))
    with pytest.raises(UsageError, match="CONFIG_DUMMY"):
        modules_needed(kernel(tmp_path, None, tree), GROUPS)


def test_a_scenarios_fragment_is_checked_on_a_kernel_that_the_lab_did_not_build(
    tmp_path: Path,
) -> None:
    fragment = tmp_path / "mine.config"
    fragment.write_text("CONFIG_VETH=y\nCONFIG_HZ=250\n# CONFIG_KASAN is not set\n")

    class Fragmented(Scenario):
        fragment = tmp_path / "mine.config"

    groups = (BOOT, *Fragmented.all_needs())
    assert modules_needed(kernel(tmp_path, "CONFIG_VETH=y\n"), groups) == ()
    with pytest.raises(UsageError) as caught:
        modules_needed(kernel(tmp_path, "CONFIG_HZ=100\n"), groups)
    assert "CONFIG_VETH, which is not built in: the scenario" in caught.value.message
    assert "CONFIG_HZ" not in caught.value.message, "only what is switched on is a need"
    with pytest.raises(UsageError, match="CONFIG_VETH, which is a module and must be built in"):
        modules_needed(kernel(tmp_path, "CONFIG_VETH=m\n"), groups)


def test_a_list_of_a_scenarios_own_goes_before_its_fragment(tmp_path: Path) -> None:
    (tmp_path / "needs.toml").write_text('CONFIG_VETH = { module = "veth", why = "the links" }\n')

    class Listed(Scenario):
        fragment = tmp_path / "mine.config"
        needs = tmp_path / "needs.toml"

    assert Listed.all_needs() == (str(tmp_path / "needs.toml"),)
    tree = tree_in(modules_folder(tmp_path / "modules", net_veth=module()))
    mine = kernel(tmp_path, "CONFIG_VETH=m\n", tree)
    assert modules_needed(mine, Listed.all_needs()) == ("veth",)
    assert Scenario.all_needs() == ()


# Where the modules of a file lie


@pytest.mark.parametrize(
    ("file", "modules"),
    [
        ("boot/vmlinuz", f"lib/modules/{RELEASE}"),
        ("boot/vmlinuz", f"usr/lib/modules/{RELEASE}"),
        (f"lib/modules/{RELEASE}/vmlinuz", f"lib/modules/{RELEASE}"),
        ("bzImage", f"lib/modules/{RELEASE}"),
    ],
)
def test_modules_are_found_where_a_file_like_it_has_them(
    tmp_path: Path, cache: Cache, file: str, modules: str
) -> None:
    modules_folder(tmp_path / modules, net_dummy=module())
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header(RELEASE))
    (path.parent / f"config-{RELEASE}").write_text("CONFIG_DUMMY=m\n")
    found = find_kernel(str(path), cache, ignore)
    assert found.modules is not None
    assert found.modules.has("dummy")
    assert found.config == path.parent / f"config-{RELEASE}"


def test_modules_of_another_release_are_not_taken(tmp_path: Path, cache: Cache) -> None:
    modules_folder(tmp_path / "lib/modules/5.0", net_dummy=module())
    path = tmp_path / "bzImage"
    path.write_bytes(header(RELEASE))
    assert find_kernel(str(path), cache, ignore).modules is None


# The image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_box.small_image(tmp_path / "image")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    shutil.copy(paths.TEMPLATES / "initramfs.mtree", folder)
    (folder / "hello").write_text("#!/bin/sh\n")
    return folder


LOADED = (
    Module("soft", b"1", optional=True),
    Module("dummy", b"22"),
    Module("mine", b"333", external=True),
)


def test_modules_lie_behind_the_image_which_stays_as_it_is(
    cache: Cache, image: Path, templates: Path
) -> None:
    live = build_initramfs(cache, ignore, image=image, templates=templates)
    before = live.file(ARCHIVE).read_bytes()
    made = with_modules(live, "6.1", LOADED, cache, ignore, templates)
    archive = made.file(ARCHIVE).read_bytes()
    assert archive == before + made.file(MODULES).read_bytes()
    assert len(before) % 4 == 0, "where the next archive must begin"
    members = image_box.read_cpio(archive[len(before) :])
    assert members["/lib/modules/6.1/linklab.load"].content == (
        b"-soft.ko\ndummy.ko\nexternal/mine.ko\n"
    )
    assert members["/lib/modules/6.1/external/mine.ko"].content == b"333"
    assert set(made.about["modules"]) == {"soft", "dummy", "mine"}
    assert build_initramfs(cache, ignore, image=image, templates=templates).key == live.key


def test_the_same_modules_in_another_order_are_another_image(
    cache: Cache, image: Path, templates: Path
) -> None:
    live = build_initramfs(cache, ignore, image=image, templates=templates)
    keys = {
        with_modules(live, release, modules, cache, ignore, templates).key
        for release, modules in (("6.1", LOADED), ("6.1", LOADED[::-1]), ("6.2", LOADED))
    }
    assert len(keys) == 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, image: Path, templates: Path) -> Path:
    """Let the live image be a small one."""
    monkeypatch.setattr(
        subjects,
        "build_initramfs",
        lambda cache, listener, image, more: build_initramfs(
            cache, listener, image=image, templates=templates, more=more
        ),
    )
    return image


def test_a_kernel_gets_the_modules_that_its_purpose_needs(
    tmp_path: Path, cache: Cache, small: Path
) -> None:
    mine = kernel(tmp_path, "CONFIG_DUMMY=m\n", with_dummy(tmp_path))
    made = guest_image(mine, Requirements(Boot.DIRECT, (GROUPING,), image=small), (), cache, ignore)
    assert made is not None
    assert set(made.about["modules"]) == {"dummy"}
    assert guest_image(mine, Requirements(Boot.DIRECT, image=small), (), cache, ignore) is None


def test_a_kernel_with_everything_built_in_gets_the_labs_own_image(
    tmp_path: Path, cache: Cache, small: Path
) -> None:
    folder = modules_folder(tmp_path / "modules", ["net/dummy"])
    purpose = Requirements(Boot.DIRECT, (GROUPING,), image=small)
    for mine in (kernel(tmp_path), kernel(tmp_path, None, tree_in(folder))):
        assert guest_image(mine, purpose, (), cache, ignore) is None


def test_it_is_told_that_a_kernel_tells_nothing(tmp_path: Path, cache: Cache, small: Path) -> None:
    events: list[Event] = []
    guest_image(kernel(tmp_path), Requirements(Boot.DIRECT, image=small), (), cache, events.append)
    (note,) = events
    assert isinstance(note, Note)
    assert "tells nothing of its config" in note.text


def test_the_machine_and_the_boot_have_needs_too(tmp_path: Path, cache: Cache) -> None:
    mine = kernel(tmp_path, "CONFIG_DUMMY=y\n")
    with pytest.raises(UsageError, match="CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES"):
        guest_image(mine, Requirements(Boot.DIRECT, (), MachineType.MICROVM), (), cache, ignore)
    with pytest.raises(UsageError, match="CONFIG_RD_ZSTD"):
        guest_image(mine, Requirements(Boot.ISO), (), cache, ignore)
