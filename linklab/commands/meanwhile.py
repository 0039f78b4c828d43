"""`invoke run --while-building`: a first table while a person waits for kernels that are built."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from linklab.events import Event, Listener, Note, StepStarted, TerminalLent, TerminalReturned
from linklab.host.run import ending, start

_BUILDING = ("read ", "write the source tree", "configure the kernel", "build kernel")
"""How the steps begin that come before a kernel which is not in the cache."""


@contextmanager
def meanwhile(listener: Listener, words: Sequence[str]) -> Iterator[Listener]:
    """Yield a listener that starts a command of Invoke when the first kernel is built.

    It shows the command's output between two events, so that no bar is drawn
    over it, and at the end waits for it. Where the work fails, the command ends.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        other = _Other(listener, words, said, complained)
        try:
            yield other.hear
        except BaseException:
            if other.process is not None:
                other.process.terminate()
            raise
        finally:
            if other.process is not None:
                with ending(other.process):
                    other.process.wait()
        other.show_once()


@dataclass
class _Other:
    listener: Listener
    words: Sequence[str]
    said: IO[bytes]
    complained: IO[bytes]
    process: subprocess.Popen[bytes] | None = None
    is_shown: bool = False

    def hear(self, event: Event) -> None:
        begins = isinstance(event, StepStarted) and event.step.startswith(_BUILDING)
        if self.process is None and begins:
            argv = [sys.executable, "-m", *self.words]
            self.process = start(argv, stdout=self.said, stderr=self.complained)
        self.show_once()
        self.listener(event)

    def show_once(self) -> None:
        if self.process is None or self.is_shown or self.process.poll() is None:
            return
        self.is_shown = True
        self.listener(TerminalLent())
        print(_content(self.said), flush=True)
        self.listener(TerminalReturned())
        if self.process.returncode:
            lines = _content(self.complained).splitlines()
            self.listener(Note(f"while building: {lines[-1] if lines else 'no table'}"))


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()
