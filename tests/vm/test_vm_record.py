"""A run that fails is recorded, replayed, and gdb goes backwards in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from guests import Invoke

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed"),
]

PATCH = Path(__file__).parent / "patches" / "dummy-bad-pointer.patch"


def test_gdb_goes_back_from_the_oops_to_the_store_that_caused_it(
    invoke: Invoke, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "replayed.log"
    kernel = ("--kernel", "nosysfs", "--config", "symbols", "--patch", str(PATCH))
    work = ("--counts", "16", "--arms", "group", "--output", str(folder))
    failed = invoke("run", "--record", *kernel, *work, timeout=3600)  # builds a kernel
    assert failed.status == 1, failed.stderr
    assert len(list(folder.glob("recording-*.rr"))) == 1

    steps = (
        *("break oops_enter", "continue", "print dummy_last"),
        *("watch dummy_last", "reverse-continue", "backtrace 1", "print count"),
    )
    words = [word for step in steps for word in ("--command", step)]
    done = invoke("gdb", "--replay", str(folder), "--log", str(log), *words)
    assert done.status == 0, done.stderr
    assert "$1 = (int *) 0x42" in done.stdout
    assert "#0  dummy_remember" in done.stdout
    assert "$2 = 4" in done.stdout
