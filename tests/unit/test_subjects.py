"""What bisection and series boot: a kernel with its symbols, and the image that it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fake_lab import FakeLab, lab_of
from rate_scenario import SOURCE, WITH_FRAGMENT

from linklab.bisect import tester
from linklab.bisect.tester import KernelTester
from linklab.commands.judging import CriterionOptions, check_criterion, check_machine
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.scenarios import ScenarioOptions
from linklab.errors import BuildSkipped, UsageError
from linklab.events import ignore
from linklab.host.cache import Artefact, Cache
from linklab.image.initramfs import ARCHIVE
from linklab.kernel.kernel import BuildOptions, Kernel
from linklab.kernel.series import Series
from linklab.lab.lab import Subject
from linklab.results.store import RunFolder
from linklab.trials import series, subjects
from linklab.trials.series import SeriesPlan, SeriesRun
from linklab.trials.subjects import Requirements, experiment

IMAGE = Artefact("initramfs", "key", Path("image"), {"modules": {"veth": "ab"}})


@dataclass
class Stand:
    """Stands in for the compiler and for what makes images."""

    image: Artefact | None = IMAGE
    built: list[BuildOptions] = field(default_factory=list)
    purposes: list[Requirements] = field(default_factory=list)
    modules: list[tuple[str, ...]] = field(default_factory=list)
    without_module: set[int] = field(default_factory=set)  # kernels that it does not compile for

    def resolve(self, flavour: str, options: BuildOptions, *_: object) -> Kernel:
        self.built.append(options)
        sha256, vmlinux, symbols = f"{len(self.built):064}", Path("vmlinux"), Path("symbols")
        vmlinux.write_text("a kernel")
        symbols.write_text("its symbols")
        return Kernel(
            flavour, "6.12.0", Path("bzImage"), vmlinux, Path("config"), sha256, True,
            {"config": "cd"}, symbols=symbols,
        )  # fmt: skip

    def guest_image(
        self, _kernel: Kernel, purpose: Requirements, modules: Sequence[str], *_: object
    ) -> Artefact | None:
        self.purposes.append(purpose)
        self.modules.append(tuple(modules))
        if len(self.built) in self.without_module:
            raise BuildSkipped("the module hello does not compile", "hello.c:1: error: no")
        return self.image


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    for module in (tester, series):
        monkeypatch.setattr(module, "resolve_kernel", made.resolve)
    monkeypatch.setattr(subjects, "guest_image", made.guest_image)
    return made


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "mine.config").write_text("CONFIG_VETH=y\n")
    (tmp_path / "mine.py").write_text(WITH_FRAGMENT)
    return str(tmp_path / "mine.py")


def bench_of(tmp_path: Path, scenario: str) -> KernelTester:
    criterion = check_criterion(CriterionOptions(scenario=scenario))
    return KernelTester("nosysfs", lab_of(), Cache(tmp_path / "cache"), criterion, ignore)


def test_a_revision_is_booted_with_its_symbols_and_its_image(stand: Stand, tmp_path: Path) -> None:
    built = BuildOptions(source=Path("linux"), revision="abc")
    subject = bench_of(tmp_path, "grouping").build("one", built)
    assert subject.name == "one"
    assert subject.kernel.found().read_text() == "a kernel"
    assert subject.symbols
    assert subject.symbols.found().read_text() == "its symbols"
    assert subject.initramfs == IMAGE.cached(ARCHIVE)
    assert subject.modules == {"veth": "ab"}
    assert subject.inputs == {"config": "cd", "commit": "abc"}
    assert stand.built == [built]
    (purpose,) = stand.purposes
    assert [Path(need).name for need in purpose.needs] == ["needs.toml"]


def test_a_revision_has_the_modules_that_are_named(stand: Stand, tmp_path: Path) -> None:
    criterion, cache = check_criterion(CriterionOptions()), Cache(tmp_path / "cache")
    tested = KernelTester("nosysfs", lab_of(), cache, criterion, ignore, ("hello", "veth"))
    tested.build("one", BuildOptions())
    assert stand.modules == [("hello", "veth")]
    stand.without_module = {2}
    with pytest.raises(BuildSkipped, match="hello does not compile"):
        tested.build("two", BuildOptions())


def test_modules_are_for_guests_of_the_labs_own_scenarios() -> None:
    criterion = check_criterion(CriterionOptions(selftest="net"))
    with pytest.raises(UsageError, match="--module loads into guests of the lab's own scenarios"):
        check_machine(MachineOptions(), criterion, KernelOptions("nosysfs", modules=("veth",)))


def test_a_revision_that_needs_no_module_has_the_labs_own_image(
    stand: Stand, tmp_path: Path
) -> None:
    stand.image = None
    subject = bench_of(tmp_path, "grouping").build("one", BuildOptions())
    assert (subject.initramfs, dict(subject.modules)) == (None, {})
    assert "commit" not in subject.inputs


def test_a_revision_is_built_with_what_the_scenario_needs(
    stand: Stand, tmp_path: Path, own: str
) -> None:
    bench_of(tmp_path, own).build("one", BuildOptions(configs=(Path("user.config"),)))
    assert stand.built[0].configs == (tmp_path / "mine.config", Path("user.config"))
    assert stand.purposes[0].needs == (str(tmp_path / "mine.config"),)


@dataclass(frozen=True)
class NotingLab(FakeLab):
    """A lab that notes what it boots."""

    subjects: list[Subject] = field(default_factory=list)

    @contextmanager
    def session(self, subject: Subject, *rest: Any) -> Iterator[Any]:
        self.subjects.append(subject)
        with super().session(subject, *rest) as session:
            yield session


def run_series(tmp_path: Path, *modules: str) -> tuple[SeriesRun, Sequence[Subject]]:
    """Run a series without patches on two flavours; return it, and what was booted."""
    (tmp_path / "mine.py").write_text(SOURCE)
    options = ScenarioOptions(str(tmp_path / "mine.py"), axis=("size=64",))
    measure = replace(options.plan({}), fresh_guest=True, repeat=2)
    plan = SeriesPlan(
        series=Series(),
        flavours=["sysfs", "nosysfs"],
        build=BuildOptions(),
        measure=measure,
        metric=measure.shape.metric,
        fail_above=3.0,
        modules=modules,
    )
    lab = NotingLab(**vars(lab_of()))
    folder = RunFolder(tmp_path, {"kind": "series", "kernels": [], **experiment(measure, lab)})
    run = SeriesRun(plan, lab, folder, Cache(tmp_path / "cache"), ignore)
    run.run()
    return run, lab.subjects


def test_each_state_of_a_series_is_booted_with_its_symbols_and_its_image(
    stand: Stand, tmp_path: Path
) -> None:
    run, booted = run_series(tmp_path, "hello")
    assert len(booted) == 4
    assert stand.modules == [("hello",)] * 2
    symbols = {subject.symbols.found().read_text() for subject in booted if subject.symbols}
    assert symbols == {"its symbols"}
    assert {subject.initramfs for subject in booted} == {IMAGE.cached(ARCHIVE)}
    assert [kernel["modules"] for kernel in run.tested["kernels"]] == [{"veth": "ab"}] * 2


def test_a_state_that_a_module_does_not_compile_for_is_told_of_and_not_booted(
    stand: Stand, tmp_path: Path
) -> None:
    stand.without_module = {2}
    run, booted = run_series(tmp_path, "hello")
    assert len(booted) == 2
    states = [json.loads(line) for line in (tmp_path / "states.jsonl").read_text().splitlines()]
    last = {state["flavour"]: state for state in states}
    assert last["nosysfs"]["failure"] == "the module hello does not compile"
    assert last["nosysfs"]["evidence"] == "hello.c:1: error: no"
    assert len(run.tested["kernels"]) == 1
