"""What programs of the host said, remembered for as long as it holds.

Asking a program costs 5 to 15 ms, and an image asks half a dozen of them
each time only to find out that nothing changed. An answer is kept with the
files that it rests on, and asked for again when one of them is not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from linklab.host.cache import Cache
from linklab.host.memo import load_json, save_json


class Answers:
    """Answers that JSON can hold, in one file of the cache."""

    def __init__(self, cache: Cache) -> None:
        self._path = cache.root / "answers.json"
        self._known = load_json(self._path)

    def get(self, question: str, ask: Callable[[], tuple[Any, Iterable[Path]]]) -> Any:
        """Return the answer to a question, from memory where that still holds.

        `ask` returns the answer and the files that it rests on.
        """
        known = self._known.get(question)
        if known is None or any(_stamp(Path(p)) != s for p, s in known["rests_on"].items()):
            answer, files = ask()
            known = {"answer": answer, "rests_on": {str(path): _stamp(path) for path in files}}
            self._known[question] = known
            # Another run may have added to it since; and what cannot be kept is asked again.
            with suppress(OSError):
                save_json(self._path, {**load_json(self._path), question: known})
        return known["answer"]


def _stamp(path: Path) -> list[int] | None:
    """Return what changes with a file's content; ctime also where its age was set back."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
