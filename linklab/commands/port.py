"""`invoke port`: a series of patches tried on another kernel."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.workflow import TABLE, Finished, Request, Workflow
from linklab.errors import UsageError, Verdict
from linklab.events import Note
from linklab.host.cache import write_whole
from linklab.kernel.series import Series, find_commit, range_series, read_series
from linklab.kernel.source import check_source, find_checkout, open_source
from linklab.options import ResultOptions, option, word
from linklab.port.engine import named_files
from linklab.port.porting import FILE, Ported, document, patch_files, port_series
from linklab.results.result_kinds import PORT
from linklab.results.store import claim, utc_now

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class PortOptions(ResultOptions):
    """The options of `invoke port`, as typed."""

    series: str = word("a patch, an mbox, a folder of patches; with --range a git tree")
    onto: str = option("", "a kernel tree or a tarball to try it on; default: Debian's")
    commit: str = option("", "a commit of the git tree that --onto names, instead of its files")
    range: str = option("", "BASE..TOPIC: commits of the git tree that SERIES names")
    everything: bool = option(False, "a row for every patch, and every conflict in full", "all")


@dataclass(frozen=True)
class PortRequest(Request):
    """The same, checked."""

    series: Series
    onto: Path
    commit: str
    lent: tuple[Path, ...]


class Porting(Workflow[PortOptions, PortRequest]):
    """`invoke port` at its work."""

    _ported: Ported
    _about: dict[str, Any]

    def check(self) -> PortRequest:
        """Read the series and check the rest, before anything is started."""
        options = self.options
        path = Path(options.series).expanduser()
        if options.series.startswith("-"):
            raise UsageError(
                f"a series is expected before {options.series}; `invoke port --help` lists the "
                "options"
            )
        if not os.path.lexists(path):
            raise UsageError(
                f"there is no series {options.series}: expected a patch, an mbox, a folder of "
                "patches, or a git tree with --range BASE..TOPIC"
            )
        onto = check_source(Path(options.onto) if options.onto else None)
        if options.commit and not onto.is_dir():
            raise UsageError(f"--commit {options.commit}: {onto} is no git tree")
        commit = find_commit(onto, options.commit) if options.commit else ""
        if options.range:
            series = range_series(path, options.range, renames=True)
        else:
            series = read_series([path])
        folder = Path(options.output)
        if options.output and (os.path.lexists(folder / FILE) or patch_files(folder)):
            raise UsageError(f"{folder} already holds patches: name another folder with --output")
        lent = _objects_of(path) if options.range else ()
        return PortRequest(claim(options.output, PORT), series, onto, commit, lent)

    def work(self) -> Finished:
        """Try the series and write what comes out, all of it or nothing."""
        start, folder = utc_now(), self.request.folder
        try:
            self._ported = ported = self._try()
            verdict = Verdict.FAIL if ported.failed else Verdict.PASS
            self._about = document(ported, self.command, start, verdict.value)
            (folder / TABLE).write_text(self.text(), encoding="utf-8")
            write_whole(folder / FILE, json.dumps(self._about, indent=1) + "\n")
        except BaseException:  # half a series looks like a whole one
            for path in (*patch_files(folder), folder / TABLE):
                path.unlink(missing_ok=True)
            raise
        return Finished(folder, verdict)

    def _try(self) -> Ported:
        asked, listener = self.request, self.listener
        for note in asked.series.notes:
            listener(Note(note))
        only = named_files(asked.series.patches)
        revision = asked.commit
        source = open_source(asked.onto, self.cache, listener, revision=revision, only=only)
        lent = asked.lent if len(source.tree) == 40 else ()
        return port_series(asked.series, source, asked.folder, listener, lent)

    def table(self) -> RenderableType:
        """Return the table of the patches, those that need a look or all of them."""
        from linklab.port.table import render

        return render(self._ported, everything=self.options.everything)

    def text(self) -> str:
        """Return the table of all patches."""
        from linklab.port.table import as_text

        return as_text(self._ported)

    def document(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return self._about

    def where(self, _finished: Finished) -> dict[str, str]:
        """Return nothing: what is printed is the file, to the letter."""
        return {}

    def illustrate(self, finished: Finished) -> None:
        """Write the page."""
        from linklab.report.port import FILE as PAGE
        from linklab.report.port import write_page

        write_page(self._about, finished.folder / PAGE)

    def closing(self, finished: Finished) -> str:
        """Return how to apply the new series, the verdict, and where it is."""
        from linklab.port.table import headline
        from linklab.report.port import FILE as PAGE

        series = ""
        if self._ported.new.files:
            place = shlex.quote(str(finished.folder))
            series = f"{headline(self._ported)}. The new series: git am {place}/*.patch\n"
        return f"{series}{super().closing(finished)} ({FILE}, {TABLE}, {PAGE})"


def _objects_of(tree: Path) -> tuple[Path, ...]:
    """Return where the git tree of a range keeps the files that its commits were made for."""
    checkout = find_checkout(tree.resolve())
    return (checkout.objects,) if checkout and checkout.object_format == "sha1" else ()


def main(options: PortOptions, command: Sequence[str]) -> Verdict:
    """Try the series, write what comes out, show it, and return the verdict."""
    return Porting(options, command).carry_out()
