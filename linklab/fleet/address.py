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
"""The variable that names the folder with the certificates, `FILES`."""

FILES = {"tls-ca-file": "ca.pem", "tls-cert": "cert.pem", "tls-key": "key.pem"}
"""What a folder of certificates holds, by the options of Dask's programs."""

_LOCAL = "local:"
_MOST_LOCAL = 256
_CONNECT = 30.0  # s


def check_address(address: str, *, insecure: bool) -> None:
    """Raise `UsageError` for what is no address of a scheduler, or open to others."""
    if is_local(address):
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


def is_local(address: str) -> bool:
    """Whether the workers are this host's own, started with the command."""
    return address.startswith(_LOCAL)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def certificates() -> dict[str, str]:
    """Return the paths of what TLS takes, as Dask's programs call them; none where none are named.

    Raises `UsageError` where one is missing.
    """
    named = os.environ.get(CERTIFICATES, "")
    if not named:
        return {}
    folder = Path(named).expanduser()
    found = {name: str(folder / file) for name, file in FILES.items()}
    if lost := [path for path in found.values() if not Path(path).is_file()]:
        raise UsageError(f"{CERTIFICATES}={named}: there is no {lost[0]}")
    return found


def _security() -> Any:
    """Return what Dask needs for TLS, or None where no certificates are named."""
    from distributed.security import Security

    found = certificates()
    if not found:
        return None
    pair = {"cert": found["tls-cert"], "key": found["tls-key"]}
    roles = ("client", "worker", "scheduler")
    ends = {f"tls_{role}_{name}": path for role in roles for name, path in pair.items()}
    return Security(tls_ca_file=found["tls-ca-file"], require_encryption=True, **ends)


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
    if is_local(address):
        cluster = LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=40)
        wanted = int(address.removeprefix(_LOCAL))
        for _ in range(wanted):
            start(worker_argv(cluster.scheduler_address), cwd=ROOT)
        client = Client(cluster)
        client.wait_for_workers(wanted, timeout=_CONNECT + wanted)
        return client
    is_file = urlsplit(address).scheme not in {"tcp", "tls"}
    named = {"scheduler_file": address} if is_file else {"address": address}
    try:
        return Client(**named, security=_security(), timeout=_CONNECT)
    except (OSError, TimeoutError) as error:
        raise LabError(f"--fleet {address}: no scheduler answers there: {error}") from error
    except TypeError as error:  # what Dask makes of TLS without certificates
        raise UsageError(
            f"--fleet {address}: TLS takes certificates: let {CERTIFICATES} name the folder that "
            "`invoke fleet --make-certificates` made"
        ) from error


def worker_argv(address: str, threads: int = 1) -> list[str]:
    """Return the command of a worker of this host, which does so many parts at a time."""
    tls = certificates() if address.startswith("tls:") else {}
    return [
        *(sys.executable, "-m", "distributed.cli.dask_worker", address),
        *("--nthreads", str(threads), "--no-dashboard", "--no-nanny"),
        *("--resources", f"{RESOURCE}=1", "--death-timeout", "60"),
        *(word for name, path in tls.items() for word in (f"--{name}", path)),
    ]
