"""Kernels: built from a tree in miniature, found again, shared, refused, interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tree import PATCH, RELEASE, STALE_PATCH, make_tarball, make_tree

from linklab.errors import BuildSkipped, Interrupted, LabError, UsageError
from linklab.events import Event, Note, StepAdvanced, StepFinished, StepStarted, ignore
from linklab.host.cache import Artefact, Cache
from linklab.host.run import run
from linklab.kernel import compile as compile_module
from linklab.kernel import make as make_module
from linklab.kernel.compile import Estimate
from linklab.kernel.kconfig import flavours, fragments
from linklab.kernel.kernel import (
    KIND,
    BuildOptions,
    Compression,
    KernelSpec,
    build_kernel,
    check_kernel,
    plan,
    resolve_kernel,
)
from linklab.kernel.series import read_series
from linklab.paths import ROOT

BUILD = "build kernel sysfs"
GCC = shutil.which("gcc")


@pytest.fixture(autouse=True)
def no_tools_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniature needs make and gcc, not all that the kernel needs."""
    monkeypatch.setattr(make_module, "_NEEDED", frozenset(("gcc", "make")))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "linux")


@pytest.fixture
def spec(tree: Path) -> KernelSpec:
    return KernelSpec("sysfs", BuildOptions(source=tree))


def with_options(spec: KernelSpec, **changes: object) -> KernelSpec:
    return KernelSpec(spec.flavour, replace(spec.options, **changes))  # type: ignore[arg-type]


def building(spec: KernelSpec, cache: Cache) -> tuple[Artefact, list[Event]]:
    events: list[Event] = []
    return build_kernel(spec, cache, events.append), events


def compiled(events: list[Event]) -> list[str]:
    return [e.detail for e in events if isinstance(e, StepAdvanced) and e.detail.startswith("CC")]


def slot_of(spec: KernelSpec, cache: Cache) -> Path:
    return plan(spec, cache, ignore).source.obj(spec.flavour)


# --- a build that works ------------------------------------------------------


def test_a_finished_kernel_holds_what_boots_and_what_explains_it(
    spec: KernelSpec, cache: Cache
) -> None:
    artefact, _ = building(spec, cache)
    assert set(artefact.hashes) == {"bzImage", "vmlinux", "config", "System.map", "build.log"}
    assert artefact.about["release"] == RELEASE
    assert artefact.about["inputs"]["tree"] == plan(spec, cache, ignore).tree
    config = artefact.file("config").read_text()
    assert "CONFIG_SYSFS=y\n" in config
    assert "CONFIG_KERNEL_LZ4=y\n" in config
    assert "CC      net/a.o" in artefact.file("build.log").read_text()
    assert artefact.file("bzImage").read_bytes().endswith(b"// a\none\ntwo\nthree\n// b\n")
    assert not list((cache.root / "logs").iterdir())


def test_the_vmlinux_has_no_symbols(spec: KernelSpec, cache: Cache) -> None:
    artefact, _ = building(spec, cache)
    done = subprocess.run(["nm", artefact.file("vmlinux")], capture_output=True, check=False)
    assert b"no symbols" in done.stderr


def test_a_kernel_with_debug_information_keeps_a_vmlinux_with_symbols_beside_it(
    spec: KernelSpec, cache: Cache, tmp_path: Path
) -> None:
    config = tmp_path / "mine.config"
    config.write_text("CONFIG_DEBUG_INFO=y\n")
    kernel = resolve_kernel("sysfs", replace(spec.options, configs=(config,)), cache, ignore)
    assert kernel.symbols == kernel.bzimage.with_name("vmlinux.debug")
    assert b" T _start" in run(["nm", kernel.symbols]).stdout
    plain = resolve_kernel("sysfs", spec.options, cache, ignore)
    assert plain.symbols is None


def is_built(spec: KernelSpec, cache: Cache) -> bool:
    return cache.find(KIND, plan(spec, cache, ignore).key, ignore) is not None


def test_the_same_inputs_are_built_once(spec: KernelSpec, cache: Cache) -> None:
    assert not is_built(spec, cache)
    first, events = building(spec, cache)
    assert compiled(events)
    again, events = building(spec, cache)
    assert again == first
    assert not compiled(events)
    assert is_built(spec, cache)


def test_a_tarball_is_built_and_found_again_without_a_word(tree: Path, cache: Cache) -> None:
    spec = KernelSpec("sysfs", BuildOptions(source=make_tarball(tree, tree.parent / "l.tar.xz")))
    assert not is_built(spec, cache)
    assert not (cache.root / "sources").joinpath("git").exists()
    building(spec, cache)
    assert is_built(spec, cache)
    assert building(spec, cache)[1] == []


def test_each_input_has_its_part_in_the_key(
    tree: Path, spec: KernelSpec, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, config = tmp_path / "p.patch", tmp_path / "c.config"
    patch.write_text(PATCH)
    config.write_text("CONFIG_MORE=y\n")
    keys = {
        plan(changed, cache, ignore).key
        for changed in (
            spec,
            KernelSpec("nosysfs", spec.options),
            with_options(spec, patches=read_series([patch]).patches),
            with_options(spec, configs=(config,)),
            with_options(spec, compression=Compression.XZ),
        )
    }
    (tree / "net/a.c").write_text("// changed\n")
    keys.add(plan(spec, cache, ignore).key)
    monkeypatch.setattr(make_module, "IDENTITY", {})
    assert len(keys) == 6


def test_comments_and_order_of_a_fragment_have_no_part_in_the_key(
    spec: KernelSpec, cache: Cache, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.config", tmp_path / "other.config"
    one.write_text("CONFIG_MORE=y  # why\n\n")
    other.write_text("# said elsewhere\nCONFIG_MORE=y\n")
    keys = {plan(with_options(spec, configs=(p,)), cache, ignore).key for p in (one, other)}
    assert len(keys) == 1


def test_only_what_changed_is_compiled_again(tree: Path, spec: KernelSpec, cache: Cache) -> None:
    building(spec, cache)
    (tree / "net/b.c").write_text("// b, changed\n")
    artefact, events = building(spec, cache)
    assert compiled(events) == ["CC net/b.o"]
    assert artefact.file("bzImage").read_bytes().endswith(b"// b, changed\n")


def test_a_patch_is_compiled_in_and_taken_out_again(
    tree: Path, spec: KernelSpec, cache: Cache, tmp_path: Path
) -> None:
    patch = tmp_path / "p.patch"
    patch.write_text(PATCH)
    plain, _ = building(spec, cache)
    patched, events = building(with_options(spec, patches=read_series([patch]).patches), cache)
    assert compiled(events) == ["CC net/a.o"]
    assert b"\n1\ntwo" in patched.file("bzImage").read_bytes()
    assert patched.key != plain.key
    assert (tree / "net/a.c").read_text().startswith("// a\none\n")
    (tree / "net/b.c").write_text("// other\n")
    third, _ = building(spec, cache)
    assert b"\none\ntwo" in third.file("bzImage").read_bytes()


def test_a_kernel_knows_what_the_compiler_warns_of_even_where_it_did_not_compile_it_again(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    def warnings() -> list[str]:
        return [str(w) for w in resolve_kernel("sysfs", spec.options, cache, ignore).warnings]

    assert warnings() == []
    (tree / "net/b.c").write_text("// warns\n")
    assert warnings() == ["net/b.c:1: unused variable 'x'"]
    (tree / "net/a.c").write_text("// wrong\n")
    with pytest.raises(BuildSkipped):
        warnings()
    (tree / "net/a.c").write_text("// right\n")
    assert warnings() == ["net/b.c:1: unused variable 'x'"]
    (tree / "net/b.c").write_text("// mended\n")
    assert warnings() == []


def test_an_optional_fragment_gives_way_to_what_makes_the_flavour(
    tree: Path, spec: KernelSpec, cache: Cache, tmp_path: Path
) -> None:
    (tree / "dropped").write_text("CONFIG_NEVER\n")
    wishes, mine = tmp_path / "wishes.config", tmp_path / "mine.config"
    wishes.write_text("# CONFIG_SYSFS is not set\nCONFIG_NEVER=y\nCONFIG_A=y\nCONFIG_B=y\n")
    mine.write_text("# CONFIG_B is not set\n")
    wished = with_options(spec, optional=(wishes,), configs=(mine,))
    text = building(wished, cache)[0].file("config").read_text()
    for line in ("CONFIG_SYSFS=y", "# CONFIG_NEVER is not set", "CONFIG_A=y"):
        assert f"{line}\n" in text
    assert text.rfind("# CONFIG_B is not set") > text.rfind("CONFIG_B=y")
    with pytest.raises(UsageError, match="CONFIG_NEVER"):
        building(with_options(spec, configs=(wishes,)), cache)


def test_a_persons_fragment_comes_last(spec: KernelSpec, cache: Cache, tmp_path: Path) -> None:
    config = tmp_path / "mine.config"
    config.write_text("# CONFIG_SYSFS is not set\nCONFIG_EXTRA=m\n")
    artefact, events = building(with_options(spec, configs=(config,)), cache)
    assert "# CONFIG_SYSFS is not set\n" in artefact.file("config").read_text()
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [
        "options that are modules, which the guest gets if the scenario needs them or "
        "--module names them: CONFIG_EXTRA"
    ]


def test_the_environment_has_no_part_in_a_build(
    spec: KernelSpec, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAKEFLAGS", "KCFLAGS", "ARCH", "O", "KCONFIG_CONFIG", "GIT_DIR"):
        monkeypatch.setenv(name, "--nonsense")
    assert building(spec, cache)[0].about["release"] == RELEASE


# --- progress ----------------------------------------------------------------


def test_progress_never_passes_the_whole_and_ends_full(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    for change in ("", "// changed\n", "// changed again\n"):
        if change:
            (tree / "net/b.c").write_text(change)
        _, events = building(spec, cache)
        (total,) = [e.total for e in events if isinstance(e, StepStarted) and e.step == BUILD]
        done = [e.done for e in events if isinstance(e, StepAdvanced) and e.step == BUILD]
        assert total is not None
        assert done == sorted(done)
        assert done[-1] == total
        assert isinstance(next(e for e in reversed(events) if e.__class__ is StepFinished), Event)


def test_the_second_first_build_knows_how_much_the_first_one_printed(
    spec: KernelSpec, cache: Cache
) -> None:
    building(spec, cache)
    _, events = building(KernelSpec("nosysfs", spec.options), cache)
    started = [e for e in events if isinstance(e, StepStarted)]
    assert [e.total for e in started if e.step == "build kernel nosysfs"] == [4]


# --- a build that fails ------------------------------------------------------


def failing(tree: Path, spec: KernelSpec, cache: Cache, first_line: str) -> LabError | BuildSkipped:
    (tree / "net/a.c").write_text(f"{first_line}\n")
    with pytest.raises((LabError, BuildSkipped)) as error:
        building(spec, cache)
    assert isinstance(error.value, LabError | BuildSkipped)
    return error.value


def test_a_compilers_error_is_shown_with_the_log(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    error = failing(tree, spec, cache, "// wrong")
    assert isinstance(error, BuildSkipped)
    assert "net/a.c: In function 'f':\n" in error.evidence
    assert "net/a.c:2:1: error: 'x' undeclared" in error.evidence
    log = Path(error.message.partition("the whole log: ")[2].rstrip(")"))
    assert "error: 'x' undeclared" in log.read_text()
    assert not is_built(spec, cache)


def test_what_was_compiled_before_the_error_is_not_compiled_again(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    building(spec, cache)
    (tree / "net/b.c").write_text("// b, changed\n")
    (tree / "net/z.c").write_text("// wrong\n")
    with pytest.raises(BuildSkipped):
        building(spec, cache)
    assert not (slot_of(spec, cache) / "building").exists()
    (tree / "net/z.c").write_text("// z\n")
    _, events = building(spec, cache)
    assert "CC net/a.o" not in compiled(events)
    assert "CC net/z.o" in compiled(events)


def test_a_full_disk_is_not_the_kernels_fault(tree: Path, spec: KernelSpec, cache: Cache) -> None:
    error = failing(tree, spec, cache, "// full")
    assert isinstance(error, LabError)
    assert "the disk is full" in error.message


def test_a_compiler_that_was_killed_is_not_the_kernels_fault(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    error = failing(tree, spec, cache, "// killed")
    assert isinstance(error, LabError)
    assert "was killed" in error.message


def test_a_make_that_was_killed_is_not_the_kernels_fault(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    error = failing(tree, spec, cache, "// suicide")
    assert isinstance(error, LabError)
    assert "was killed" in error.message


@pytest.mark.parametrize(
    ("first_line", "missing"),
    [("// tool", "nothing-of-that-name is missing"), ("// header", "gelf.h is missing")],
)
def test_what_the_machine_lacks_is_named(
    tree: Path, spec: KernelSpec, cache: Cache, first_line: str, missing: str
) -> None:
    error = failing(tree, spec, cache, first_line)
    assert isinstance(error, LabError)
    assert missing in error.message
    assert "invoke setup" in error.message


def test_missing_tools_are_named_with_their_packages_before_anything_starts(
    spec: KernelSpec, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(make_module, "_NEEDED", frozenset(("flex", "libelf headers")))
    monkeypatch.setattr(make_module, "unmet", tuple)
    with pytest.raises(LabError, match=r"flex \(package flex\).*invoke setup") as error:
        building(spec, cache)
    assert "lz4 (package lz4)" in error.value.message
    assert not slot_of(spec, cache).exists()


@pytest.mark.parametrize("name", ["my cache", "my:cache"])
def test_a_cache_that_make_does_not_take_is_refused(
    spec: KernelSpec, tmp_path: Path, name: str
) -> None:
    with pytest.raises(LabError, match="LINKLAB_CACHE"):
        building(spec, Cache(tmp_path / name))


def test_an_error_of_a_tool_is_not_taken_from_an_earlier_run(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    failing(tree, spec, cache, "// full")
    assert isinstance(failing(tree, spec, cache, "// wrong"), BuildSkipped)


# --- the config --------------------------------------------------------------


def test_an_option_of_a_person_that_does_not_hold_is_explained(
    spec: KernelSpec, cache: Cache, tmp_path: Path, tree: Path
) -> None:
    (tree / "dropped").write_text("CONFIG_NEEDED\n")
    config = tmp_path / "mine.config"
    config.write_text("CONFIG_NEEDED=y\n")
    with pytest.raises(UsageError) as error:
        building(with_options(spec, configs=(config,)), cache)
    assert (
        f"{config}:1: wanted `CONFIG_NEEDED=y`, got `# CONFIG_NEEDED is not set`: "
        "it depends on `ABSENT && SYSFS`, and ABSENT is off, SYSFS is on"
    ) in error.value.message


def test_an_option_that_another_selects_is_explained(
    spec: KernelSpec, cache: Cache, tmp_path: Path, tree: Path
) -> None:
    (tree / "dropped").write_text("# CONFIG_CHOSEN\n")
    (tree / "forced").write_text("CONFIG_CHOSEN=y\n")
    config = tmp_path / "mine.config"
    config.write_text("# CONFIG_CHOSEN is not set\nCONFIG_CHOOSY=y\n")
    with pytest.raises(UsageError, match="selected by CONFIG_CHOOSY"):
        building(with_options(spec, configs=(config,)), cache)


def test_a_source_that_cannot_give_what_the_lab_needs_is_no_kernel_to_test(
    spec: KernelSpec, cache: Cache, tree: Path
) -> None:
    (tree / "dropped").write_text("CONFIG_DUMMY\n")
    with pytest.raises(BuildSkipped, match=r"base\.config:\d+: wanted `CONFIG_DUMMY=y`"):
        building(spec, cache)


def test_an_equal_config_keeps_its_time(tree: Path, spec: KernelSpec, cache: Cache) -> None:
    building(spec, cache)
    config = slot_of(spec, cache) / ".config"
    before = config.stat().st_mtime_ns
    (tree / "net/b.c").write_text("// changed\n")
    building(spec, cache)
    assert config.stat().st_mtime_ns == before


def test_kconfig_runs_again_only_for_what_concerns_it(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    def configured() -> bool:
        steps = [e.step for e in building(spec, cache)[1] if isinstance(e, StepStarted)]
        return "configure the kernel" in steps

    assert configured()
    (tree / "net/b.c").write_text("// changed\n")
    assert not configured()
    (tree / "net/Kconfig").write_text((tree / "net/Kconfig").read_text() + "\nconfig NEW\n")
    assert configured()


# --- slots and ccache --------------------------------------------------------


def own_config(tmp_path: Path, spec: KernelSpec, text: str) -> KernelSpec:
    path = tmp_path / "own.config"
    path.write_text(text)
    return with_options(spec, configs=(path,))


def test_a_persons_config_starts_from_the_flavours_objects_and_leaves_them_alone(
    spec: KernelSpec, cache: Cache, tmp_path: Path
) -> None:
    stock, _ = building(spec, cache)
    shutil.rmtree(stock.path)
    objects = slot_of(spec, cache)
    before = {path: path.stat().st_mtime_ns for path in objects.rglob("*") if path.is_file()}
    _, events = building(own_config(tmp_path, spec, "CONFIG_MORE=y\n"), cache)
    assert "copy the objects of the nearest build" in [
        event.step for event in events if isinstance(event, StepStarted)
    ]
    assert before == {p: p.stat().st_mtime_ns for p in objects.rglob("*") if p.is_file()}
    assert not compiled(building(spec, cache)[1])


def test_an_empty_config_is_no_config_of_ones_own(
    spec: KernelSpec, cache: Cache, tmp_path: Path
) -> None:
    first, _ = building(spec, cache)
    assert building(own_config(tmp_path, spec, "# nothing\n"), cache)[0] == first


def test_a_half_built_slot_is_not_copied(spec: KernelSpec, cache: Cache, tmp_path: Path) -> None:
    building(spec, cache)
    (slot_of(spec, cache) / "building").touch()
    _, events = building(own_config(tmp_path, spec, "CONFIG_MORE=y\n"), cache)
    assert "CC net/a.o" in compiled(events)


def test_the_oldest_slots_of_persons_configs_are_removed(
    spec: KernelSpec, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_module, "KEPT", 2)
    objects = slot_of(spec, cache).parent
    building(spec, cache)
    seen: list[set[str]] = []
    for number in range(3):
        building(own_config(tmp_path, spec, f"CONFIG_MORE={number}\n"), cache)
        seen.append({path.name for path in objects.iterdir()})
    (first,) = seen[0] - {"sysfs"}
    (second,) = seen[1] - seen[0]
    (third,) = seen[2] - seen[1]
    assert seen[2] == {"sysfs", second, third}
    assert first not in seen[2]


def test_ccache_serves_rebuilds_and_not_first_builds(
    tree: Path, spec: KernelSpec, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = tmp_path / "used"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ccache"
    program.write_text(f'#!/bin/sh\necho "${{CCACHE_BASEDIR-unset}}" >> {used}\nexec {GCC} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("CCACHE_BASEDIR", str(tmp_path))
    building(spec, cache)
    assert not used.exists()
    for change in ("// changed\n", "// changed again\n"):
        (tree / "net/b.c").write_text(change)
        building(spec, cache)
    # With one, the kernel would hold other file names than a first build's.
    assert set(used.read_text().splitlines()) == {""}


def test_without_ccache_rebuilds_go_without_it(
    tree: Path, spec: KernelSpec, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, *args: None if name == "ccache" else which(name, *args)
    )
    building(spec, cache)
    (tree / "net/b.c").write_text("// changed\n")
    assert compiled(building(spec, cache)[1]) == ["CC net/b.o"]


# --- several at once, and ones that were killed ------------------------------

BUILDER = """
import sys
from pathlib import Path
from linklab.kernel import make as make_module
from linklab.kernel.compile import Estimate
from linklab.kernel.kernel import BuildOptions, KernelSpec, build_kernel
from linklab.events import Note, StepAdvanced
from linklab.host.cache import Cache

make_module._NEEDED = frozenset()
flavour, tree, cache = sys.argv[1:]

def tell(event):
    if isinstance(event, StepAdvanced) and event.detail.startswith("CC"):
        print(event.detail, flush=True)
    if isinstance(event, Note):
        print(event.text, flush=True)

build_kernel(KernelSpec(flavour, BuildOptions(Path(tree))), Cache(Path(cache)), tell)
print("built", flush=True)
"""

Builder = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def builder(tree: Path, cache: Cache) -> Iterator[Builder]:
    """Start builders as processes of their own; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(flavour: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BUILDER, flavour, str(tree), str(cache.root)],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def slow_file(spec: KernelSpec, cache: Cache) -> Path:
    return plan(spec, cache, ignore).source.store.folder / "slow"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def begun(spec: KernelSpec, cache: Cache) -> Callable[[], bool]:
    """Tell whether the slow compiler has begun its first object."""
    path = slot_of(spec, cache) / "net/a.o"
    return lambda: path.exists() and path.stat().st_size == 1


@contextmanager
def interrupted_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Raise `Interrupted` in the middle of whatever goes on once a condition holds."""

    def stop(*_: object) -> None:
        raise Interrupted("enough")

    def watch() -> None:
        wait_until(condition)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def users_of(folder: Path) -> list[int]:
    """Return the processes with an open file in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(entry.readlink()).startswith(str(folder)):
                found.append(int(entry.parts[2]))
        except OSError:
            continue
    return found


def test_two_builders_of_the_same_kernel_share_one_build(builder: Builder) -> None:
    outputs = [process.communicate()[0] for process in (builder("sysfs"), builder("sysfs"))]
    assert sorted(output.count("CC net/a.o") for output in outputs) == [0, 1]
    assert all(output.endswith("built\n") for output in outputs)


def test_builders_of_two_kernels_of_one_source_take_turns(
    builder: Builder, spec: KernelSpec, cache: Cache
) -> None:
    processes = [builder("sysfs"), builder("nosysfs")]
    outputs = [process.communicate()[0] for process in processes]
    assert all("CC net/a.o" in output and "built" in output for output in outputs), outputs
    assert is_built(spec, cache)
    assert is_built(KernelSpec("nosysfs", spec.options), cache)


def killed_half_way(builder: Builder, spec: KernelSpec, cache: Cache, number: int) -> None:
    """Start a build, and end it while an object is half-written."""
    slow = slow_file(spec, cache)
    slow.touch()
    process = builder("sysfs")
    wait_until(begun(spec, cache))
    process.send_signal(number)
    process.wait()
    slow.unlink()


def test_a_build_killed_half_way_leaves_nothing_that_looks_finished(
    builder: Builder, tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    """Everything killed at once, make too, so that nothing cleans up."""
    building(spec, cache)
    (tree / "net/a.c").write_text("// a, changed\n")
    slow = slow_file(spec, cache)
    slow.touch()
    process = builder("sysfs")
    wait_until(begun(spec, cache))
    # Make is stopped first: it must not get to remove the half-written object.
    workers = set(users_of(slot_of(spec, cache))) - {process.pid}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (*workers, process.pid):
            os.kill(pid, number)
    process.wait()
    slow.unlink()
    half = slot_of(spec, cache) / "net/a.o"
    assert half.read_text() == "/"
    assert not is_built(spec, cache)
    artefact, _ = building(spec, cache)
    assert b"// a, changed\n" in artefact.file("bzImage").read_bytes()


def test_what_is_left_of_a_builder_that_was_killed_is_waited_for(
    builder: Builder, spec: KernelSpec, cache: Cache
) -> None:
    """Make dies with the builder; the compiler that it had started ends in its own time."""
    killed_half_way(builder, spec, cache, signal.SIGKILL)
    assert b"// a\none" in building(spec, cache)[0].file("bzImage").read_bytes()


def test_an_interrupted_build_keeps_what_it_had_finished(
    builder: Builder, spec: KernelSpec, cache: Cache
) -> None:
    killed_half_way(builder, spec, cache, signal.SIGINT)
    slot = slot_of(spec, cache)
    assert not (slot / "building").exists()
    assert not (slot / "net/a.o").exists()
    assert users_of(slot) == []


def test_a_build_waits_for_what_is_left_of_one_that_was_killed(
    spec: KernelSpec, cache: Cache
) -> None:
    building(spec, cache)
    slot = make_module.Slot(slot_of(spec, cache), plan(spec, cache, ignore).source.store.tree)
    marker = slot.folder / "building"
    marker.touch()
    with subprocess.Popen(["flock", marker, "sleep", "0.4"]) as left_over:
        wait_until(lambda: bool(users_of(slot.folder)))
        began = time.monotonic()
        with make_module.working_in(slot):
            waited = time.monotonic() - began
        assert waited > 0.1
        left_over.wait()
    assert not marker.exists()


def test_processes_of_a_killed_build_that_never_end_are_an_error(
    spec: KernelSpec, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_module, "_SETTLE", 0.1)
    slot = make_module.Slot(slot_of(spec, cache), plan(spec, cache, ignore).source.store.tree)
    slot.folder.mkdir(parents=True)
    marker = slot.folder / "building"
    with subprocess.Popen(["flock", marker, "sleep", "60"]) as left_over:
        wait_until(lambda: bool(users_of(slot.folder)))
        try:
            with pytest.raises(LabError, match="still work in"), make_module.working_in(slot):
                pass
        finally:
            for pid in users_of(slot.folder):
                os.kill(pid, signal.SIGKILL)
        left_over.wait()


# --- names -------------------------------------------------------------------


def test_every_flavour_is_the_base_and_fragments_that_are_there() -> None:
    assert flavours() == ("sysfs", "nosysfs", "debug", "debug-nosysfs")
    for name in flavours():
        base, *others = fragments(name)
        assert base.name == "base.config"
        assert others and all(path.is_file() for path in others)


def test_flavours_are_a_list_of_fragments_in_order(tmp_path: Path) -> None:
    (tmp_path / "flavours.toml").write_text('[mine]\nabout = "x"\nfragments = ["one", "two"]\n')
    assert flavours(tmp_path) == ("mine",)
    names = [path.name for path in fragments("mine", tmp_path)]
    assert names == ["base.config", "one.config", "two.config"]


def test_what_is_timed_has_nothing_that_finds_bugs(spec: KernelSpec, cache: Cache) -> None:
    def wished(flavour: str) -> set[str]:
        return set(plan(KernelSpec(flavour, spec.options), cache, ignore).wishes)

    assert "CONFIG_KASAN" in wished("debug")
    assert "CONFIG_PROVE_LOCKING" in wished("debug-nosysfs")
    assert not {"CONFIG_KASAN", "CONFIG_PROVE_LOCKING"} & (wished("sysfs") | wished("nosysfs"))


def test_a_flavour_resolves_to_its_finished_kernel(spec: KernelSpec, cache: Cache) -> None:
    kernel = resolve_kernel("sysfs", spec.options, cache, ignore)
    artefact, _ = building(spec, cache)
    assert kernel.built_by_lab
    assert kernel.release == RELEASE
    assert kernel.bzimage == artefact.file("bzImage")
    assert kernel.config == artefact.file("config")
    assert kernel.sha256 == artefact.hashes["bzImage"]
    assert kernel.vmlinux is None  # the miniature's has no PVH entry
    assert kernel.inputs["tree"] == plan(spec, cache, ignore).tree


@pytest.mark.parametrize("name", ["sysfss", "", "no/where"])
def test_an_unknown_kernel_is_refused_with_the_known_ones(name: str, cache: Cache) -> None:
    with pytest.raises(UsageError, match="expected sysfs, nosysfs, debug, debug-nosys"):
        resolve_kernel(name, BuildOptions(), cache, ignore)


def test_an_unknown_flavour_is_refused(spec: KernelSpec, cache: Cache) -> None:
    with pytest.raises(UsageError, match="no flavour 'base': expected sysfs, nosysfs"):
        build_kernel(KernelSpec("base", spec.options), cache, ignore)


@pytest.mark.parametrize("kind", ["config", "source"])
def test_wrong_files_are_refused_before_anything_is_read(
    spec: KernelSpec, cache: Cache, tmp_path: Path, kind: str
) -> None:
    wrong = tmp_path / "wrong"
    options = {
        "config": replace(spec.options, configs=(wrong,)),
        "source": replace(spec.options, source=wrong),
    }[kind]
    for refuse in (
        lambda: check_kernel("sysfs", options),
        lambda: resolve_kernel("sysfs", options, cache, ignore),
    ):
        with pytest.raises(UsageError, match="wrong"):
            refuse()
    assert not cache.root.exists()


def test_a_stale_patch_leaves_no_kernel(spec: KernelSpec, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "stale.patch").write_text(STALE_PATCH)
    options = replace(spec.options, patches=read_series([tmp_path / "stale.patch"]).patches)
    check_kernel("sysfs", options)
    with pytest.raises(BuildSkipped, match="does not apply"):
        resolve_kernel("sysfs", options, cache, ignore)


def test_a_cache_that_cannot_be_written_is_an_error_of_the_lab(
    common_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It reads the checkout, which may lie where only root can.
    monkeypatch.setattr("linklab.kernel.kernel.check_spec", lambda _spec: None)
    (common_folder / "cache/sources").mkdir(parents=True)
    (common_folder / "cache/sources").chmod(0o555)
    spec = KernelSpec("sysfs", BuildOptions(source=make_tree(common_folder / "linux")))
    with pytest.raises(LabError, match=r"cache cannot be used: Permission denied"):
        plan(spec, Cache(common_folder / "cache"), ignore)


def test_a_log_folder_that_is_full_is_an_error_of_the_lab(
    spec: KernelSpec, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compile_module, "write_config", full)
    with pytest.raises(LabError, match="No space left on device"):
        building(spec, cache)


def test_whatever_stops_a_build_from_within_ends_make_in_order(
    spec: KernelSpec, cache: Cache
) -> None:
    slow = slow_file(spec, cache)
    slow.touch()

    with interrupted_when(begun(spec, cache)), pytest.raises(Interrupted):
        build_kernel(spec, cache, ignore)
    slot = slot_of(spec, cache)
    assert users_of(slot) == []
    assert not (slot / "net/a.o").exists()
    assert not (slot / "building").exists()


def test_a_make_that_does_not_end_when_asked_is_killed_and_nothing_of_it_trusted(
    tree: Path, spec: KernelSpec, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_module, "_END_WAIT", 0.2)
    (tree / "net/a.c").write_text("// stubborn\n")

    slot = slot_of(spec, cache)
    with interrupted_when((slot / "net/a.o").exists), pytest.raises(Interrupted):
        build_kernel(spec, cache, ignore)
    assert users_of(slot) == []
    assert (slot / "building").exists()


def test_how_many_lines_a_build_will_print_is_known_from_what_changed(
    tree: Path, spec: KernelSpec, cache: Cache
) -> None:
    building(spec, cache)
    planned = plan(spec, cache, ignore)
    slot, store = planned.source.obj("sysfs"), planned.source.store
    config = (slot / ".config").read_text()
    (tree / "net/b.c").write_text("// changed\n")
    changed = plan(spec, cache, ignore).tree
    without_sysfs = config.replace("CONFIG_SYSFS=y", "# CONFIG_SYSFS is not set")

    def lines(tree: str, config: str) -> int:
        return Estimate(slot, store, tail=1, first=100).lines(tree, config)

    assert lines(planned.tree, config) == 1
    assert lines(changed, config) == 4  # one object, two folders of archives, the tail
    assert lines(planned.tree, without_sysfs) == 4  # never more than the first build printed
    (slot / "built.json").unlink()
    assert lines(planned.tree, config) == 2  # what a first build prints, but for both objects
    shutil.rmtree(slot)
    assert lines(planned.tree, config) == 4  # as many as the first build printed
