"""The table of self-tests: each test, its failures in full, the rest in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report.layout import plain_table, plain_text
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
    is_virtual = about.get("clock") == VIRTUAL
    parts: list[RenderableType] = [_heading(about, records), _table(records, is_virtual)]
    parts += [line for record in records for line in _details(record)]
    parts.append(Text(f"\n{summary(records)}"))
    return Group(*parts)


def _heading(about: Mapping[str, Any], records: Sequence[TestRecord]) -> Text:
    kernels = ", ".join(f"{kernel['name']} {kernel['release']}" for kernel in about["kernels"])
    cpus = f"{about['cpus']} CPU" + ("s" if about["cpus"] != 1 else "")
    words = [f"{about['boot']} boot", cpus, f"{about['memory']} MiB"]
    text = Text(f"{seconds_are(about)}\n", style="bold")
    text.append(f"self-tests on {kernels}\n{', '.join(words)}{_limits(records)}", style="not bold")
    return text


def _limits(records: Sequence[TestRecord]) -> str:
    found = sorted({record.last.limit for record in records})
    return f"; at most {', '.join(f'{limit:.0f}' for limit in found)} s a test" if found else ""


def _table(records: Sequence[TestRecord], is_virtual: bool) -> Table:
    """Return the table; in virtual time the host's seconds stand beside the guest's."""
    table = plain_table("")
    most = max((len(record.attempts) for record in records), default=1)
    table.add_column("test", overflow="fold")
    for name in ["result"] if most == 1 else [_ordinal(n) for n in range(most)]:
        table.add_column(name, no_wrap=True)
    table.add_column("guest's s" if is_virtual else "seconds", justify="right")
    if is_virtual:
        table.add_column("host's s", justify="right")
    table.add_column("subtests", overflow="fold")
    for record in records:
        table.add_row(*_row(record, most, is_virtual))
    return table


def _row(record: TestRecord, most: int, is_virtual: bool) -> Iterator[Text]:
    yield Text(record.name)
    for number in range(most):
        tried = number < len(record.attempts)
        yield _styled(record.attempts[number].status) if tried else Text("")
    last = record.last
    yield _seconds(last.seconds)
    if is_virtual:
        yield _seconds(last.host_seconds)
    yield Text(_counts(last))


def _seconds(seconds: float | None) -> Text:
    return Text(f"{seconds:.1f}" if seconds is not None else "")


def _ordinal(number: int) -> str:
    return _ORDINALS[number] if number < len(_ORDINALS) else f"{number + 1}th"


def _styled(status: Status) -> Text:
    return Text(status.value, style=_STYLE.get(status, "bold red"))


def _counts(attempt: Attempt) -> str:
    """Return how many subtests came to what, the worst first."""
    found = Counter(leaf.status for each in attempt.subtests for _, leaf in each.leaves())
    return ", ".join(f"{found[status]} {status.value}" for status in Status if found[status])


def _details(record: TestRecord) -> Iterator[Text]:
    """Yield every subtest that any attempt did not pass, its results side by side."""
    leaves = [_leaves(attempt) for attempt in record.attempts]
    paths = dict.fromkeys(path for found in leaves for path in found)
    bad = [path for path in paths if any(_is_bad(found.get(path)) for found in leaves)]
    faults = [fault for attempt in record.attempts for fault in attempt.faults]
    evidence = next((a.evidence for a in reversed(record.attempts) if a.evidence), "")
    if not (bad or faults or evidence or record.last.message or record.flaky):
        return
    title = Text(f"\n{record.name}", style="bold")
    said = "; ".join(filter(None, ("flaky" if record.flaky else "", record.last.message)))
    yield title.append(f": {said}" if said else "", style="not bold")
    for number, path in enumerate(bad):
        shown = _LINES if number < _EXPLAINED else 0
        yield from _subtest(path, [found.get(path) for found in leaves], shown)
    for fault in dict.fromkeys(faults):
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
    for each in attempt.subtests:
        for path, leaf in each.leaves():
            known = found.get(path)
            if known is None or order.index(leaf.status) < order.index(known.status):
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
    worst = next(outcome for outcome in outcomes if _is_bad(outcome))
    assert worst is not None
    if worst.message and worst.message != path[-1]:
        line.append(f"  ({worst.message})")
    yield line
    for text in worst.output.splitlines()[-lines:] if lines else ():
        yield Text(f"      {text}", style="dim")


def summary(records: Sequence[TestRecord]) -> str:
    """Return in a line what came of the tests."""
    found = Counter(record.last.status for record in records)
    flaky = sum(record.flaky for record in records)
    parts = [f"{found[status]} {status.value}" for status in Status if found[status]]
    if flaky:
        parts.append(f"{flaky} flaky")
    tests = "1 self-test" if len(records) == 1 else f"{len(records)} self-tests"
    return f"{tests}: {', '.join(parts)}" if records else "no self-test was run"
