"""The course of a series: every state built, booted and measured, all of it kept as it comes."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from linklab.console.lines import new_lines
from linklab.errors import BuildSkipped, KernelFault, LinklabError, UsageError
from linklab.events import Listener, StepAdvanced, step
from linklab.host.cache import Cache, reporting
from linklab.kernel.compilerwarnings import CompilerWarning, new_warnings
from linklab.kernel.kernel import BuildOptions, Kernel, build_ahead, resolve_kernel
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import Series
from linklab.kernel.source import open_source
from linklab.lab.lab import Lab, Subject, file_label
from linklab.machine.spec import Boot
from linklab.results.result_kinds import SERIES
from linklab.results.series import BASE, PatchRecord, StateRecord
from linklab.results.shape import Metric
from linklab.results.store import RunFolder
from linklab.scenarios.scenario import GUEST
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan
from linklab.trials.sequential import Blocks, Budget, until_known
from linklab.trials.subjects import Requirements, tested_on, with_image

_STEP = "states"
_SNAPSHOT_CONSOLE = "console.log"


@dataclass(frozen=True)
class SeriesPlan:
    """What is to be tested: `build` is the base, the series' patches come on top of it.

    `tree` is where the source is written to be compiled; `modules` are words of
    `--module`, for each state.
    """

    series: Series
    flavours: Sequence[str]
    build: BuildOptions
    measure: Plan
    fail_above: float  # per cent
    metric: Metric
    tree: Path = Path()
    modules: tuple[str, ...] = ()
    content: str = ""  # what the last state's source is called by its content

    def options(self, number: int) -> BuildOptions:
        """Return how the state with the first `number` patches is built."""
        return replace(self.build, patches=self.series.patches[:number])


def applied(plan: SeriesPlan, cache: Cache, listener: Listener) -> SeriesPlan:
    """Check that all patches apply, before any is built; hold on to the base as it is now.

    A person may go on working in the tree while its series is tested.
    """
    build = plan.build
    with reporting(cache.root):
        source = open_source(build.source, cache, listener, revision=build.revision)
        assert source is not None
        content = patched_tree(source, build.patches)
    revision = source.tree if source.origin.is_dir() else ""
    build = replace(build, revision=revision)
    return replace(plan, build=build, tree=source.store.tree, content=content)


@dataclass
class _State:
    """A state as it stands: its record, and what is tested of it where it was built."""

    record: StateRecord
    subject: Subject | None = None
    warnings: Sequence[CompilerWarning] = ()

    @property
    def is_new(self) -> bool:
        """Whether it has a kernel that no state before it has."""
        return self.subject is not None and self.record.same_as is None


class SeriesRun:
    """Builds, boots and measures every state of a series.

    What was done is on disk before the next thing begins.
    """

    def __init__(
        self, plan: SeriesPlan, lab: Lab, folder: RunFolder, cache: Cache, listener: Listener
    ) -> None:
        self._plan = plan
        self._lab = lab
        self._folder = folder
        self._cache = cache
        self._listener = listener
        self._states: dict[str, list[_State]] = {flavour: [] for flavour in plan.flavours}
        self.tested: dict[str, Any] = {}  # what run.json keeps of the kernels, once they are built

    def run(self) -> None:
        """Build, boot and measure. Raises what is the lab's own fault."""
        self._build_all()
        booted = self._boot_all()
        if booted:
            self._measure(booted)
        self._read_consoles()

    # Building

    def _build_all(self) -> None:
        """Build state by state: the source changes once for all flavours."""
        total = len(self._plan.series.patches) + 1
        states = ((f, self._plan.options(n)) for n in range(total) for f in self._plan.flavours)
        build_ahead(states, self._cache, self._listener)
        with step(self._listener, _STEP, total * len(self._plan.flavours)):
            for number in range(total):
                for place, flavour in enumerate(self._plan.flavours):
                    done = number * len(self._plan.flavours) + place
                    name = f"{flavour}, {f'{number}/{total - 1}' if number else 'the base'}"
                    self._listener(StepAdvanced(_STEP, done, name))
                    self._states[flavour].append(state := self._built(flavour, number))
                    self._keep(state)

    def _built(self, flavour: str, number: int) -> _State:
        began = time.monotonic()
        try:
            kernel = resolve_kernel(
                flavour, self._plan.options(number), self._cache, self._listener
            )
            wanted = Requirements.of(self._plan.measure.kind, self._lab)
            subject = with_image(kernel, wanted, self._plan.modules, self._cache, self._listener)
        except (BuildSkipped, UsageError) as error:
            if isinstance(error, UsageError) and number == BASE:
                raise  # an option that no kernel of this source has: the person's mistake
            return _State(self._failed(flavour, number, _since(began), error))
        earlier = [state for state in self._states[flavour] if state.subject is not None]
        record = _record(kernel, number, _since(began), earlier)
        return _State(record, replace(subject, name=record.kernel), kernel.warnings)

    def _failed(
        self, flavour: str, number: int, seconds: float, error: LinklabError
    ) -> StateRecord:
        """Return the record of a state without a kernel; files are named as in the patches."""
        tree = f"{self._plan.tree}/"
        lines = [line.replace(tree, "") for line in error.evidence.splitlines()]
        errors = [line for line in lines if "error:" in line] or lines
        return StateRecord(flavour, number, seconds, error.message, "\n".join(errors))

    # Booting

    def _boot_all(self) -> list[Subject]:
        """Return the kernels to measure: with guests to resume, those that boot."""
        states = [state for states in self._states.values() for state in states if state.is_new]
        subjects = [(state, state.subject) for state in states if state.subject]
        self.tested = tested_on(self._lab, [subject for _, subject in subjects])
        if self._lab.boot is not Boot.RESUME:
            return [subject for _, subject in subjects]
        return [subject for state, subject in subjects if self._boots(state, subject)]

    def _boots(self, state: _State, subject: Subject) -> bool:
        if subject.name in self._folder.failed_before:
            return False
        try:
            self._lab = self._lab.with_snapshots([subject], self._cache, self._listener)
        except KernelFault as fault:
            fault.message = f"kernel {subject.name}: {fault.message}"
            self._folder.add_fault(subject.name, fault, guest=fault.guest or GUEST, during="boot")
            return False
        self._keep(state, booted=True)
        return True

    # Measuring

    def _measure(self, subjects: Sequence[Subject]) -> None:
        """Measure all kernels in the same blocks. One that fails ends its own part."""
        plan = self._plan.measure
        engine = Engine(self._lab, plan, self._folder, self._listener)
        blocks = Blocks(engine, subjects, plan.cells, together=False)
        until_known(blocks, Budget(plan.repeat), lambda *_: True, self._listener)

    # Consoles

    def _read_consoles(self) -> None:
        """Note what each kernel says that the one before it does not."""
        for states in self._states.values():
            before: list[str] = []
            for state in states:
                said = self._said_by(state) if state.is_new else []
                if not said:
                    continue
                is_first = state.record.number == BASE or not before
                found = () if is_first else tuple(new_lines(before, said))
                self._keep(state, booted=True, new_lines=found)
                before = said

    def _said_by(self, state: _State) -> list[str]:
        """Return the consoles of all guests with a kernel; nothing where none came up."""
        label = re.escape(file_label(state.record.kernel))
        name = re.compile(rf"console-\d+-{label}(-.*)?\.log")
        paths = [path for path in self._folder.path.iterdir() if name.fullmatch(path.name)]
        paths += (
            saved.folder.path / _SNAPSHOT_CONSOLE
            for saved in self._lab.saved_guests(state.record.kernel)
        )
        return [path.read_text(errors="replace") for path in paths if path.is_file()]

    def _keep(self, state: _State, **known: Any) -> None:
        """Store a state with what is known of it beyond that."""
        state.record = replace(state.record, **known)
        self._folder.add_state(asdict(state.record))


def entry(plan: SeriesPlan) -> dict[str, Any]:
    """Return what run.json says of a series."""
    return {
        SERIES: {
            "cover": plan.series.cover,
            "version": plan.series.version,
            "base": plan.series.base,
            "flavours": list(plan.flavours),
            "fail_above": plan.fail_above,
            "metric": plan.metric.name,
            "content": plan.content,
            "patches": [asdict(patch) for patch in _patch_records(plan.series)],
        }
    }


def _patch_records(series: Series) -> list[PatchRecord]:
    return [
        PatchRecord(
            number=patch.number,
            total=patch.total,
            subject=patch.subject or patch.origin.name,
            author=patch.author,
            version=patch.version,
            message_id=patch.message_id,
            commit=patch.commit,
            origin=str(patch.origin),
            sha256=hashlib.sha256(patch.diff).hexdigest(),
        )
        for patch in series.patches
    ]


def _record(kernel: Kernel, number: int, seconds: float, earlier: Sequence[_State]) -> StateRecord:
    """Return what is known of a kernel, beside those of the states before it."""
    same = [s.record for s in earlier if s.subject and s.subject.sha256 == kernel.sha256]
    added: Sequence[CompilerWarning] = ()
    if earlier:  # without one nobody knows what is new
        added = new_warnings(earlier[-1].warnings, kernel.warnings)
    return StateRecord(
        flavour=kernel.name,
        number=number,
        seconds=seconds,
        warnings=len(kernel.warnings),
        new_warnings=tuple(str(warning) for warning in added),
        same_as=_original(same[0]) if same else None,
    )


def _original(record: StateRecord) -> int:
    return record.number if record.same_as is None else record.same_as


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
