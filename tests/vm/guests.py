"""What the tests of real guests share, apart from fixtures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.agent.client import Agent

INVOKE = str(Path(sys.executable).with_name("invoke"))
LIMIT = 60.0  # s; a guest that takes longer for anything here is broken


def soon(seconds: float = LIMIT) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def never_ends(agent: Agent, due: float, first: str = "true") -> None:
    """Run a program that waits for ever, in any clock, once it has done something else."""
    agent.run(["/bin/sh", "-c", f"{first}; mkfifo /tmp/never; cat /tmp/never"], due)


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output as JSON: all of it, or it is a fault."""
        return json.loads(self.stdout)


Invoke = Callable[..., Done]
Opener = Callable[..., Any]
