"""A scenario as an author writes one, in a file of its own: how fast a file is read."""

from pathlib import Path
from typing import ClassVar

from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import GUEST, Hosts, Metrics, Scenario, Slower

READING = {"cat": ["/bin/cat", "/proc/version"], "dd": ["/bin/dd", "if=/proc/version"]}


class Toy(Scenario):
    name = "toy"
    about = "reading /proc/version by some programs, again and again"
    shape = Shape(
        axes=(
            Axis("program", tuple(READING), among=tuple(READING)),
            Axis("reads", (10, 100), most=1000),
        ),
        metrics=(
            Metric("rate", "reads/s", Better.MORE),
            Metric("lost", zero=True, short="lost reads"),
        ),
        rows="reads",
        columns="program",
    )
    compared: ClassVar = {"program": ("cat",), "reads": (10,)}
    judged = profiled = compared
    slower = Slower(Path("slow.patch"), "version_loops", Cell({"program": "cat", "reads": 10}))

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        host, count = hosts[GUEST], int(cell["reads"])
        end = host.agent.run_each(READING[str(cell["program"])], 0, count, host.until(cell))
        return {"rate": count / end.measure.seconds, "lost": count - end.done}
