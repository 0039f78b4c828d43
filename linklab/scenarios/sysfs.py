"""sysfs: the group of each interface, read and written in sysfs and by netlink.

The 2011 paper wished for the tag in each device's directory. The kernel has it since then,
`/sys/class/net/NAME/netdev_group`; what it costs against a message is what is measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from linklab.errors import WrongState
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.grouping.change import (
    CHANGES,
    FIRST_NUMBER,
    GROUP,
    NAME_PREFIX,
    NEW,
    OTHER_GROUP,
    Operation,
)
from linklab.scenarios.grouping.interfaces import OnInterfaces
from linklab.scenarios.scenario import (
    GROUPS,
    GUEST,
    Hosts,
    Metrics,
    measured,
    succeeded,
)

if TYPE_CHECKING:
    pass

__all__ = ["Sysfs"]

_GROUP = CHANGES[Operation.GROUP]
_OTHER = replace(NEW, group=OTHER_GROUP)
_SCRIPT = "/tmp/sysfs.sh"
_FILES = f"/sys/class/net/{NAME_PREFIX}*/netdev_group"


class Sysfs(OnInterfaces):
    """See above. A guest has its interfaces for all of its trials."""

    name = "sysfs"
    about = "the group of each interface: read and written in sysfs, and by netlink"
    shape = Shape(
        axes=(
            Axis("operation", ("read", "write"), among=("read", "write")),
            Axis(
                "arm",
                ("sysfs", "netlink"),
                among=("sysfs", "netlink"),
                help="sysfs: a shell that reads or writes each file, without a process for it; "
                "netlink: one list, or a message for each interface",
            ),
            Axis("interfaces", (128, 512, 2048), "interfaces", most=32768, per_guest=True),
        ),
        metrics=(
            Metric("seconds", "s", title="seconds in the guest", short="time"),
            Metric("user_seconds", "s", zero=True, short="user"),
            Metric("system_seconds", "s", zero=True, short="system"),
        ),
        rows="interfaces",
        columns="arm",
        text="{operation} by {arm}, {interfaces} interfaces",
        versus=("sysfs", "netlink"),
    )
    kernels = "sysfs"
    compared: ClassVar = {"operation": ("write",), "arm": ("sysfs",), "interfaces": (512,)}
    judged: ClassVar = {"arm": ("sysfs",), "interfaces": (128,)}
    profiled: ClassVar = {"operation": ("write",), "arm": ("sysfs",), "interfaces": (2048,)}

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have all in the first group, half of them in the other one where they are read."""
        self.links.regroup([GROUP, OTHER_GROUP if cell["operation"] == "read" else GROUP])
        loop = {
            "read": f"for f in {_FILES}; do read g < $f; echo $g; done",
            "write": f"for f in {_FILES}; do echo {OTHER_GROUP} > $f; done",
        }
        hosts[GUEST].write(_SCRIPT, f"set -e\n{loop[str(cell['operation'])]}\n".encode())

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Read or write all."""
        host, reads = hosts[GUEST], cell["operation"] == "read"
        if cell["arm"] == "netlink" and not reads:
            took = self.links.each(_GROUP, host.until(cell))
        else:
            words = ["/bin/sh", _SCRIPT] if cell["arm"] == "sysfs" else [GROUPS, "list"]
            end = host.agent.run(words, host.until(cell))
            took, self.said = succeeded(words[0], end, 1), end.output.decode()
        metrics = measured(took)
        return {name: metrics[name] for name in ("seconds", "user_seconds", "system_seconds")}

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Hold what was read, or what was written, against what netlink says of each interface."""
        if cell["operation"] == "write":
            self.links.check_parts([_OTHER])
            return
        if cell["arm"] == "netlink":  # INDEX NAME group GROUP ...
            rows = [line.split() for line in self.said.splitlines()]
            found = [row[3] for row in rows if row[1].startswith(NAME_PREFIX)]
        else:
            found = self.said.split()
        half = self.links.count // 2
        right = [str(GROUP)] * half + [str(OTHER_GROUP)] * (self.links.count - half)
        for number, (is_, wanted) in enumerate(zip(found, right, strict=False), FIRST_NUMBER):
            if is_ != wanted:
                raise WrongState(f"{NAME_PREFIX}{number} has group {is_} instead of {wanted}")
        if len(found) != len(right):
            raise WrongState(f"{len(found)} groups were read, of {len(right)} interfaces")
        self.links.check_parts([NEW, _OTHER])
