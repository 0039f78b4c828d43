"""What the docs tell people to type is what there is."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented import documented_scenario
from invoke.parser import Parser
from invoke.program import Program

import tasks
from linklab.commands.scenarios import ScenarioOptions
from linklab.commands.sweep import Sweeping
from linklab.commands.sweepfile import read
from linklab.paths import ROOT
from linklab.scenarios import scenario_named

WORKFLOW = ROOT / "docs" / "github-actions.yml"
PAGES = (
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "bisecting",
            "exports",
            "porting",
            "profiling",
            "comparing",
            "scenarios",
            "sweeping",
        )
    ),
    WORKFLOW,
)
_COMMAND = re.compile(r"^ +(?:git bisect run )?(?:\.venv/bin/)?(invoke .*)$", re.MULTILINE)


def commands(page: Path) -> Iterator[str]:
    """Yield the invoke commands of a page, continued lines put together."""
    text = page.read_text().replace("\\\n", " ")
    if page == WORKFLOW:  # folded scalars: what follows on deeper lines belongs to the command
        text = re.sub(r"run: >\n", "\n", text)
        text = re.sub(r"\n +(?=(--|\S+@))", " ", text)
    yield from (match[1] for match in _COMMAND.finditer(text))


CASES = [(page.name, command) for page in PAGES for command in commands(page)]


def test_there_are_commands_on_every_page() -> None:
    assert {name for name, _ in CASES} == {page.name for page in PAGES}
    assert any("--until conclusive" in command for _, command in CASES)


@pytest.mark.parametrize(("page", "command"), CASES)
def test_every_command_and_option_that_is_documented_exists(page: str, command: str) -> None:
    words = shlex.split(command.replace("|| true", ""))
    contexts = copy.deepcopy(tasks.namespace).to_contexts()
    parser = Parser(initial=Program().initial_context, contexts=contexts)
    called = parser.parse_argv(words[1:])
    assert len(called) == 2, f"{page}: {command}"
    assert not called.unparsed


def test_the_scenario_that_is_documented_is_one(tmp_path: Path) -> None:
    path = tmp_path / "sysctl.py"
    path.write_text(documented_scenario())
    kind = scenario_named(str(path))
    assert kind.name == "sysctl"
    options = ScenarioOptions(str(path), param=("file=kernel/ostype",))
    assert [cell.text for cell in options.cells({})] == ["cat/10", "cat/100", "dd/10", "dd/100"]
    assert options.given() == {"file": "kernel/ostype"}


def test_the_sweep_that_is_documented_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sweeping.md").read_text()
    found = re.search(r"## The file\n\n((?: {4}.*\n|\n)+)", page)
    assert found
    path = tmp_path / "bbr.toml"
    path.write_text(textwrap.dedent(found[1]))
    asked = read(path, {"output": str(tmp_path / "out"), "clock": "virtual"})
    plan = Sweeping(asked, "").check().plan
    assert len(plan.cells) == 2 * 3 * 2
    assert [axis.parameter for axis in plan.shape.axes if axis.parameter] == ["topology"]


def test_the_workflow_is_one_that_github_takes() -> None:
    """Against the schema of GitHub's workflows that check-jsonschema brings."""
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema",
            "vendor.github-workflows", str(WORKFLOW)]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
