"""Which scheduler: an address, a scheduler's file, or workers of this host's own."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from linklab.errors import LabError, UsageError
from linklab.host.run import start
from linklab.paths import ROOT

if TYPE_CHECKING:
    from distributed import Client

RESOURCE = "linklab-host"
"""Dask's resource of a worker that does one part in real time at a time."""

CERTIFICATES = "LINKLAB_FLEET_CERTIFICATES"
"""The variable that names the folder with ca.pem, cert.pem and key.pem."""

_LOCAL = "local:"
_MOST_LOCAL = 256
_CONNECT = 30.0  # s


def check_address(address: str, *, insecure: bool) -> None:
    """Raise `UsageError` for what is no address of a scheduler, or open to others."""
    if address.startswith(_LOCAL):
        number = address.removeprefix(_LOCAL)
        if not number.isdecimal() or not 1 <= int(number) <= _MOST_LOCAL:
            raise UsageError(f"--fleet {address}: a number of workers from 1 to {_MOST_LOCAL}")
        return
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--fleet {address}: {error}") from error
    if parts.scheme not in {"tcp", "tls"}:
        if not Path(address).is_file():
            raise UsageError(
                f"--fleet {address}: tls://HOST:PORT, a scheduler's file, or local:N is expected"
            )
        return
    if parts.scheme == "tcp" and not insecure and not _is_loopback(host or ""):
        raise UsageError(
            f"--fleet {address}: whoever reaches such a scheduler runs programs on its workers: "
            "use tls:// (`invoke fleet --make-certificates DIR` makes what it takes), or say "
            "--insecure"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def security(folder: str = "") -> Any:
    """Return what Dask needs for TLS, or None where no certificates are named."""
    where = Path(folder or os.environ.get(CERTIFICATES, "")).expanduser()
    if where == Path():
        return None
    from distributed.security import Security

    paths = {name: str(where / f"{name}.pem") for name in ("ca", "cert", "key")}
    if lost := [path for path in paths.values() if not Path(path).is_file()]:
        raise UsageError(f"{CERTIFICATES}: there is no {lost[0]}")
    return Security(
        tls_ca_file=paths["ca"],
        tls_client_cert=paths["cert"],
        tls_client_key=paths["key"],
        tls_worker_cert=paths["cert"],
        tls_worker_key=paths["key"],
        tls_scheduler_cert=paths["cert"],
        tls_scheduler_key=paths["key"],
        require_encryption=True,
    )


def connected(address: str, *, insecure: bool = False) -> Client:
    """Return a client of a scheduler; for `local:N` of one with workers of its own.

    Raises `LabError` where Dask is not installed, or nobody answers.
    """
    check_address(address, insecure=insecure)
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise LabError(
            "a fleet needs Dask's distributed: `pip install -e '.[fleet]'` in the checkout"
        ) from error
    if address.startswith(_LOCAL):
        cluster = LocalCluster(n_workers=0, dashboard_address=None, silence_logs=40)
        wanted = int(address.removeprefix(_LOCAL))
        for _ in range(wanted):
            start(worker_argv(cluster.scheduler_address), cwd=ROOT)
        client = Client(cluster)
        client.wait_for_workers(wanted, timeout=_CONNECT + wanted)
        return client
    is_file = urlsplit(address).scheme not in {"tcp", "tls"}
    named = {"scheduler_file": address} if is_file else {"address": address}
    try:
        return Client(**named, security=security(), timeout=_CONNECT)
    except (OSError, TimeoutError) as error:
        raise LabError(f"--fleet {address}: no scheduler answers there: {error}") from error


def worker_argv(address: str, threads: int = 1) -> list[str]:
    """Return the command of a worker of this host."""
    return [
        *(sys.executable, "-m", "distributed.cli.dask_worker", address),
        *("--nthreads", str(threads), "--no-dashboard", "--no-nanny"),
        *("--resources", f"{RESOURCE}=1", "--death-timeout", "60"),
    ]
