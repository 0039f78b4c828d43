"""A scenario of a user's own as the text of a file: made where a test wants it, and changed."""

from __future__ import annotations

SOURCE = """\
from linklab.results.shape import Axis, Better, Metric, Shape
from linklab.scenarios.scenario import Parameter, Scenario


class Rate(Scenario):
    name = "rate"
    about = "how much goes through"
    shape = Shape(
        axes=(
            Axis("size", (64, 1500), "bytes", most=9000, per_guest=True),
            Axis("protocol", ("tcp",), among=("tcp", "udp")),
        ),
        metrics=(
            Metric("rate", "Mbit/s", Better.MORE),
            Metric("lost", "packets", zero=True),
            Metric("seconds", "s"),
        ),
        rows="size",
        columns="protocol",
    )
    parameters = (
        Parameter("pace", 1.0, "packets for each ms", most=10),
        Parameter("queue", "fifo", "what the link has", among=("fifo", "fq")),
    )

    @classmethod
    def refusal(cls, cell):
        return "no datagram is that long" if cell.text == "9000/udp" else ""

    def trial(self, hosts, cell):
        return {"rate": self.given["pace"] * cell["size"], "lost": 0, "seconds": 1.0}
"""
WITH_FRAGMENT = SOURCE.replace(
    "from linklab", "from pathlib import Path\n\nfrom linklab", 1
).replace(
    "    parameters", '    fragment = Path(__file__).with_name("mine.config")\n    parameters'
)
"""The same with a fragment of kernel options, mine.config, beside it."""
