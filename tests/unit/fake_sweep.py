"""A sweep of a scenario in fake guests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_lab import subject

from linklab.commands import sweep as command
from linklab.commands.run import RunRequest
from linklab.commands.sweep import Sweeping, SweepOptions
from linklab.commands.sweepfile import read
from linklab.errors import Verdict
from linklab.events import Listener, ignore
from linklab.lab import lab as lab_module
from linklab.results.model import Run
from linklab.results.store import read_run

SCENARIO = """\
from pathlib import Path
from linklab.errors import KernelCrashed
from linklab.results.shape import Axis, Better, Metric, Shape
from linklab.scenarios.scenario import Parameter, Scenario


class Rate(Scenario):
    name = "rate"
    about = "how much goes through"
    shape = Shape(
        axes=(
            Axis("size", (64, 1500), "bytes", most=9000),
            Axis("protocol", ("tcp",), among=("tcp", "udp")),
        ),
        metrics=(Metric("rate", "Mbit/s", Better.MORE), Metric("lost", zero=True)),
        rows="size",
        columns="protocol",
        text="{protocol} of {size} bytes",
    )
    parameters = (
        Parameter("pace", 1.0, "packets for each ms", most=10),
        Parameter("seconds", 5, "how long", most=60),
        Parameter("queue", "fifo", "what the link has", among=("fifo", "fq")),
    )

    def trial(self, hosts, cell):
        assert set(cell) == {"size", "protocol"}  # it knows no axis but its own
        with Path("trials").open("a") as file:
            file.write(f"{self.given['pace']} {self.given['queue']} {cell.text}\\n")
        if Path("stop").exists() and len(Path("trials").read_text().splitlines()) > 3:
            raise KeyboardInterrupt
        if Path("crash").exists() and len(Path("trials").read_text().splitlines()) > 3:
            raise KernelCrashed("Oops")
        half = 0.5 if cell["protocol"] == "udp" else 1.0
        return {"rate": self.given["pace"] * cell["size"] * half, "lost": 0}
"""
FILE = """\
scenario = "rate.py"
kernel = ["nosysfs"]
clock = "real"
seed = 7
leaks = "none"

[axes]
size = [100, 200]
protocol = ["tcp", "udp"]

[parameters]
pace = [1, 2.5]
queue = "fq"
"""
CHECK = "\n[[check]]\nat-least = 100\n"
SUBJECTS = [subject("nosysfs")]
PATH = Path("sweep.toml")
AXIS, PARAMETER = "[axes]", "[parameters]"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)
    Path("rate.py").write_text(SCENARIO)


def checking(text: str, listener: Listener = ignore, **over: Any) -> RunRequest:
    PATH.write_text(text)
    return Sweeping(read(PATH, {"output": "out", **over}), "", (), listener).check()


def swept(text: str = FILE, *words: str, **options: Any) -> Verdict:
    PATH.write_text(text)
    asked = SweepOptions(file=str(PATH), **{"output": "out", **options})
    return command.main(asked, ["invoke", "sweep", str(PATH), *words])


def stored() -> Run:
    return read_run(Path("out"))


def with_line(text: str, before: str, line: str) -> str:
    return text.replace(before, f"{line}\n{before}", 1)
