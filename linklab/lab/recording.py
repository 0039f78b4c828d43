"""A guest that failed, recorded: kept beside its console's log, to be replayed under gdb.

QEMU's log of what came in from outside is of use only with the same QEMU, kernel,
image and command line, so these are noted with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.errors import Interrupted, LinklabError, UsageError
from linklab.host.accel import Accel
from linklab.host.cache import hash_file
from linklab.host.qemu import Qemu
from linklab.machine.spec import DirectBoot, MachineSpec, MachineType, Recording

_SCHEMA = 1
_PREFIX = "recording-"


@dataclass(frozen=True)
class Recorded:
    """A recording as found: the machine that does it once more, and its symbols."""

    spec: MachineSpec
    symbols: Path | None


@contextmanager
def recorded(
    qemu: Qemu, spec: MachineSpec, console_log: Path, symbols: Path | None
) -> Iterator[MachineSpec]:
    """Yield the machine as one that is recorded; keep the recording if that ends with a fault."""
    name = _PREFIX + console_log.stem.removeprefix("console-")
    log, about = console_log.with_name(f"{name}.rr"), console_log.with_name(f"{name}.json")
    try:
        yield replace(spec, recording=Recording(log))
    except Interrupted:
        log.unlink(missing_ok=True)
        raise
    except LinklabError:
        if not log.exists():  # QEMU did not even start
            raise
        about.write_text(json.dumps(_about(qemu, spec, log, symbols), indent=1) + "\n")
        raise
    except BaseException:
        log.unlink(missing_ok=True)
        raise
    log.unlink(missing_ok=True)


def _about(qemu: Qemu, spec: MachineSpec, log: Path, symbols: Path | None) -> dict[str, Any]:
    boot = spec.boot
    assert isinstance(boot, DirectBoot)
    return {
        "schema": _SCHEMA,
        "log": log.name,
        "qemu": qemu.version,
        "kernel": str(boot.kernel),
        "initramfs": str(boot.initramfs),
        "command_line": boot.command_line,
        "memory": spec.memory,
        "symbols": str(symbols) if symbols else None,
        "sha256": {str(path): hash_file(path) for path in (boot.kernel, boot.initramfs)},
    }


def find_recording(place: Path) -> Path:
    """Return what is noted of a run's first recording. Raises `UsageError` where there is none."""
    found = sorted(place.glob(f"{_PREFIX}*.json"))
    if not found:
        raise UsageError(
            f"{place} holds no recording: `invoke run --record` keeps one of each guest that failed"
        )
    return found[0]


def read_recording(about: Path, qemu: Qemu) -> Recorded:
    """Return a recording to replay. Raises `UsageError` where it cannot be replayed here."""
    try:
        noted = json.loads(about.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{about} cannot be read: {error}") from error
    if noted.get("schema") != _SCHEMA:
        raise UsageError(f"{about} has schema {noted.get('schema')}, this version knows {_SCHEMA}")
    if noted["qemu"] != qemu.version:
        raise UsageError(
            f"{about} was recorded by QEMU {noted['qemu']}, this one is {qemu.version}: "
            "only the same QEMU replays it"
        )
    for path, expected in noted["sha256"].items():
        if not Path(path).is_file() or hash_file(Path(path)) != expected:
            raise UsageError(f"{path} is not what {about} was recorded with: record it again")
    boot = DirectBoot(Path(noted["kernel"]), Path(noted["initramfs"]), tuple(noted["command_line"]))
    spec = MachineSpec(
        boot,
        Accel.TCG,
        MachineType.PC,
        memory=noted["memory"],
        recording=Recording(about.with_name(noted["log"]), replayed=True),
    )
    return Recorded(spec, Path(noted["symbols"]) if noted["symbols"] else None)
