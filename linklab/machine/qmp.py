"""QEMU's control port, for the little that the lab needs: save, resume, look in, pull a cable."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from linklab.errors import LabError

T = TypeVar("T")

_MIGRATION_POLL = 0.002  # s
_ANSWER_LIMIT = 10.0  # s for QEMU to answer what takes no time
_HANDS = 5  # turns of asyncio's loop from a line in its buffer to its listener, and to spare
_HEARING = 0.2  # s at most to read an event that has begun to arrive
# The guest's memory is a file that both sides map; only the devices' state travels.
_CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}]


class Control:
    """Our end of QEMU's control port, connected when it is first used.

    In virtual time a machine stops itself when its agent has spoken, and goes
    on when it is told to: `is_stopped`, `fileno` and `hear` are for who waits
    for the first, `go_on` is the second.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._stops: Any = None
        self._is_stopped = False

    def fileno(self) -> int:
        """Return the descriptor to wait on for what QEMU says unasked."""
        return self._socket.fileno()

    @property
    def is_stopped(self) -> bool:
        """Whether the machine stopped, by all that was heard of it."""
        if self._client is None:
            self.talk(self._ask_status, _ANSWER_LIMIT, "say what its machine does")
        if self._stops.empty() and self._loop is not None:
            # The event may have been read off the socket at the end of the last talk, and
            # not been looked at: the descriptor stays silent then.
            self._loop.run_until_complete(_take_what_was_read())
        if not self._stops.empty():
            self._stops.clear()
            self._is_stopped = True
        return self._is_stopped

    async def _ask_status(self, client: Any) -> None:
        # Who is not connected yet was not told that it stopped.
        self._is_stopped = not (await client.execute("query-status"))["running"]

    def hear(self) -> None:
        """Take what QEMU says, where something is there to be read. Raises `LabError`."""

        async def listen(_client: Any) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARING):
                    await self._stops.get()
                    self._is_stopped = True

        self.talk(listen, _ANSWER_LIMIT, "say what its machine does")

    def go_on(self, limit: float) -> None:
        """Let a machine that stopped go on. Raises `LabError`."""
        self._is_stopped = False

        async def ask(client: Any) -> None:
            await client.execute("cont")

        self.talk(ask, max(limit, _HEARING), "let the machine go on")

    def resumed_stopped(self) -> None:
        """Note that the machine took up a state in which it had stopped: QEMU does not say so."""
        self._is_stopped = True

    def talk(self, what: Callable[[Any], Awaitable[T]], limit: float, wish: str) -> T:
        """Do something with QEMU's client; `wish` is the end of "QEMU did not ..."."""
        # Imported here: it takes 60 ms, which the guest's start hides.
        from qemu.qmp import QMPError

        async def session() -> T:
            async with asyncio.timeout(limit):
                return await what(await self._connected())

        self._loop = self._loop or asyncio.new_event_loop()
        try:
            return self._loop.run_until_complete(session())
        except TimeoutError:
            raise LabError(f"QEMU did not {wish} within {limit:.0f} s") from None
        except (QMPError, EOFError, OSError, AssertionError) as error:
            # A QEMU that ends while it greets: qemu.qmp asserts that it does not.
            raise LabError(f"QEMU did not {wish}: {error or 'it ended'}") from error

    async def _connected(self) -> Any:
        if self._client is None:
            from qemu.qmp import EventListener, QMPClient

            client = QMPClient("linklab")
            self._stops = EventListener("STOP")
            client.register_listener(self._stops)
            await client.connect(self._socket.dup())
            self._client = client
        return self._client

    def close(self) -> None:
        """Give the port back."""
        if self._loop is not None:
            if self._client is not None:
                with suppress(Exception):  # QEMU may be gone, and that is what it says
                    self._loop.run_until_complete(self._client.disconnect())
            # What a connection that never came about has left would complain of its end.
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left))
            self._loop.close()
        self._socket.close()


async def _take_what_was_read() -> None:
    """Let qemu.qmp's tasks hand on what lies in asyncio's buffers: from reader to listener."""
    for _ in range(_HANDS):
        await asyncio.sleep(0)


def save_state(control: Control, uri: str, limit: float) -> None:
    """Write the machine's state, without its memory, to a migration URI; it stops then.

    Raises `LabError` when QEMU cannot, or not within `limit` seconds.
    """
    control.talk(lambda client: _migrate(client, "migrate", uri), limit, "save its state")


def load_state(control: Control, uri: str, limit: float) -> None:
    """Read the machine's state from a migration URI; the guest runs on then.

    Raises `LabError` when QEMU cannot, or not within `limit` seconds.
    """
    control.talk(
        lambda client: _migrate(client, "migrate-incoming", uri),
        limit,
        "take up its state",
    )


def registers(control: Control, limit: float) -> str:
    """Return every CPU's registers, as QEMU's monitor prints them. Raises `LabError`."""
    words = {"command-line": "info registers -a"}

    async def ask(client: Any) -> str:
        return str(await client.execute("human-monitor-command", words))

    return control.talk(ask, limit, "show its registers")


def send_break(control: Control, port: str, limit: float) -> None:
    """Send a BREAK to a serial port of the guest. Raises `LabError`."""

    async def ask(client: Any) -> None:
        await client.execute("chardev-send-break", {"id": port})

    control.talk(ask, limit, "send a BREAK")


def set_carrier(control: Control, nic: str, *, up: bool, limit: float) -> None:
    """Plug a network interface's cable in, or pull it. Raises `LabError`."""

    async def ask(client: Any) -> None:
        await client.execute("set_link", {"name": nic, "up": up})

    control.talk(ask, limit, "set the carrier of a network interface")


def kvm_exits(control: Control, limit: float) -> int:
    """Return how often KVM left the guest so far, by all its CPUs. Raises `LabError`.

    The kernel's own count (`exits` of kvm_vcpu_stats_desc in its arch/x86/kvm/x86.c), which
    QEMU hands on since 7.1.
    """
    wanted = {"target": "vcpu", "providers": [{"provider": "kvm", "names": ["exits"]}]}

    async def ask(client: Any) -> int:
        found = await client.execute("query-stats", wanted)
        return sum(int(each["value"]) for cpu in found for each in cpu["stats"])

    return control.talk(ask, limit, "count KVM's exits")


def let_gdb_in(control: Control, where: Path, limit: float) -> None:
    """Let QEMU listen for gdb at a unix socket. Raises `LabError`."""
    words = {"command-line": f"gdbserver unix:{where},server=on,wait=off"}

    async def ask(client: Any) -> None:
        await client.execute("human-monitor-command", words)

    control.talk(ask, limit, "listen for gdb")


async def _migrate(client: Any, command: str, uri: str) -> None:
    await client.execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES})
    # A guest that goes on is where it was: nobody need be told by a frame of QEMU's own.
    await client.execute("migrate-set-parameters", {"announce-rounds": 0})
    await client.execute(command, {"uri": uri})
    while True:
        status = (await client.execute("query-migrate")).get("status")
        if status == "completed":
            return
        if status in {"failed", "cancelled"}:
            raise LabError("QEMU's migration failed")
        await asyncio.sleep(_MIGRATION_POLL)
