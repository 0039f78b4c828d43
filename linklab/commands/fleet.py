"""Many hosts: `--fleet`, `invoke fleet` and `invoke worker`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.exit_status import print_document, print_shown
from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.options import JSON, option, word
from linklab.report.progress import progress

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from rich.table import Table

    from linklab.fleet.submitter import Fleet
    from linklab.host.cache import Cache

_INSECURE = "take a scheduler that anybody may use who reaches it"


@dataclass(frozen=True)
class FleetOptions:
    """The options that say whose hosts do the trials, as typed."""

    address: str = option(
        "",
        "a Dask scheduler whose workers do the trials: tls://HOST:PORT, a scheduler's file, or "
        "local:N for N workers on this host",
        "fleet",
    )
    insecure: bool = option(False, _INSECURE)

    def check(self, *, keeps: bool = False) -> None:
        """Raise `UsageError` for what is no scheduler, and for what takes a guest of this host."""
        if self.address:
            from linklab.fleet.address import check_address

            check_address(self.address, insecure=self.insecure)
            if keeps:
                raise UsageError(
                    "--keep looks at a guest of this host: it does not go with --fleet"
                )
        elif self.insecure:
            raise UsageError("--insecure is said of a fleet: name it with --fleet")

    @contextmanager
    def joined(self, cache: Cache, listener: Listener) -> Iterator[Fleet | None]:
        """Yield the fleet, if there is one, which builds what the cache lacks."""
        if not self.address:
            yield None
            return
        from linklab.fleet.submitter import Fleet

        with Fleet(self.address, self.insecure, listener) as fleet:
            cache.elsewhere = fleet.build
            yield fleet
            hosts = ", ".join(f"{host} {len(logs)}" for host, logs in fleet.measured.items())
            listener(Note(f"guests that each host ran: {hosts or 'none'}"))


@dataclass(frozen=True)
class ShowOptions:
    """The options of `invoke fleet`, as typed."""

    where: str = word("the scheduler, as --fleet takes it; with --make-certificates a new folder")
    insecure: bool = option(False, _INSECURE)
    make_certificates: bool = option(
        False, "make certificates, with which only this fleet's hosts talk to each other"
    )
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class WorkerOptions:
    """The options of `invoke worker`, as typed."""

    address: str = word("the scheduler: tls://HOST:PORT, or a scheduler's file")
    insecure: bool = option(False, _INSECURE)


def show(options: ShowOptions) -> None:
    """Print the workers of a fleet: what each host is, has, and does."""
    from linklab.fleet.address import CERTIFICATES, check_address

    if options.make_certificates:
        from linklab.fleet.certificates import make_certificates

        make_certificates(Path(options.where).expanduser())
        print(f"{options.where}: bring it to each host, and let {CERTIFICATES} name it there")
        return
    check_address(options.where, insecure=options.insecure)
    from linklab.fleet.submitter import Fleet

    with progress() as listener, Fleet(options.where, options.insecure, listener) as fleet:
        hosts = fleet.hosts()
        doing = fleet.client.processing()
    rows = [
        {**asdict(host), "worker": worker, "doing": len(doing.get(worker, ()))}
        for worker, host in sorted(hosts.items(), key=lambda each: (each[1].name, each[0]))
    ]
    if options.as_json:
        print_document(rows)
        return
    print_shown(_table(rows))
    for why in sorted({f"{row['name']}: no KVM: {row['kvm']}" for row in rows if row["kvm"]}):
        print(why)


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("host", "worker", "cores", "MiB", "KVM", "QEMU", "linklab", "kernels", "doing"):
        is_number = title in {"cores", "MiB", "kernels", "doing"}
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        kvm, kernels = "no" if row["kvm"] else "yes", len(row["kernels"])
        cells = (row["name"], row["worker"], row["cores"], row["memory"], kvm, row["qemu"])
        table.add_row(*map(escape, map(str, (*cells, row["linklab"], kernels, row["doing"]))))
    return table


def work(options: WorkerOptions) -> None:
    """Be a worker of a scheduler until one of the two ends."""
    from linklab.fleet.address import check_address, worker_argv
    from linklab.host.cpus import own_cores

    check_address(options.address, insecure=options.insecure)
    argv = worker_argv(options.address, threads=len(own_cores()))
    os.execv(argv[0], argv)
