"""`invoke test` and `invoke lint`: what CI runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from linklab.build.agentbuild import build_agent
from linklab.build.templating import render_for_lint
from linklab.errors import UsageError, Verdict
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.host.run import environment, shown
from linklab.options import split_list
from linklab.paths import ROOT

SUITES = ("unit", "agent", "process", "vm")


def run_tests(only: str) -> Verdict:
    """Run the suites, cheapest first, and report the branch coverage of the host side."""
    suites = split_list("only", only) if only else list(SUITES)
    if unknown := [name for name in suites if name not in SUITES]:
        raise UsageError(f"--only {unknown[0]}: unknown; valid are {', '.join(SUITES)}")
    folders = [f"tests/{name}" for name in SUITES if name in suites]
    return _run(
        [sys.executable, "-m", "pytest", "--cov", "--cov-report=term:skip-covered", *folders]
    )


def run_lint() -> Verdict:
    """Run every check, all of them even if one fails."""
    python = [sys.executable, "-m"]
    verdicts = [
        _run([*python, "ruff", "check", "."]),
        _run([*python, "ruff", "format", "--check", "."]),
        _run([*python, "mypy"]),
        _run(["shellcheck", *_scripts()]),
    ]
    build_agent(Cache(), ignore)  # warnings are errors
    print("agent: compiled without warnings")
    return Verdict.FAIL if Verdict.FAIL in verdicts else Verdict.PASS


def _scripts() -> list[str]:
    return [str(path) for path in render_for_lint(ROOT / "build" / "lint")]


def _run(argv: list[str]) -> Verdict:
    """Run a check on this terminal; its status is the verdict on this project's own code."""
    print(f"$ {shown(argv)}", flush=True)
    done = subprocess.run(argv, cwd=Path(ROOT), env=environment(), check=False)
    return Verdict.PASS if done.returncode == 0 else Verdict.FAIL
