"""What `run.json` says of the kernels and of the machines that they ran on."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from typing import Any

from linklab.lab import Lab, Subject, host_cpu
from linklab.scenarios.grouping.plan import Plan


def tested_on(lab: Lab, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return the entries that every stored result has in common."""
    return {
        "kernels": [
            {
                "name": subject.name,
                "release": subject.release,
                "sha256": subject.sha256,
                "inputs": subject.inputs,
                "image_bytes": subject.image_bytes,
                "built_by_lab": subject.known,
                "modules": dict(subject.modules),
            }
            for subject in subjects
        ],
        "image": dict(lab.image),
        "accel": lab.accel.value,
        "clock": lab.clock_name,
        "boot": lab.boot.value,
        "machine": ", ".join(dict.fromkeys(lab.machine_for(s).value for s in subjects)),
        "cpus": lab.cpus,
        "memory": lab.memory,
        "qemu": {
            "version": lab.qemu.version,
            "command_lines": {s.name: shlex.join(lab.argv_for(s)) for s in subjects},
        },
        "host": {
            "cpu": host_cpu(),
            "cpus": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
    }


def planned(plan: Plan) -> dict[str, Any]:
    """Return what is kept of a plan: what was to be measured, how often, in what guests."""
    return {
        "counts": plan.counts,
        "operations": plan.operations,
        "arms": plan.arms,
        "pairs": plan.pairs(),
        "repeat": plan.repeat,
        "warmup": plan.warmup,
        "seed": plan.seed,
        "fresh_guest": plan.fresh_guest,
        "jobs": plan.jobs,
        "listeners": plan.listeners,
        "trials": plan.trials,
        "settling": plan.settling,
    }
