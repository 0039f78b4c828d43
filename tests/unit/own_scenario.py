"""A scenario in a file of its own, as an author writes one: nothing of it is the lab's."""

from __future__ import annotations

from typing import ClassVar

from linklab.errors import WrongState
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import GUEST, Hosts, Metrics, Parameter, Scenario


class Writing(Scenario):
    """Writes files. `log` is what objects of the class did, one after the other."""

    name = "writing"
    about = "files of some sizes, written in some ways"
    shape = Shape(
        axes=(
            Axis("size", (1, 10), title="bytes", most=100),
            Axis("way", ("whole", "twice"), among=("whole", "twice", "never")),
        ),
        metrics=(Metric("rate", "B/s", Better.MORE), Metric("misses", zero=True)),
        rows="size",
        columns="way",
        counted=(Metric("calls", zero=True),),
    )
    parameters = (
        Parameter("depth", 4, "levels of folders", least=1, most=8),
        Parameter("pause", 0.5, "seconds between writes", most=2.5),
        Parameter("disk", "ram", "where to write", among=("ram", "none")),
        Parameter("title", "", "what to call it"),
        Parameter("wrong", 0, "the size that is written wrongly"),
    )
    log: ClassVar[list[str]] = []

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why nothing is written."""
        return "nothing is written" if cell["way"] == "never" else ""

    @classmethod
    def load(cls) -> None:
        """Note it."""
        cls.log.append("load")

    def set_up(self, hosts: Hosts, setup: Cell) -> tuple[()]:
        """Note it."""
        assert list(hosts) == [GUEST]
        self.log.append(f"set up {setup.text}".strip())
        return ()

    def warm_up(self, hosts: Hosts) -> None:
        """Note it."""
        self.log.append("warm up")

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Note it."""
        self.log.append(f"prepare {cell.text}")

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Write a file through the agent."""
        host = hosts[GUEST]
        host.agent.write_file("/file", b"x" * int(cell["size"]), host.until(cell))
        self.log.append(f"trial {cell.text}")
        return {"rate": 100.0 * int(cell["size"]), "misses": int(self.given["depth"])}

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Find the file wrong that was to be."""
        self.log.append(f"check {cell.text}")
        if cell["size"] == self.given["wrong"]:
            raise WrongState(f"{cell['size']} bytes are not what they were")

    def count(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Note it."""
        self.log.append(f"count {cell.text}")
        return {"calls": 3}
