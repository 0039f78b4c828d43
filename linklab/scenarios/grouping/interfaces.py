"""What scenarios share that do something else to interfaces made as `grouping` makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from linklab.results.shape import Cell
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.grouping.change import NEW
from linklab.scenarios.scenario import GUEST, Hosts, Metrics, Scenario

if TYPE_CHECKING:
    from linklab.scenarios.grouping.links import Links


class OnInterfaces(Scenario):
    """So many dummies in one guest, for each set-up by their number: `links`."""

    needs = Grouping.needs
    memory = Grouping.memory
    limit = Grouping.limit
    load = Grouping.load

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Make the interfaces."""
        from linklab.scenarios.grouping.links import Links

        self.links: Links = Links(hosts[GUEST], int(setup["interfaces"]))
        self.links.bring_to(NEW)
        return ()
