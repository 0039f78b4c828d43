"""Whether KVM runs a guest: decided by a probe, remembered, told in words."""

from __future__ import annotations

import grp
import os
import shutil
import struct
import time
from pathlib import Path

import pytest

from linklab.errors import UsageError
from linklab.events import Event, Note
from linklab.host import accel
from linklab.host.accel import PROBE_STATUS, Accel, Decision, decide, probe, probe_kernel
from linklab.host.cache import cache_root
from linklab.host.run import CommandMissing

HANG = "echo 'fake: warning: host lacks a feature' >&2; exec sleep 60"


class Host:
    """A host with a fake QEMU, a fake /dev/kvm and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.qemu = folder / "fake"
        self.dev_kvm = folder / "kvm"
        self.boot_id = folder / "boot_id"
        self.starts = folder / "starts"
        self.events: list[Event] = []
        self.dev_kvm.touch()
        self.dev_kvm.chmod(0o660)
        self.boot_id.write_text("first\n")
        self.starts.touch()
        self.behave(f"exit {PROBE_STATUS}")

    def behave(self, script: str) -> None:
        """Make a new QEMU, which does as `script` says when it is given a kernel."""
        self.qemu.write_text(
            '#!/bin/sh\ncase "$1" in --version) echo "QEMU emulator version 1.0"; exit 0;; esac\n'
            f'echo "$@" >> {self.starts}\n{script}\n'
        )
        self.qemu.chmod(0o755)

    def decide(
        self, requested: Accel = Accel.AUTO, *, fresh: bool = False, deadline: float = 5.0
    ) -> Decision:
        return decide(
            requested,
            self.qemu,
            self.events.append,
            fresh=fresh,
            dev_kvm=self.dev_kvm,
            deadline=deadline,
        )

    @property
    def probes(self) -> list[str]:
        return self.starts.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    host = Host(tmp_path)
    monkeypatch.setattr(accel, "BOOT_ID", host.boot_id)
    return host


def test_kvm_is_taken_when_the_probe_ran(host: Host) -> None:
    assert host.decide() == Decision(Accel.KVM, "KVM runs a guest here")
    assert host.events == []


def test_the_probe_runs_with_the_accelerator_and_the_cpu_of_real_guests(host: Host) -> None:
    host.decide()
    (command,) = host.probes
    assert "-accel kvm -cpu host" in command


@pytest.mark.parametrize("status", [0, 1, PROBE_STATUS - 1, PROBE_STATUS + 2])
def test_no_other_status_counts_as_a_guest_that_ran(host: Host, status: int) -> None:
    host.behave(f"exit {status}")
    decision = host.decide()
    assert decision.accel is Accel.TCG
    assert f"status {status}, without a word" in decision.reason


def test_what_qemu_says_is_the_reason(host: Host) -> None:
    host.behave(
        "echo 'fake: warning: something else' >&2\n"
        "echo 'fake: error: failed to set MSR 0x10a to 0x69' >&2\n"
        "ulimit -c 0; kill -ABRT $$"
    )
    decision = host.decide()
    assert decision.accel is Accel.TCG
    assert decision.reason == "QEMU was ended by SIGABRT: error: failed to set MSR 0x10a to 0x69"


def test_a_silent_guest_is_given_up_at_the_deadline(host: Host) -> None:
    host.behave(HANG)
    began = time.monotonic()
    decision = host.decide(deadline=0.3)
    assert time.monotonic() - began < 5
    assert decision.accel is Accel.TCG
    assert decision.reason == (
        "the guest hangs, no sign of it in 0.3 s: warning: host lacks a feature"
    )


def test_a_slow_yes_is_a_yes(host: Host) -> None:
    """A host whose KVM is itself emulated is slow under TCG, too, and by that has longer."""
    host.behave(f'case "$*" in *kvm*) sleep 1; esac; sleep 0.2; exit {PROBE_STATUS}')
    assert host.decide(deadline=0.5).accel is Accel.KVM
    assert len(host.probes) == 3, "in vain, under TCG to see how slow this host is, and with time"


def test_a_host_that_is_not_slow_waits_no_longer(host: Host) -> None:
    host.behave(f'case "$*" in *kvm*) exec sleep 60; esac; exit {PROBE_STATUS}')
    assert "no sign of it in 1 s" in host.decide(deadline=1).reason
    assert len(host.probes) == 2


def test_who_knows_better_gets_kvm_untried(host: Host) -> None:
    host.behave("exit 1")
    with pytest.raises(UsageError, match="--accel kvm! takes it untried"):
        host.decide(Accel.KVM)
    assert host.decide(Accel.KVM_ANYWAY).accel is Accel.KVM
    assert len(host.probes) == 1


def test_without_dev_kvm_nothing_is_started(host: Host) -> None:
    host.dev_kvm.unlink()
    decision = host.decide()
    assert decision.accel is Accel.TCG
    assert f"there is no {host.dev_kvm}" in decision.reason
    assert host.probes == []


@pytest.mark.parametrize(
    ("mode", "advice"),
    [(0o660, "add yourself to the group"), (0o600, "its owner's alone (-rw-------)")],
)
def test_without_permission_the_reason_says_how_to_get_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, mode: int, advice: str
) -> None:
    host.dev_kvm.chmod(mode)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != host.dev_kvm)
    decision = host.decide()
    assert decision.accel is Accel.TCG
    assert f"no permission for {host.dev_kvm}" in decision.reason
    assert advice in decision.reason
    assert host.probes == []


def test_a_group_without_a_name_is_told_by_its_number(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless(_gid: int) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", nameless)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != host.dev_kvm)
    assert f"group {host.dev_kvm.stat().st_gid} " in host.decide().reason


def test_without_qemu_the_error_points_to_setup(host: Host) -> None:
    host.qemu.unlink()
    for requested in Accel:
        with pytest.raises(CommandMissing, match="invoke setup"):
            host.decide(requested)


def test_tcg_is_not_probed(host: Host) -> None:
    assert host.decide(Accel.TCG).accel is Accel.TCG
    assert host.probes == []


def test_kvm_that_does_not_work_is_refused_when_it_is_asked_for(host: Host) -> None:
    host.behave("echo 'no such thing' >&2; exit 1")
    for _ in range(2):
        with pytest.raises(UsageError, match="no such thing") as refused:
            host.decide(Accel.KVM)
        assert refused.value.verdict.status == 2
    assert len(host.probes) == 1
    assert host.events == []


def test_kvm_that_works_is_given_when_it_is_asked_for(host: Host) -> None:
    assert host.decide(Accel.KVM).accel is Accel.KVM


def test_an_answer_is_found_out_once_and_noted_once(host: Host) -> None:
    host.behave("exit 1")
    first = host.decide()
    assert host.decide() == first
    assert len(host.probes) == 1
    (note,) = host.events
    assert isinstance(note, Note)
    assert first.reason in note.text


def test_a_remembered_answer_takes_less_than_2_ms(host: Host) -> None:
    host.decide()
    times = []
    for _ in range(20):
        began = time.perf_counter()
        host.decide()
        times.append(time.perf_counter() - began)
    assert min(times) < 0.002


def test_fresh_asks_again_and_corrects_what_is_remembered(host: Host) -> None:
    flag = host.qemu.with_name("works")
    host.behave(f"[ -e {flag} ] && exit {PROBE_STATUS}; exit 1")
    assert host.decide().accel is Accel.TCG
    flag.touch()
    assert host.decide().accel is Accel.TCG
    assert host.decide(fresh=True).accel is Accel.KVM
    assert host.decide().accel is Accel.KVM


def test_another_boot_of_the_host_asks_again(host: Host) -> None:
    host.decide()
    host.boot_id.write_text("second\n")
    host.decide()
    assert len(host.probes) == 2


def test_another_qemu_asks_again(host: Host) -> None:
    host.behave("exit 1")
    assert host.decide().accel is Accel.TCG
    host.behave(f"exit {PROBE_STATUS}")
    assert host.decide().accel is Accel.KVM


def test_changed_permissions_of_dev_kvm_ask_again(host: Host) -> None:
    host.decide()
    time.sleep(0.02)  # more than a tick of the file system's clock
    host.dev_kvm.chmod(0o666)
    host.decide()
    assert len(host.probes) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"host": 1}'])
def test_a_spoilt_memory_asks_again(host: Host, content: str) -> None:
    host.decide()
    (kept,) = cache_root().glob("host/*")
    kept.write_text(content)
    assert host.decide().accel is Accel.KVM
    assert len(host.probes) == 2


def test_an_answer_that_cannot_be_kept_is_still_given(host: Host) -> None:
    cache_root().mkdir()
    (cache_root() / "host").write_text("in the way")
    for _ in range(2):
        assert host.decide().accel is Accel.KVM
    assert len(host.probes) == 2


def test_the_probe_is_a_kernel_by_the_boot_protocol() -> None:
    """The fields that QEMU's x86 loader reads, at the offsets of boot.rst."""
    kernel = probe_kernel()
    setup_sectors = kernel[0x1F1]
    flag, jump, distance, magic, version = struct.unpack_from("<HBb4sH", kernel, 0x1FE)
    assert (flag, magic, jump) == (0xAA55, b"HdrS", 0xEB)
    assert version >= 0x0200
    entry = 0x202 + distance
    assert kernel[entry] == 0xBA  # mov dx, imm16: the first instruction
    assert entry < (setup_sectors + 1) * 512 < len(kernel)


@pytest.mark.vm
def test_the_probe_runs_on_the_real_qemu() -> None:
    qemu = shutil.which("qemu-system-x86_64")
    assert qemu is not None
    assert probe(Path(qemu), Accel.TCG, deadline=30) is None


@pytest.mark.vm
def test_a_kernel_that_does_not_answer_is_a_hang_on_the_real_qemu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    assert qemu is not None
    silent = probe_kernel().replace(b"\xef", b"\xf4")  # hlt instead of out
    monkeypatch.setattr(accel, "probe_kernel", lambda: silent)
    assert "the guest hangs" in str(probe(Path(qemu), Accel.TCG, deadline=2))
