"""A distribution's kernel and out-of-tree modules, on real guests. Nothing is compiled for long."""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import Invoke, soon

from linklab.commands.kernels import KernelOptions, prepare_subjects
from linklab.errors import LabError, ModuleRefused
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.scenarios.grouping import Grouping
from linklab.trials.subjects import Requirements

pytestmark = pytest.mark.vm

MODULES = Path(__file__).parent / "modules"
VIRTIO = {
    *("virtio", "virtio_ring", "virtio_console"),
    *("virtio_pci", "virtio_pci_legacy_dev", "virtio_pci_modern_dev"),
}


def debian(cache: Cache, *modules: str, clock: Clock = Clock.REAL) -> Subject:
    """Return Debian's kernel with these modules; skip where no archive is within reach."""
    options = KernelOptions("debian", modules=modules)
    purpose = Requirements(Boot.DIRECT, Grouping.all_needs(), clock=clock)
    try:
        (subject,) = prepare_subjects(options, purpose, cache, ignore)
    except LabError as error:
        pytest.skip(f"Debian's kernel cannot be had here: {error} {error.evidence}")
    return subject


@pytest.mark.parametrize("boot", ["direct", "iso"])
def test_debians_kernel_is_measured_with_its_own_modules(
    invoke: Invoke, cache: Cache, tmp_path: Path, boot: str
) -> None:
    subject = debian(cache)
    words = ("--counts", "16", "--operations", "mtu,up", "--arms", "group", "--boot", boot)
    done = invoke("run", "--kernel", "debian", *words, "--output", str(tmp_path / "run"), "--json")
    assert done.status == 0, done.stderr
    (kernel,) = done.document["run"]["kernels"]
    assert kernel["release"] == subject.release
    assert kernel["inputs"]["package"].startswith("linux-image-")
    # In virtual time the agent's port is a virtio one, also on `pc`.
    assert {"dummy"} <= set(kernel["modules"]) <= {"dummy", *VIRTIO}
    samples = done.document["samples"]
    assert {s["operation"] for s in samples} == {"create", "mtu", "up"}
    assert all(s["verified"] for s in samples)


def test_nothing_is_tracked_on_debians_kernel_until_it_is_asked_for(
    invoke: Invoke, cache: Cache, tmp_path: Path
) -> None:
    """Open vSwitch's module, which one rung needs, turns tracking on in Linux 6.1."""
    debian(cache)
    done = invoke(
        *("run", "--scenario", "drop", "--kernel", "debian", "--clock", "virtual"),
        *("--axis", "arm=nft-input,openvswitch", "--param", "packets=640"),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    rate = {(s["arm"], s["conntrack"]): s["packets_per_second"] for s in done.document["samples"]}
    for arm in ("nft-input", "openvswitch"):
        assert rate[arm, "on"] < 0.9 * rate[arm, "off"]


def test_a_module_is_built_loaded_and_at_work(lab: Lab, cache: Cache, tmp_path: Path) -> None:
    subject = debian(cache, str(MODULES / "hello"), "veth", clock=lab.clock)
    with lab.session(subject, tmp_path / "console.log") as session:
        assert session.agent.read_file("/proc/hello", soon()) == b"hello from hello\n"
        loaded = session.agent.read_file("/proc/modules", soon()).decode()
        names = [name for line in loaded.splitlines() if (name := line.split()[0]) not in VIRTIO]
        assert names == ["hello", "veth", "dummy"], "the newest first"
        links = session.agent.run(["/bin/ip", "-o", "link"], soon())
        assert b"dummy0" not in links.output, "its parameter came from the command line"


def test_a_module_that_refuses_is_at_fault_with_the_kernels_words(
    lab: Lab, cache: Cache, tmp_path: Path
) -> None:
    subject = debian(cache, str(MODULES / "refuses"))
    with (
        pytest.raises(
            ModuleRefused, match="the module refuses did not load: No such device"
        ) as end,
        lab.session(subject, tmp_path / "console.log"),
    ):
        pass
    assert "no device for refuses" in end.value.evidence
