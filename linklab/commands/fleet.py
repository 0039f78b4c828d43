"""Many hosts: `--fleet`, `invoke fleet` and `invoke worker`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.fleet.address import check_address
from linklab.lab.lab import Lab
from linklab.options import option


@dataclass(frozen=True)
class FleetOptions:
    """The options that say whose hosts do the trials, as typed."""

    address: str = option(
        "",
        "a Dask scheduler whose workers do the trials: tls://HOST:PORT, a scheduler's file, or "
        "local:N for N workers on this host",
        "fleet",
    )
    insecure: bool = option(
        False, "with --fleet, take a scheduler that anybody may use who reaches it"
    )

    def check(self, *, keeps: bool = False) -> None:
        """Raise `UsageError` for what is no scheduler, and for what takes a guest of this host."""
        if self.address:
            check_address(self.address, insecure=self.insecure)
            if keeps:
                raise UsageError(
                    "--keep looks at a guest of this host: it does not go with --fleet"
                )
        elif self.insecure:
            raise UsageError("--insecure is said of a fleet: name it with --fleet")

    @contextmanager
    def joined(self, lab: Lab, listener: Listener) -> Iterator[Lab]:
        """Yield a lab whose batches the fleet does, if there is one."""
        if not self.address:
            yield lab
            return
        from linklab.fleet.submitter import Fleet

        with Fleet(self.address, self.insecure, listener) as fleet:
            yield replace(lab, fleet=fleet)
            parts = ", ".join(f"{host} {number}" for host, number in fleet.measured.items())
            listener(Note(f"parts of the work that each host did: {parts or 'none'}"))
