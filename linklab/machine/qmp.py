"""QEMU's control port, for the little that the lab needs of it: save, resume, look inside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from linklab.errors import LabError

T = TypeVar("T")

_MIGRATION_POLL = 0.002  # s
# The guest's memory is a file that both sides map; only the devices' state travels.
_CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}]


class Control:
    """Our end of QEMU's control port. QEMU greets once, and we talk to it more than once."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._greeted = False

    async def connected(self, client: Any) -> None:
        """Connect a client, which closes what it was given."""
        client.await_greeting = client.negotiate = not self._greeted
        self._greeted = True
        await client.connect(self._socket.dup())

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def save_state(control: Control, uri: str, limit: float) -> None:
    """Write the machine's state, without its memory, to a migration URI; it stops then.

    Raises `LabError` when QEMU cannot, or not within `limit` seconds.
    """
    _talk(control, lambda client: _migrate(client, "migrate", uri), limit, "save its state")


def load_state(control: Control, uri: str, limit: float) -> None:
    """Read the machine's state from a migration URI; the guest runs on then.

    Raises `LabError` when QEMU cannot, or not within `limit` seconds.
    """
    _talk(
        control,
        lambda client: _migrate(client, "migrate-incoming", uri),
        limit,
        "take up its state",
    )


def registers(control: Control, limit: float) -> str:
    """Return every CPU's registers, as QEMU's monitor prints them. Raises `LabError`."""
    words = {"command-line": "info registers -a"}

    async def ask(client: Any) -> str:
        return str(await client.execute("human-monitor-command", words))

    return _talk(control, ask, limit, "show its registers")


def send_break(control: Control, port: str, limit: float) -> None:
    """Send a BREAK to a serial port of the guest. Raises `LabError`."""

    async def ask(client: Any) -> None:
        await client.execute("chardev-send-break", {"id": port})

    _talk(control, ask, limit, "send a BREAK")


def let_gdb_in(control: Control, where: Path, limit: float) -> None:
    """Let QEMU listen for gdb at a unix socket. Raises `LabError`."""
    words = {"command-line": f"gdbserver unix:{where},server=on,wait=off"}

    async def ask(client: Any) -> None:
        await client.execute("human-monitor-command", words)

    _talk(control, ask, limit, "listen for gdb")


async def _migrate(client: Any, command: str, uri: str) -> None:
    await client.execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES})
    await client.execute(command, {"uri": uri})
    while True:
        status = (await client.execute("query-migrate")).get("status")
        if status == "completed":
            return
        if status in {"failed", "cancelled"}:
            raise LabError("QEMU's migration failed")
        await asyncio.sleep(_MIGRATION_POLL)


def _talk(control: Control, what: Callable[[Any], Awaitable[T]], limit: float, wish: str) -> T:
    # Imported here: it takes 60 ms, which the guest's start hides.
    from qemu.qmp import QMPClient, QMPError

    async def session() -> T:
        client = QMPClient("linklab")
        async with asyncio.timeout(limit):
            await control.connected(client)
            try:
                return await what(client)
            finally:
                await client.disconnect()

    try:
        return asyncio.run(session())
    except TimeoutError:
        raise LabError(f"QEMU did not {wish} within {limit:.0f} s") from None
    except (QMPError, EOFError, OSError) as error:
        raise LabError(f"QEMU did not {wish}: {error}") from error
