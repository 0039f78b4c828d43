"""The table of self-tests: each test, its failures in full, the rest in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report.grid import plain_table, plain_text
from linklab.results.figures import VIRTUAL, seconds_are
from linklab.results.outcomes import Outcome, Status
from linklab.selftests.record import Attempt, TestRecord, records_of

TEXT_WIDTH = 120
_STYLE = {
    Status.PASS: "green",
    Status.SKIP: "yellow",
    Status.MISSING: "yellow",
    Status.ERROR: "magenta",
}
_LINES = 8  # of the output before a subtest that failed ...
_EXPLAINED = 10  # ... for so many of a test
_ORDINALS = ("first", "second", "third")

Path = tuple[str, ...]


def as_text(about: Mapping[str, Any], width: int = TEXT_WIDTH) -> str:
    """Return the table as plain text, for a file."""
    return plain_text(render(about), width)


def render(about: Mapping[str, Any]) -> RenderableType:
    """Return a stored run's heading, its table, and what is to be said below."""
    records = records_of(about)
    parts: list[RenderableType] = [_heading(about, records)]
    parts.append(_table(records, about.get("clock") == VIRTUAL))
    parts += [line for record in records for line in _details(record)]
    return Group(*parts, Text(f"\n{summary(records)}"))


def _heading(about: Mapping[str, Any], records: Sequence[TestRecord]) -> Text:
    kernels = ", ".join(f"{kernel['name']} {kernel['release']}" for kernel in about["kernels"])
    cpus = f"{about['cpus']} CPU" + ("s" if about["cpus"] != 1 else "")
    limits = ", ".join(f"{limit:.0f}" for limit in sorted({r.last.limit for r in records}))
    at_most = f"; at most {limits} s a test" if limits else ""
    setting = f"{about['boot']} boot, {cpus}, {about['memory']} MiB{at_most}"
    text = Text(f"{seconds_are(about)}\n", style="bold")
    return text.append(f"self-tests on {kernels}\n{setting}", style="not bold")


def _table(records: Sequence[TestRecord], is_virtual: bool) -> Table:
    """Return the table; in virtual time the host's seconds stand beside the guest's."""
    most = max((len(record.attempts) for record in records), default=1)
    names = ["result"] if most == 1 else [_ordinal(n) for n in range(most)]
    table = plain_table("", ("test", *(f"<{name}" for name in names)))
    for name in ("guest's s", "host's s") if is_virtual else ("seconds",):
        table.add_column(name, justify="right")
    table.add_column("subtests", overflow="fold")
    for record in records:
        last = record.last
        times = (last.seconds, last.host_seconds) if is_virtual else (last.seconds,)
        results = [_styled(attempt.status) for attempt in record.attempts]
        table.add_row(
            Text(record.name),
            *results,
            *[Text()] * (most - len(results)),
            *(Text(f"{seconds:.1f}" if seconds is not None else "") for seconds in times),
            Text(_numbers(leaf.status for each in last.subtests for _, leaf in each.leaves())),
        )
    return table


def _ordinal(number: int) -> str:
    return _ORDINALS[number] if number < len(_ORDINALS) else f"{number + 1}th"


def _styled(status: Status) -> Text:
    return Text(status.value, style=_STYLE.get(status, "bold red"))


def _numbers(statuses: Iterable[Status]) -> str:
    """Return how many came to what, the worst first."""
    found = Counter(statuses)
    return ", ".join(f"{found[status]} {status.value}" for status in Status if found[status])


def _details(record: TestRecord) -> Iterator[Text]:
    """Yield every subtest that any attempt did not pass, its results side by side."""
    leaves = [_leaves(attempt) for attempt in record.attempts]
    paths = dict.fromkeys(path for found in leaves for path in found)
    bad = [path for path in paths if any(_is_bad(found.get(path)) for found in leaves)]
    faults = dict.fromkeys(fault for attempt in record.attempts for fault in attempt.faults)
    evidence = next((a.evidence for a in reversed(record.attempts) if a.evidence), "")
    if not (bad or faults or evidence or record.last.message or record.flaky):
        return
    said = "; ".join(filter(None, ("flaky" * record.flaky, record.last.message)))
    title = Text(f"\n{record.name}", style="bold")
    yield title.append(f": {said}" if said else "", style="not bold")
    for number, path in enumerate(bad):
        shown = _LINES if number < _EXPLAINED else 0
        yield from _subtest(path, [found.get(path) for found in leaves], shown)
    for fault in faults:
        yield Text(f"  its output: {fault}")
    if record.lacking and record.last.status is not Status.PASS:
        yield Text(f"  asked for and not in the image: {', '.join(record.lacking)}")
    for line in evidence.splitlines():
        yield Text(f"  | {line}")
    if record.last.output:
        yield Text(f"  output: {record.last.output}", style="dim")


def _leaves(attempt: Attempt) -> dict[Path, Outcome]:
    """Return the subtests by their paths; of several with one name the worst stands."""
    found: dict[Path, Outcome] = {}
    order = list(Status)
    for path, leaf in (pair for each in attempt.subtests for pair in each.leaves()):
        known = found.setdefault(path, leaf)
        if order.index(leaf.status) < order.index(known.status):
            found[path] = leaf
    return found


def _is_bad(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status not in (Status.PASS, Status.SKIP)


def _subtest(path: Path, outcomes: Sequence[Outcome | None], lines: int) -> Iterator[Text]:
    line = Text("  ")
    for outcome in outcomes:
        line.append_text(_styled(outcome.status) if outcome else Text("-"))
        line.append("  ")
    line.append(" / ".join(path))
    worst = next(outcome for outcome in outcomes if outcome and _is_bad(outcome))
    if worst.message and worst.message != path[-1]:
        line.append(f"  ({worst.message})")
    yield line
    for text in worst.output.splitlines()[-lines:] if lines else ():
        yield Text(f"      {text}", style="dim")


def summary(records: Sequence[TestRecord]) -> str:
    """Return in a line what came of the tests."""
    if not records:
        return "no self-test was run"
    flaky = sum(record.flaky for record in records)
    numbers = _numbers(record.last.status for record in records)
    tests = "1 self-test" if len(records) == 1 else f"{len(records)} self-tests"
    return f"{tests}: {numbers}{f', {flaky} flaky' if flaky else ''}"
