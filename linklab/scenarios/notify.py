"""notify: what it costs that others hear of a change to a group.

The kernel tells each listener of each member: a copy of some 1.5 KB for each. The digest
of the grouping agent is one listener that tells all others a line for a group and a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from linklab.errors import WrongState
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.grouping.change import CHANGES, GROUP, Operation
from linklab.scenarios.grouping.interfaces import OnInterfaces
from linklab.scenarios.scenario import GROUPS, GUEST, Hosts, Metrics, Parameter

if TYPE_CHECKING:
    pass

__all__ = ["Notify"]

_MTU = CHANGES[Operation.MTU]
_INTERVAL = 10_000  # ms that a digest may take: one line, however slow the guest is
_ROOM_EACH = 4096  # bytes of a socket's buffer that a message takes, and more


class Notify(OnInterfaces):
    """See above. The change is one request for the group; its members are down."""

    name = "notify"
    about = "a change to a group while 0 to 64 processes listen: each message, or a digest"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ("raw", "digest"),
                among=("raw", "digest"),
                help="raw: each listens to the kernel; digest: each to `linklab-group watch`",
            ),
            Axis("listeners", (0, 1, 8, 64), "listeners", least=0, most=256),
            Axis("interfaces", (1024,), "interfaces", most=8192, per_guest=True),
        ),
        metrics=(
            Metric("seconds", "s", title="seconds in the guest, of who changes", short="time"),
            Metric("system_seconds", "s", zero=True, short="system"),
            Metric(
                "listening",
                "s",
                zero=True,
                title="CPU seconds of all who listen",
                short="listening",
            ),
            Metric("heard", better=Better.NEITHER, zero=True, short="messages heard"),
            Metric("heard_bytes", "bytes", better=Better.NEITHER, zero=True, short="bytes heard"),
            Metric("heard_lost", zero=True, short="lost"),
        ),
        rows="listeners",
        columns="arm",
        text="{arm}, {listeners} listeners, {interfaces} interfaces",
        versus=("raw", "digest"),
        kernels=Grouping.shape.kernels,
    )
    parameters = (
        Parameter("room", 0, "bytes of each listener's buffer; 0: enough for all", most=1 << 29),
    )
    compared: ClassVar = {"arm": ("raw",), "listeners": (8,), "interfaces": (512,)}
    judged: ClassVar = {"arm": ("raw", "digest"), "listeners": (1,), "interfaces": (128,)}
    profiled: ClassVar = {"arm": ("raw",), "listeners": (64,), "interfaces": (1024,)}

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the interfaces, and for what waits to be heard of each."""
        waits = int(cell["interfaces"]) * int(cell.get("listeners", 64)) * _ROOM_EACH
        return Grouping.memory(cell, cpus) + (waits >> 20) + 64

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """Each listener is told of each interface."""
        return 50 + int(cell.get("listeners", 0)) * int(cell["interfaces"]) // 100

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have the MTU be what it was."""
        self.links.bring_to(_MTU.before)

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Change the MTU of the group while they listen; let them end when they have heard."""
        from linklab.scenarios.grouping.messages import group_transition

        host, count = hosts[GUEST], int(cell["listeners"])
        room = int(self.given["room"]) or self.links.count * _ROOM_EACH
        words = ("interval", str(_INTERVAL), "room", str(room), "listeners", str(count))
        listening = host.start([GROUPS, "watch", *words, str(cell["arm"])], "listening", cell)
        assert _MTU.before is not None and _MTU.after is not None
        request = group_transition(GROUP, _MTU.before, _MTU.after)
        took = host.agent.netlink([request], host.until(cell))
        said = listening.finish()
        self.heard, self.lost = said.number("messages"), said.number("lost")
        return {
            "seconds": took.seconds,
            "system_seconds": took.system_seconds,
            "listening": said.number("cpu_ns") / 1e9,
            "heard": self.heard,
            "heard_bytes": said.number("bytes"),
            "heard_lost": self.lost,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Read every interface back, and see that each listener was told of each, or of all."""
        self.links.check(_MTU.after)
        each = self.links.count if cell["arm"] == "raw" else 1
        if self.heard + self.lost != (wanted := each * int(cell["listeners"])):
            raise WrongState(
                f"{self.heard:.0f} messages were heard and {self.lost:.0f} lost: "
                f"{wanted} should have been sent"
            )
