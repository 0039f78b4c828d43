"""A stored profile on the terminal, and as a flame graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.profile.flamegraph import flame_graph
from linklab.profile.stacks import Stacks, SymbolShare, symbol_shares
from linklab.profile.store import StoredProfile
from linklab.report.layout import TEXT_WIDTH, plain_text
from linklab.results.figures import VIRTUAL, seconds_are
from linklab.results.other import work_of

ROWS = 25


def render(profile: StoredProfile, rows: int = ROWS) -> Group:
    """Return everything that a profile has to say on a terminal."""
    about = profile.about
    parts: list[RenderableType] = [
        Text(seconds_are(about), style="bold"),
        Text(f"{_title(about)}\n"),
        *(Text(line) for line in _lines(about)),
        Text(f"by task: {_tasks(profile.stacks)}"),
        Text(),
        _table(symbol_shares(profile.stacks), rows),
    ]
    return Group(*parts)


def as_text(profile: StoredProfile, width: int = TEXT_WIDTH) -> str:
    """Return the same as plain text, for a file."""
    return plain_text(render(profile), width)


def graph_of(profile: StoredProfile) -> str:
    """Return a profile's flame graph as SVG."""
    about, samples = profile.about, profile.about["samples"]
    machine = f"{seconds_are(about)}; {about['event']['name']}"
    kernel = 100 * about["shares"]["kernel"]["share"]
    count = f"{samples['work']} samples of the work, {kernel:.1f} % in the kernel"
    return flame_graph(profile.stacks, _title(about), (machine, count))


def _title(about: Mapping[str, Any]) -> str:
    kernel = about["kernel"]
    return f"Profile of {work_of(about)}, kernel {kernel['name']} {kernel['release']}"


def _lines(about: Mapping[str, Any]) -> Iterator[str]:
    samples, event, rule = about["samples"], about["event"], about["rule"]
    yield (
        f"{samples['work']} samples of the work in {len(about['sampled'])} repetitions; "
        f"{'enough' if rule['met'] else 'NOT ENOUGH when the time was over'}: {rule['text']}"
    )
    yield f"sampled by {event['name']}, {event['frequency']} a second and CPU: {event['why']}"
    idle = f"the idle CPU {_part(samples['idle'], samples['total'])}"
    if about.get("clock") == VIRTUAL:
        idle = "none of the idle CPU, which is not sampled"
    yield (
        f"left out of {samples['total']} samples: {idle}, perf itself "
        f"{_part(samples['sampler'], samples['total'])}"
    )
    kernel, user = about["shares"]["kernel"], about["shares"]["user"]
    yield f"of the work: kernel {_interval(kernel)}, user {_interval(user)}"
    yield from _by_the_clock(about)


def _by_the_clock(about: Mapping[str, Any]) -> Iterator[str]:
    """Say what getrusage(2) found, sampled or not, and what sampling cost.

    As far as the scenario's metrics tell that.
    """
    sampled, unsampled = about["sampled"], about["unsampled"]
    known = set(unsampled[0])
    if {"user_seconds", "system_seconds"} <= known:
        yield (
            f"kernel by getrusage(2): {_kernel_part(sampled)} of the same repetitions, "
            f"{_kernel_part(unsampled)} of those without samples"
        )
    if "seconds" not in known:
        return
    middle, without = (
        median(measure["seconds"] for measure in measures) for measures in (sampled, unsampled)
    )
    yield (
        f"one repetition, median: {middle:.3f} s while sampled, {without:.3f} s without "
        f"({100 * (middle / without - 1):+.0f} %)"
    )


def _kernel_part(measures: Sequence[Mapping[str, float]]) -> str:
    user = sum(measure["user_seconds"] for measure in measures)
    system = sum(measure["system_seconds"] for measure in measures)
    return _part(system, user + system)


def _tasks(stacks: Stacks) -> str:
    """Return the tasks that the samples come from, the busiest first."""
    tasks: Counter[str] = Counter()
    for stack, count in stacks.items():
        tasks[stack[0]] += count
    ordered = sorted(tasks, key=lambda task: (-tasks[task], task))
    return ", ".join(f"{task} {_part(tasks[task], tasks.total())}" for task in ordered)


def _part(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def _interval(share: Mapping[str, float]) -> str:
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{100 * share['share']:.1f} % ({low:.1f} to {high:.1f})"


def _table(symbols: Sequence[SymbolShare], rows: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("self", "95 % interval", "with callees"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("space", no_wrap=True)
    table.add_column("symbol", overflow="fold")
    for symbol in symbols[:rows]:
        own, total = symbol.own, symbol.total
        if not own.samples:
            break
        table.add_row(
            f"{100 * own.share:.1f} %",
            f"{100 * own.low:.1f} to {100 * own.high:.1f}",
            f"{100 * total.share:.1f} %",
            symbol.space,
            Text(symbol.symbol),
        )
    return table
