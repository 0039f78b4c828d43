"""What commands that test kernels store of what they do, and how they end."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.boundary import show_fault
from linklab.errors import Interrupted, LinklabError, Verdict
from linklab.host.cache import hash_file
from linklab.results.model import Run
from linklab.results.store import RunFolder, utc_now
from linklab.scenarios import own_file

if TYPE_CHECKING:
    from rich.console import RenderableType

    from linklab.lab.lab import Lab, Subject
    from linklab.trials.plan import Plan


def tested_on(lab: Lab, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return the entries that every stored result has in common."""
    from linklab.lab.lab import host_cpu  # brings much that a list of past runs has no use for

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
        "machine": ", ".join(
            dict.fromkeys(
                spec.machine.value for s in subjects for spec in lab.specs_for(s).values()
            )
        ),
        "cpus": lab.cpus,
        "memory": lab.memory,
        "qemu": {
            "version": lab.qemu.version,
            "command_lines": lab.command_lines(subjects),
        },
        "host": {
            "cpu": host_cpu(),
            "cpus": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
    }


def experiment(plan: Plan) -> dict[str, Any]:
    """Return what a stored result says of its scenario and plan: all that reports need of them."""
    reference = plan.kind.reference()
    return {
        "scenario": plan.kind.name,
        **({"scenario_sha256": hash_file(own)} if (own := own_file(plan.scenario)) else {}),
        "shape": plan.shape.to_json(),
        "plan": plan.to_json(),
        **({"reference": reference.to_json()} if reference else {}),
    }


@dataclass(frozen=True)
class Finished:
    """What is over and on disk; the first of the faults gives the verdict."""

    folder: Path
    verdict: Verdict
    run: Run
    faults: Sequence[LinklabError] = ()


def stopped_by(work: Callable[[], object]) -> list[LinklabError]:
    """Do some work and return what ended it early, if anything did."""
    try:
        work()
    except KeyboardInterrupt:
        return [Interrupted("what was done so far is kept")]
    except LinklabError as error:
        return [error]
    return []


def finish(
    folder: RunFolder,
    faults: Sequence[LinklabError],
    verdict: Verdict = Verdict.PASS,
    message: str = "",
    **entries: Any,
) -> Finished:
    """Store the end of a run; `verdict` and `message` are for one without faults."""
    if faults:
        verdict, message = faults[0].verdict, faults[0].message
    folder.update(**entries, end=utc_now(), verdict=verdict.value, message=message)
    return Finished(folder.path, verdict, folder.run, faults)


def concluded(finished: Finished) -> Verdict:
    """Show the faults of what is over, and return its verdict."""
    for fault in finished.faults:
        show_fault(fault)
    return finished.verdict


def print_document(document: Any) -> None:
    """Print one JSON document, for a script."""
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def print_shown(shown: RenderableType) -> None:
    """Print a table, or what else rich renders, for a person."""
    from rich.console import Console

    Console(highlight=False).print(shown)
