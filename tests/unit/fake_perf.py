"""A guest with perf in it, and a host's perf that reads what that one writes.

The fake perf.data is what `perf script` is to print, so the host's perf is `cat`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fake_guest import FakeGuest, _argv, _Failure, _measure

from linklab.agent.protocol import Field, FieldReader
from linklab.agent.replies import ReplyStatus

FOLDER = "/tmp/linklab-perf"
KALLSYMS = b"ffffffff81000000 T _text\n"
HOST_PERF = """#!/bin/sh
for word; do
    [ "$before" = -i ] && cat "$word"
    before=$word
done
"""


def kernel_sample(comm: str, *symbols: str) -> str:
    """Return a sample as `perf script` prints it, from the innermost function."""
    frames = "".join(f"\tffffffff81000010 {symbol} ([kernel.kallsyms])\n" for symbol in symbols)
    return f"{comm:>16} {7:>5} \n{frames}\n"


def user_sample(comm: str, dso: str) -> str:
    """Return a sample in user space, where there is no chain."""
    return f"{comm:>16} {7:>5}      7fbb3b9bd5d3 [unknown] ({dso})\n"


def one_millisecond_each(work: int) -> str:
    """Return samples of some work: a third in user space."""
    return "".join(
        user_sample("ip", "/lib64/ld-linux-x86-64.so.2")
        if number % 3 == 0
        else kernel_sample("ip", "do_set_mtu", "do_syscall_64")
        for number in range(work)
    )


@dataclass
class PerfGuest(FakeGuest):
    """Takes `each` samples while switched on once; keeps what it was told."""

    programs: frozenset[str] = frozenset({"/bin/ip", "/bin/sh", "/bin/perf", "/bin/busybox"})
    each: int = 400
    sampled: Callable[[int], str] = one_millisecond_each
    start_status: int = 0
    end_status: int = 0
    dies_at: str = ""
    death_status: int = 1
    silent: bool = False
    counters: str = "<not supported>"
    told: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    on_while: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.files["/proc/kallsyms"] = KALLSYMS
        self._on = False

    def _do_run(self, reader: FieldReader) -> list[Field]:
        words = _argv(reader)
        if self._on:
            self.on_while.append(" ".join(words))
        status, output = 0, b""
        if words[0] == "/bin/sh":
            self.options = words[2:]
            status, output = self.start_status << 8, b"no fifo"
            self.files = {k: v for k, v in self.files.items() if not k.startswith(FOLDER)}
            self.files |= {f"{FOLDER}/ack": b"", f"{FOLDER}/perf.data": b""}
        elif words[0] == "/bin/perf":
            output = f"{self.counters},,cycles,0,100.00,,\n".encode()
        elif words[0] == "/bin/busybox":
            at = int(words[-1].removeprefix("skip=")) * (4 << 20)
            self.files[f"{FOLDER}/piece"] = self.files[f"{FOLDER}/perf.data"][at : at + (4 << 20)]
        else:
            status, output, _ = self._run_one(words)
        return [status, *_measure(1_000_000 * self.each, processes=1), output]

    def _do_write_file(self, reader: FieldReader) -> list[Field]:
        path, mode, append = reader.take_text(), reader.take_int(), reader.take_int()
        content = reader.take_bytes()
        if path != f"{FOLDER}/control":
            assert not mode and not append
            self.files[path] = content
            return []
        word = content.decode().strip()
        self.told.append(word)
        if word == self.dies_at:
            self._end(self.death_status)
        elif word == "stop":
            self._end(self.end_status)
        elif not self.silent:
            self.files[f"{FOLDER}/ack"] = b"ack\n\0"
        if word == "enable":
            self._on = True
            self.files[f"{FOLDER}/perf.data"] += self.sampled(self.each).encode()
        if word == "disable":
            self._on = False
        return []

    def _end(self, status: int) -> None:
        self.files[f"{FOLDER}/status"] = f"{status}\n".encode()
        self.files[f"{FOLDER}/log"] = b"perf: it broke\n"

    def _do_read_file(self, reader: FieldReader) -> list[Field]:
        path = reader.take_text()
        if path not in self.files:
            raise _Failure(ReplyStatus.MISSING, 0, f"{path}: No such file or directory")
        content = self.files[path]
        if path == f"{FOLDER}/ack":
            self.files[path] = b""
        return [content]


def install_host_perf(folder: Path) -> None:
    """Put a `perf` into a folder that is to be in PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "perf").write_text(HOST_PERF)
    (folder / "perf").chmod(0o755)
