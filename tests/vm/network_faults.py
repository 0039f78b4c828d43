"""Faults of hosts that are guests, of what joins them, and of what is written down of it."""

from __future__ import annotations

import os
import signal

from faults import Fault, Outcome, Scene, fault
from guests import never_ends, soon
from lab_faults import run_beside_full_disk

from linklab.errors import LabError, Verdict
from linklab.lab.guests import GuestNetwork
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import parse
from linklab.machine.spec import Clock
from linklab.scenarios.scenario import Hosts, Running
from linklab.trials.links import check_links

ERROR = Verdict.ERROR
TOGETHER = (Clock.REAL,)  # in virtual time each guest would count its own instructions
_PORT, _EVER = "5001", "600"
_TURNS = 3


def _sends(hosts: Hosts) -> None:
    """Let a send to b, as fast as it goes, for ever."""
    hosts["b"].start([TRAFFIC, "sink", "tcp", _PORT, "1", _EVER], "listening")
    send = ("tcp", hosts["b"].address(), _PORT, "1", "1", _EVER)
    hosts["a"].agent.start_job([TRAFFIC, "send", *send], soon())
    hosts["a"].run(["/bin/sleep", "1"])


@fault("the wire dies", "SIGKILL, while a guest is at work", ERROR, "the wire, ", clocks=TOGETHER)
def wire_killed(scene: Scene) -> None:
    with scene.network("a -- b: 1ms") as joined:
        due = scene.deadline()
        assert joined.wire.pid is not None
        os.kill(joined.wire.pid, signal.SIGKILL)
        never_ends(joined.sessions["a"].agent, due)


@fault("QEMU of a peer is killed", "SIGKILL", ERROR, "guest b: .*signal 9", clocks=TOGETHER)
def peer_killed(scene: Scene) -> None:
    with scene.network("a -- b") as joined:
        due = scene.deadline()
        _kill(joined, "b")
        never_ends(joined.sessions["a"].agent, due)


@fault(
    "a guest is killed that its peer sends to", "SIGKILL, in the middle of a TCP connection",
    ERROR, "guest b: .*signal 9", clocks=TOGETHER,
)  # fmt: skip
def receiver_killed(scene: Scene) -> None:
    with scene.hosts("a -- b: 10mbit") as (joined, hosts):
        _sends(hosts)
        due = scene.deadline()
        _kill(joined, "b")
        never_ends(joined.sessions["a"].agent, due)


def _kill(joined: GuestNetwork, host: str) -> None:
    os.kill(joined.sessions[host].machine.pid, signal.SIGKILL)


@fault(
    "a link is cut that a guest sends over", "both ends lose their carrier", ERROR,
    "link 1, a -- b, was cut: .*no answer to", limit=5.0, clocks=TOGETHER,
)  # fmt: skip
def link_cut(scene: Scene) -> None:
    with scene.hosts("a -- b: 10mbit") as (joined, hosts):
        _sends(hosts)
        due = scene.deadline()
        joined.pull(0)
        Running(hosts["a"], TRAFFIC, due).end()


@fault(
    "a kernel lacks the driver of an interface", "no module, nothing built in", ERROR,
    "host a has no interface .*has its kernel the driver", limit=60.0, clocks=TOGETHER,
)  # fmt: skip
def driver_missing(scene: Scene) -> None:
    scene.deadline()
    with scene.hosts("a -- b"):
        pass


@fault(
    "a link is out of tolerance", "10 Mbit/s where 20 are wanted", ERROR,
    r"link 1, a -- b: .* Mbit/s were measured, not 20", limit=60.0, clocks=TOGETHER,
)  # fmt: skip
def link_wrong(scene: Scene) -> None:
    with scene.hosts("a -- b: 10mbit 5ms") as (_, hosts):
        for turn in range(1, _TURNS + 1):
            scene.deadline()
            try:
                check_links(parse("a -- b: 20mbit 5ms"), hosts)
            except LabError as error:
                # What comes later than it is waited for is lost, and a host that stalls makes it.
                if "Mbit/s" in error.message or turn == _TURNS:
                    raise
            else:
                return


@fault(
    "the disk is full that a link is captured on", "a tmpfs of 12 MB", ERROR,
    r"link-001-\S+-1.pcap: No space left on device", limit=400.0, clocks=TOGETHER,
)  # fmt: skip
def capture_full(scene: Scene) -> Outcome:
    words = (
        *("--scenario", "congestion", "--axis", "arm=cubic", "--repeat", "20", "--leaks", "none"),
        *("--param", "topology=a -- b: 10mbit 5ms", "--param", "seconds=2"),
        *("--place", "guests", "--capture", "--output"),
    )
    for turn in range(_TURNS):
        results = scene.folder / f"results-{turn}"
        results.mkdir()
        outcome, document = run_beside_full_disk(scene, results, "12m", *words, f"{results}/run")
        if document["samples"]:
            return outcome
        # A host that is too busy for the link to be what it should be gets no trial done.
    raise AssertionError(f"nothing of what was measured is kept: {outcome.message}")


NETWORK_FAULTS: tuple[Fault, ...] = (
    wire_killed,
    peer_killed,
    receiver_killed,
    link_cut,
    link_wrong,
    capture_full,
)
