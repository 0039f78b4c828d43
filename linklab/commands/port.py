"""`invoke port`: a series of patches tried on another kernel."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.commands.outcome import print_document, print_shown
from linklab.errors import UsageError, Verdict
from linklab.events import Listener, Note
from linklab.host.cache import Cache, write_whole
from linklab.kernel.series import Series, find_commit, range_series, read_series
from linklab.kernel.source import check_source, find_checkout, open_source
from linklab.options import JSON, option, word
from linklab.port.engine import named_files
from linklab.port.porting import FILE, Ported, document, patch_files, port_series
from linklab.results.store import claim, utc_now

NAME = "port"
TABLE = "table.txt"


@dataclass(frozen=True)
class PortOptions:
    """The options of `invoke port`, as typed."""

    series: str = word("a patch, an mbox, a folder of patches; with --range a git tree")
    onto: str = option("", "a kernel tree or a tarball to try it on; default: Debian's")
    commit: str = option("", "a commit of the git tree that --onto names, instead of its files")
    range: str = option("", "BASE..TOPIC: commits of the git tree that SERIES names")
    output: str = option(
        "", "a folder for the new series and port.json; default results/<UTC time>-port"
    )
    everything: bool = option(False, "a row for every patch, and every conflict in full", "all")
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class _Request:
    """The same, checked."""

    series: Series
    onto: Path
    commit: str
    folder: Path
    lent: tuple[Path, ...]


def main(options: PortOptions, command: Sequence[str]) -> Verdict:
    """Try the series, write what comes out, show it, and return the verdict."""
    from linklab.report.progress import progress

    start = utc_now()
    with progress() as listener:
        request = _check(options)
        try:
            ported = _port(request, listener)
            verdict = Verdict.FAIL if ported.failed else Verdict.PASS
            about = document(ported, command, start, verdict.value)
            _write(request.folder, ported, about)
        except BaseException:
            _undo(request.folder)
            raise
    if options.as_json:
        print_document(about)
    else:
        _show(ported, request.folder, everything=options.everything)
    return verdict


def _check(options: PortOptions) -> _Request:
    """Read the series and check the rest, before anything is started."""
    path = Path(options.series).expanduser()
    if options.series.startswith("-"):
        raise UsageError(
            f"a series is expected before {options.series}; `invoke port --help` lists the options"
        )
    if not os.path.lexists(path):
        raise UsageError(
            f"there is no series {options.series}: expected a patch, an mbox, a folder of patches, "
            "or a git tree with --range BASE..TOPIC"
        )
    onto = check_source(Path(options.onto) if options.onto else None)
    if options.commit and not onto.is_dir():
        raise UsageError(f"--commit {options.commit}: {onto} is no git tree")
    commit = find_commit(onto, options.commit) if options.commit else ""
    if options.range:
        series = range_series(path, options.range, renames=True)
    else:
        series = read_series([path])
    folder = _claim(options.output)
    return _Request(series, onto, commit, folder, _lent(path) if options.range else ())


def _claim(output: str) -> Path:
    folder = Path(output)
    if output and (os.path.lexists(folder / FILE) or patch_files(folder)):
        raise UsageError(f"{folder} already holds patches: name another folder with --output")
    return claim(output, NAME)


def _lent(tree: Path) -> tuple[Path, ...]:
    """Return where the git tree of a range keeps the files that its commits were made for."""
    checkout = find_checkout(tree.resolve())
    return (checkout.objects,) if checkout and checkout.object_format == "sha1" else ()


def _port(request: _Request, listener: Listener) -> Ported:
    for note in request.series.notes:
        listener(Note(note))
    only = named_files(request.series.patches)
    source = open_source(request.onto, Cache(), listener, revision=request.commit, only=only)
    lent = request.lent if len(source.tree) == 40 else ()
    return port_series(request.series, source, request.folder, listener, lent)


def _write(folder: Path, ported: Ported, about: dict[str, Any]) -> None:
    from linklab.port.table import as_text

    (folder / TABLE).write_text(as_text(ported), encoding="utf-8")
    write_whole(folder / FILE, json.dumps(about, indent=1) + "\n")


def _undo(folder: Path) -> None:
    """Remove what a port that did not end has written: half a series looks like a whole one."""
    for path in (*patch_files(folder), folder / TABLE):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _show(ported: Ported, folder: Path, *, everything: bool) -> None:

    from linklab.port.table import headline, render

    print_shown(render(ported, everything=everything))
    if ported.new.files:
        print(f"\n{headline(ported)}. The new series: git am {shlex.quote(str(folder))}/*.patch")
    verdict = Verdict.FAIL if ported.failed else Verdict.PASS
    print(f"verdict: {verdict.value}   results: {folder} ({FILE}, {TABLE})")
