"""The page of a ported series: what happened to it as a whole, from its `port.json` alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.report.grid import Column, Entry, Grid

FILE = "report.html"
TEMPLATE = "port.html"

_AS_IS, _ADAPTED, _THERE, _BY_HAND = KINDS = ("as it is", "adapted", "there already", "by hand")
"""What may become of a patch, or of its part in a file."""
_TONES = dict(zip(KINDS, ("good", "part", "quiet", "bad"), strict=True))
_KIND_OF = {  # of what port.json calls a status
    "clean": _AS_IS,
    "offset": _AS_IS,
    "partly there": _ADAPTED,
    "moved": _ADAPTED,
    "merged": _ADAPTED,
    "fuzz": _ADAPTED,
    "already there": _THERE,
    "empty": _THERE,
}
_FOLDERS = 2  # names of a path that make a row: net/core
_MOST_PERIODS = 24
_PERIODS = ("%Y-%m-%d", "%Y-%m", "%Y")  # the finest one of which there are not too many
_UNDATED = "no date"


def kind_of(status: str) -> str:
    """Return which of the four kinds a status is; one that is not known is to be looked at."""
    return _KIND_OF.get(status, _BY_HAND)


def page(about: Mapping[str, Any]) -> str:
    """Return the page of a `port.json`."""
    from linklab.templating import render

    source, counts = about["source"], _counted(patch["status"] for patch in about["patches"])
    return render(
        TEMPLATE,
        title=f"{len(about['patches'])} patches onto Linux {source['release']}",
        verdict=about["verdict"],
        headline=", ".join(f"{counts[kind]} {kind}" for kind in KINDS),
        facts=list(_facts(about)),
        whole=list(_whole(about["patches"])),
        patches=_every_patch(about["patches"]),
    )


def write_page(about: Mapping[str, Any], target: Path) -> Path:
    """Write the page of a `port.json`, and return where it is.

    Raises `UsageError` for one that makes no sense, or where it cannot be written.
    """
    from linklab.templating import keep

    try:
        text = page(about)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"what is stored of the series makes no sense: {error!r}") from error
    return keep(text, target)


def _facts(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    series, source = about["series"], about["source"]
    yield "source", f"Linux {source['release']}, {source['origin']}"
    if series.get("cover"):
        yield "series", str(series["cover"])
    if series.get("base"):
        yield "base", str(series["base"])
    folders = sorted({str(Path(file).parent) for file in series["files"]})
    yield "read from", ", ".join(folders) or "a git tree"
    yield "time", f"{about['start'][:16].replace('T', ' ')} UTC"
    yield "command", str(about["command"])


def _counted(statuses: Iterable[str]) -> Counter[str]:
    return Counter(map(kind_of, statuses))


def _whole(patches: Sequence[Mapping[str, Any]]) -> Iterator[Grid]:
    """Yield what happened by kind, by time, by folder, and the files that hold people up."""
    statuses = Counter(patch["status"] for patch in patches)
    yield Grid(
        "all patches",
        [Column("outcome", numeric=False), Column("", numeric=False), Column("patches")],
        [
            [_named(kind_of(status)), Entry(status), Entry(str(count), count)]
            for status, count in sorted(
                statuses.items(), key=lambda each: (KINDS.index(kind_of(each[0])), -each[1])
            )
        ],
        leading=2,
    )
    if any(patch.get("date") for patch in patches):
        yield _by("when it was written", "patches, by their authors' dates", _by_time(patches))
    parts = [(file["path"], file["status"]) for patch in patches for file in patch["files"]]
    folders: dict[str, list[str]] = defaultdict(list)
    for path, status in parts:
        folders[_folder(path)].append(status)
    rows = sorted(folders.items(), key=lambda row: (-_counted(row[1])[_BY_HAND], row[0]))
    yield _by("folder", "files, each once for each patch that changes it", rows)
    if lacking := _by_hand(patches):
        yield lacking


def _by(what: str, title: str, rows: Iterable[tuple[str, Sequence[str]]]) -> Grid:
    """Return how many of the statuses of each row are of each kind, and what part is by hand."""
    columns = [Column(what, numeric=False), *map(Column, KINDS), Column("of all, by hand")]
    entries = []
    for name, statuses in rows:
        counts = _counted(statuses)
        each = [Entry(str(counts[kind] or ""), counts[kind], tone=_TONES[kind]) for kind in KINDS]
        part = 100 * counts[_BY_HAND] / len(statuses)
        entries.append([Entry(name), *each, Entry(f"{part:.0f} %", part)])
    return Grid(title, columns, entries)


def _by_time(patches: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the statuses of each year, month or day, in order; those without a date at the end."""
    dated = [(_date(patch.get("date", "")), patch["status"]) for patch in patches]
    for period in _PERIODS:
        names = {date.strftime(period) for date, _ in dated if date}
        if len(names) <= _MOST_PERIODS:
            break
    found: dict[str, list[str]] = defaultdict(list)
    for date, status in dated:
        found[date.strftime(period) if date else _UNDATED].append(status)
    yield from sorted(found.items(), key=lambda row: (row[0] == _UNDATED, row[0]))


def _date(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _folder(path: str) -> str:
    return "/".join(path.split("/")[:-1][:_FOLDERS]) or "."


def _by_hand(patches: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Return the files in which something is to be done by hand, those of most patches first."""
    found: dict[str, list[int]] = defaultdict(list)
    held_up: Counter[str] = Counter()
    for patch in patches:
        for file in patch["files"]:
            if kind_of(file["status"]) == _BY_HAND:
                found[file["path"]].append(patch["number"])
                held_up[file["path"]] += len(patch["holds_up"])
    if not found:
        return None
    rows = sorted(found.items(), key=lambda row: (-len(row[1]), row[0]))
    return Grid(
        "files with something to do by hand",
        [Column("file", numeric=False), Column("patches"), Column("held up by them"),
         Column("which", numeric=False)],
        [
            [Entry(path), Entry(str(len(numbers)), len(numbers)),
             Entry(str(held_up[path] or ""), held_up[path]),
             Entry(", ".join(map(str, numbers)))]
            for path, numbers in rows
        ],
    )  # fmt: skip


def _named(kind: str) -> Entry:
    return Entry(kind, KINDS.index(kind), tone=_TONES[kind])


def _every_patch(patches: Sequence[Mapping[str, Any]]) -> Grid:
    """Return a row for each patch, with what it waits for or what was adapted."""
    rows = []
    for patch in patches:
        waits = [number for number in patch["roots"] if number != patch["number"]]
        conflicts = [c["file"] for file in patch["files"] for c in file["conflicts"]]
        said = list(patch["remarks"])
        said += [f"waits for {', '.join(map(str, waits))}"] if waits else []
        said += [f"conflicts in {', '.join(dict.fromkeys(conflicts))}"] if conflicts else []
        rows.append(
            [
                Entry(str(patch["number"]), patch["number"]),
                Entry((patch.get("date") or "")[:10]),
                Entry(patch["status"], KINDS.index(kind_of(patch["status"])),
                      tone=_TONES[kind_of(patch["status"])]),
                Entry(patch["subject"] or "(no subject)"),
                Entry("; ".join(said)),
            ]
        )  # fmt: skip
    columns = [
        Column(""), Column("written", numeric=False), Column("outcome", numeric=False),
        Column("patch", numeric=False), Column("what to know", numeric=False),
    ]  # fmt: skip
    return Grid("in their order", columns, rows)
