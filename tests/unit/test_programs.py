"""Building the agent: one compile for each state of the sources, and its limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from linklab.errors import LabError
from linklab.events import Event, StepStarted, ignore
from linklab.host import run
from linklab.host.cache import Cache
from linklab.host.elf import read_elf
from linklab.image import programs
from linklab.image.programs import BUDGET, PROGRAM, build_agent

GREETING = '#include <stdio.h>\n#include "a.h"\nint main(void) { puts(TEXT); return 0; }\n'


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "a.c").write_text(GREETING)
    (folder / "a.h").write_text('#define TEXT "hello"\n')
    return folder


def test_the_real_one_is_static_and_within_its_budget(agent_program: Path) -> None:
    elf = read_elf(agent_program)

    assert (elf.interpreter, elf.needed) == (None, ())
    assert agent_program.stat().st_size <= BUDGET == 150_000


def test_the_program_runs(cache: Cache, sources: Path) -> None:
    program = build_agent(cache, ignore, sources).file(PROGRAM)

    assert run.run([program]).text == "hello"


def test_a_second_build_compiles_nothing(cache: Cache, sources: Path) -> None:
    events: list[Event] = []
    first = build_agent(cache, events.append, sources)
    second = build_agent(cache, events.append, sources)

    assert first.key == second.key
    assert events.count(StepStarted("agent")) == 1


@pytest.mark.parametrize(("name", "word"), [("a.c", "return 0"), ("a.h", "hello")])
def test_a_changed_source_or_header_makes_another_one(
    cache: Cache, sources: Path, name: str, word: str
) -> None:
    before = build_agent(cache, ignore, sources)
    text = (sources / name).read_text()
    (sources / name).write_text(text.replace(word, {"hello": "hallo"}.get(word, "return 3")))
    after = build_agent(cache, ignore, sources)

    assert after.key != before.key
    assert after.hashes != before.hashes


def test_a_folder_beside_it_that_it_includes_from_is_part_of_it(
    cache: Cache, sources: Path
) -> None:
    shared = sources.parent / "shared"
    shared.mkdir()
    (shared / "s.h").write_text("const char *shared(void);\n")
    text = GREETING.replace('"a.h"', '"../shared/s.h"').replace("TEXT", "shared()")
    (sources / "a.c").write_text(text)
    for word in ("one", "two"):
        source = f'#include "s.h"\nconst char *shared(void) {{ return "{word}"; }}\n'
        (shared / "s.c").write_text(source)
        assert run.run([build_agent(cache, ignore, sources).file(PROGRAM)]).text == word


def test_where_the_sources_lie_does_not_show(cache: Cache, sources: Path, tmp_path: Path) -> None:
    here = build_agent(cache, ignore, sources).hashes
    there = build_agent(Cache(tmp_path / "other"), ignore, sources.rename(tmp_path / "moved"))

    assert there.hashes == here


def test_a_warning_is_an_error_that_shows_what_the_compiler_said(
    cache: Cache, sources: Path
) -> None:
    (sources / "a.c").write_text(GREETING.replace("puts", "int unused; puts"))

    with pytest.raises(LabError, match="sources does not compile") as caught:
        build_agent(cache, ignore, sources)
    assert "a.c:3" in caught.value.evidence
    assert "unused" in caught.value.evidence


def test_one_that_is_too_large_is_refused_and_not_kept(cache: Cache, sources: Path) -> None:
    with pytest.raises(LabError, match=r"takes \d+ bytes, its budget is 1000"):
        build_agent(cache, ignore, sources, budget=1000)
    assert not list((cache.root / "agent").glob("*/*"))


def test_a_folder_without_sources_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="holds no C source"):
        build_agent(cache, ignore, tmp_path)


def test_without_the_compiler_it_names_the_package(
    cache: Cache, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(run, "_SYSTEM_FOLDERS", "/nowhere")

    with pytest.raises(LabError, match=r"musl-gcc is not .* musl-tools"):
        build_agent(cache, ignore, sources)


def test_the_compilers_options_take_part_in_the_key(
    cache: Cache, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build_agent(cache, ignore, sources).key
    monkeypatch.setattr(programs, "FLAGS", (*programs.FLAGS, "-O1"))

    assert build_agent(cache, ignore, sources).key != before
