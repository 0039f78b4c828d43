"""Faults of hosts that are guests, of what joins them, and of what is written down of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from faults import Fault, Outcome, Scene, fault
from guests import INVOKE, never_ends, soon
from lab_faults import run_beside_full_disk

from linklab.errors import LabError, Verdict
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.guests import GuestNetwork
from linklab.lab.lab import host_memory_available
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import parse
from linklab.machine.spec import Clock
from linklab.paths import ROOT
from linklab.scenarios.scenario import Hosts, Running
from linklab.trials.links import check_links

ERROR, USAGE = Verdict.ERROR, Verdict.USAGE
GUESTS = ("--scenario", "aliases", "--place", "guests")
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
        Running(hosts["a"], TRAFFIC, due, 0).end()


@fault(
    "a kernel lacks the driver of an interface", "no module, nothing built in", ERROR,
    "host a has no interface .*--nic virtio takes .*CONFIG_VIRTIO_NET", limit=60.0, clocks=TOGETHER,
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


@fault(
    "the disk is full that a guest captures its links on", "a tmpfs of 12 MB", ERROR,
    r"link-001-\S+-1.pcap: No space left on device", limit=400.0, clocks=TOGETHER,
)  # fmt: skip
def own_capture_full(scene: Scene) -> Outcome:
    words = (
        *("--scenario", "congestion", "--axis", "arm=cubic", "--repeat", "20", "--leaks", "none"),
        *("--param", "topology=a -- b: 10mbit 5ms", "--param", "seconds=2", "--capture"),
    )
    results = scene.folder / "results"
    results.mkdir()
    outcome, document = run_beside_full_disk(
        scene, results, "12m", *words, "--output", f"{results}/run"
    )
    assert document["samples"], "what was measured is kept"
    return outcome


@fault(
    "a link is dark that a scenario waits for", "in one guest, by the scenario", ERROR,
    "link 1, a -- b, was cut: .*no answer to", limit=400.0, clocks=TOGETHER,
)  # fmt: skip
def link_dark(scene: Scene) -> Outcome:
    own = str(Path(__file__).with_name("cut_scenario.py"))
    return _typed(scene, "--scenario", own, "--axis", "arm=dark", "--param", "waits=1")


@fault(
    "a kernel without a config lacks the driver of an interface", "its bzImage alone", ERROR,
    "host a has no interface .*--nic e1000 takes CONFIG_E1000", limit=400.0, clocks=TOGETHER,
)  # fmt: skip
def driver_unknown(scene: Scene) -> Outcome:
    kernel, _ = _plain_kernel(scene)
    return _typed(scene, *GUESTS, "--nic", "e1000", "--kernel", str(kernel))


@fault(
    "a kernel lacks the driver that --nic wants", "its config beside it says so", USAGE,
    "CONFIG_E1000, which is neither built in nor a module: --nic e1000", limit=60.0,
    clocks=TOGETHER,
)  # fmt: skip
def driver_refused(scene: Scene) -> Outcome:
    kernel, config = _plain_kernel(scene)
    shutil.copy(config, kernel.with_name(f"config-{scene.subject.release}"))
    return _typed(scene, *GUESTS, "--nic", "e1000", "--kernel", str(kernel))


def _plain_kernel(scene: Scene) -> tuple[Path, Path]:
    """Return a kernel that the lab does not know as its own, and its config elsewhere."""
    built = resolve_kernel("nosysfs", BuildOptions(), Cache(), ignore)
    assert built.config is not None
    return Path(shutil.copy(built.bzimage, scene.folder / "bzImage")), built.config


def _typed(scene: Scene, *words: str) -> Outcome:
    """Type `invoke run`; return what the lab made of it. What is refused leaves nothing behind."""
    results = scene.folder / "run"
    argv = [INVOKE, "run", "--json", "--leaks", "none", "--output", str(results), *words]
    if "--kernel" not in words:
        argv += ["--kernel", scene.subject.name]
    scene.deadline()
    began = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    about = document.get("run", document)
    verdict = Verdict(about["verdict"])
    assert verdict.status == done.returncode
    assert results.exists() == (verdict is not USAGE)
    return Outcome(verdict, about["message"], seconds)


def _refused(name: str, how: str, says: str, *words: str) -> Fault:
    """Return the fault of a wrong option: it is said before anything is started."""
    return Fault(name, how, USAGE, says, 30.0, lambda scene: _typed(scene, *words), TOGETHER)


_HALF = str((host_memory_available() or 1024) // 2)
_NETWORK = ("--scenario", "congestion", "--param")
REFUSED = (
    _refused(
        "an interface for a host that is not there", "`--nic c=e1000`",
        "there is no host c; hosts are a, b", *GUESTS, "--nic", "c=e1000",
    ),
    _refused(
        "a kernel for a host that is not there", "`--kernel c=sysfs`",
        "there is no host c; hosts are a, b", *GUESTS, "--kernel", "nosysfs,c=sysfs",
    ),
    _refused(
        "a host without a kernel", "`--kernel a=nosysfs`",
        "host b has none", *GUESTS, "--kernel", "a=nosysfs",
    ),
    _refused(
        "an interface that nobody emulates", "`--nic e1001`",
        "--nic e1001: unknown; valid are virtio, e1000", *GUESTS, "--nic", "e1001",
    ),
    _refused(
        "guests in virtual time", "`--clock virtual`",
        "each guest would count its own instructions", *GUESTS, "--clock", "virtual",
    ),
    _refused(
        "a rate that is no rate", "`10mb`",
        "a rate .* is expected", *_NETWORK, "topology=a -- b: 10mb",
    ),
    _refused(
        "unlike values there and back", "`10mbit/2ms`",
        "unlike values there and back", *_NETWORK, "topology=a -- b: 10mbit/2ms",
    ),
    _refused(
        "ends that are none of the scenario's", "`x -- y`",
        "two hosts and one link between them are expected",
        "--scenario", "aliases", "--param", "topology=x -- y",
    ),
    _refused(
        "more guests than memory", "12 of half of what there is",
        "12 hosts need .* MiB each, this host has", "--place", "guests", *_NETWORK,
        "topology=a -- b[10]: 10mbit", "--memory", _HALF,
    ),
    _refused(
        "more hosts in a guest than memory", "400 in 512 MiB",
        "with 402 hosts in a guest, need .* MiB of guest memory, --memory gives 512",
        *_NETWORK, "topology=a -- b[400]: 10mbit", "--memory", "512",
    ),
)  # fmt: skip


NETWORK_FAULTS: tuple[Fault, ...] = (
    wire_killed,
    peer_killed,
    receiver_killed,
    link_cut,
    link_wrong,
    link_dark,
    capture_full,
    own_capture_full,
    driver_unknown,
    driver_refused,
    *REFUSED,
)
