"""inherit: links that are stacked on members of a group join it, as they appear.

The 2011 paper's example is a PPP server whose interface is in group 42, and a thousand
interfaces on top of it that should be, too. In the kernel nothing inherits a group: a
daemon that listens does it, or a shell that looks every so often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from linklab.errors import WrongState
from linklab.numbers import seconds_text
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.grouping.change import GROUP
from linklab.scenarios.scenario import (
    GROUPS,
    GUEST,
    Claim,
    Finding,
    Hosts,
    Metrics,
    Parameter,
    Running,
    Scenario,
    measured,
)

__all__ = ["Inherit"]

_FOLDER = "/usr/lib/linklab"
_BATCH, _RULES, _STATE = "/tmp/links", "/tmp/rules", "/tmp/seen"
_MEMBERS = 10  # that links are stacked on
_LINK_KIB = 80
_FACTOR = 2.0  # times what making the links takes: those who inherit are no matter then


class Inherit(Scenario):
    """See above. Each trial makes the members and the links anew."""

    name = "inherit"
    about = "vlans and macvlans on members of a group: how long until all are in the group"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ("loop", "daemon", "nobody"),
                among=("daemon", "loop", "nobody"),
                help="daemon: `linklab-group inherit`; loop: a shell that looks every so often, "
                "with an `ip` for each link; nobody: they are only made",
            ),
            Axis("stacked", (100, 300, 1000), "links", least=2, most=20_000),
        ),
        metrics=(
            Metric(
                "seconds", "s", title="seconds in the guest until all have the group", short="time"
            ),
            Metric("user_seconds", "s", zero=True, short="user of who makes them"),
            Metric("system_seconds", "s", zero=True, short="system of who makes them"),
        ),
        rows="stacked",
        columns="arm",
        text="{arm}, {stacked} links",
        versus=("loop", "daemon"),
    )
    parameters = (Parameter("pause", 1.0, "s that the loop sleeps after each look", 0.01, 60),)
    kernels = "sysfs"
    fragment = IMAGES / "inherit" / "kernel.config"
    needs = IMAGES / "inherit" / "needs.toml"
    image = IMAGES / "inherit"
    compared: ClassVar = {"arm": ("daemon",), "stacked": (300,)}
    judged: ClassVar = {"arm": ("daemon",), "stacked": (100,)}
    profiled: ClassVar = {"arm": ("daemon",), "stacked": (1000,)}

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for so many links."""
        return 160 + int(cell["stacked"]) * _LINK_KIB // 1024

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for so many processes, or for a step of upkeep."""
        return 60 + float(cell.get("stacked", 0)) * 0.2 * (5 if emulated else 1)

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """A process for each takes some fifty times as long as a message."""
        count = int(cell.get("stacked", 0))
        return 50 + (count if cell.get("arm") == "loop" else count // 5)

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        from linklab.agent import links  # noqa: F401

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Write the rule."""
        rule = f"on {GROUP} kind vlan,macvlan join {GROUP}\n"
        hosts[GUEST].write(_RULES, rule.encode())
        self.others = self._counted(hosts)[0]
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have the members alone, and what is to be made on them written down."""
        self.tear_down(hosts)
        host = hosts[GUEST]
        host.write_batch(f"link add m{n} group {GROUP} type dummy" for n in range(_MEMBERS))
        host.ip_batch()
        host.write(_BATCH, "".join(f"{line}\n" for line in _made(int(cell["stacked"]))).encode())

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Make the links while somebody watches, and wait until all are in the group."""
        host, count = hosts[GUEST], int(cell["stacked"])
        commands = {
            "daemon": [GROUPS, "inherit", _RULES, "state", _STATE],
            "loop": [f"{_FOLDER}/poll-groups", str(GROUP), str(self.given["pause"])],
        }
        command = commands.get(str(cell["arm"]))
        running: Running | None = host.start(command, "ready", cell) if command else None
        wanted = _MEMBERS + (count if running else 0)
        words = [f"{_FOLDER}/until-joined", _BATCH, str(GROUP), str(wanted)]
        metrics = measured(host.run(words, cell))
        if running and cell["arm"] == "daemon":
            running.finish()
        elif running:
            running.stop()
        return {name: metrics[name] for name in ("seconds", "user_seconds", "system_seconds")}

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Count all links of the guest by their group."""
        others, ours = self._counted(hosts)
        count = int(cell["stacked"])
        joined = 0 if cell["arm"] == "nobody" else count
        if (others - self.others, ours) != (count - joined, _MEMBERS + joined):
            raise WrongState(
                f"{ours} links are in group {GROUP}, {others - self.others} new ones in none: "
                f"{_MEMBERS + joined} and {count - joined} should be"
            )

    def tear_down(self, hosts: Hosts) -> None:
        """Delete the members, and with them what is stacked on them."""
        from linklab.agent.links import group_delete

        if self._counted(hosts)[1]:
            hosts[GUEST].agent.netlink([group_delete(GROUP)], hosts[GUEST].until())

    def _counted(self, hosts: Hosts) -> tuple[int, int]:
        """Return how many links are in no group, and how many in ours."""
        from linklab.agent.links import IFLA_GROUP, dump_links, message_of

        counts = {0: 0, GROUP: 0}
        for run in dump_links(hosts[GUEST].agent, [IFLA_GROUP], hosts[GUEST].until()):
            counts[message_of(run).get_attr("IFLA_GROUP")] += run.length
        return counts[0], counts[GROUP]

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the paper says of inheritance, with our figures."""
        from linklab.results.figures import Figures

        figures = Figures(run)
        text = "a group that is inherited has its members without anybody's setting it"
        theirs = "a wish: interfaces implicitly created in group 42 (section VII)"
        most = max((int(sample.cell["stacked"]) for sample in run.samples), default=0)
        by_arm = {
            arm: figures.by_kernel(Cell({"arm": arm, "stacked": most}))
            for arm in ("daemon", "nobody")
        }
        both = {
            name: (joined, by_arm["nobody"][name])
            for name, joined in by_arm["daemon"].items()
            if name in by_arm["nobody"]
        }
        if not both:
            return [Claim.unmeasured(text, theirs, "needs the arms daemon and nobody")]
        ours = "; ".join(
            f"{name}: {most} links are made in {seconds_text(made)} s, and in the group after "
            f"{seconds_text(joined)} s"
            for name, (joined, made) in both.items()
        )
        holds = [joined / made < _FACTOR for joined, made in both.values()]
        return [Claim(text, theirs, ours, Finding.of(holds), "by a daemon, not by the kernel")]


def _made(count: int) -> Iterator[str]:
    """Yield what `ip` is told: vlans and macvlans in turns, spread over the members."""
    for number in range(count):
        kind = f"type vlan id {1 + number // _MEMBERS % 4094}" if number % 2 else "type macvlan"
        yield f"link add link m{number % _MEMBERS} name x{number} {kind}"
