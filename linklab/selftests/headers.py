"""The kernel's headers for user space, as the source under test has them.

Self-tests use what a kernel defines before any distribution ships it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linklab.errors import BuildSkipped
from linklab.events import Listener, step
from linklab.host.cache import Artefact, Cache, key_of
from linklab.host.run import CommandFailed, run
from linklab.kernel.make import build_environment, check_place, check_tools, jobs
from linklab.selftests.checkout import HEADER_PARTS, Checkout

INCLUDE = "include"
"""The folder of the artefact that a compiler is given."""

_LIMIT = 600.0  # s; it takes ten


def build_headers(checkout: Checkout, cache: Cache, listener: Listener) -> Artefact:
    """Return the artefact with the headers of a state of a source, in `include/`.

    The files of `checkout` are checked out. Raises `BuildSkipped` when the
    source does not give any, `LabError` when this machine cannot install them.
    """
    parts = {path: name for path, name in checkout.files.items() if path.startswith(HEADER_PARTS)}

    def make(folder: Path) -> Mapping[str, Any]:
        check_tools()
        check_place(checkout.store.folder)
        work = folder / "work"
        work.mkdir()
        argv = ["make", "-C", str(checkout.store.tree), f"O={work}", f"-j{jobs()}", "headers"]
        with step(listener, "install the kernel's headers"):
            try:
                run(argv, env=build_environment(), deadline=_LIMIT)
            except CommandFailed as error:
                raise BuildSkipped(
                    f"the headers of {checkout.source.origin} cannot be installed", error.evidence
                ) from error
            unwanted = shutil.ignore_patterns(".*", "Makefile")
            shutil.copytree(work / "usr" / "include", folder / INCLUDE, ignore=unwanted)
            shutil.rmtree(work)
        return {"tree": checkout.tree}

    key = key_of({"schema": 1, "parts": parts})
    return cache.get("headers", key, make, listener, "the kernel's headers")
