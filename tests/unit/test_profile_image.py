"""The image for profiles: the live image and what it adds; and the optional need behind it."""

from __future__ import annotations

import re
from pathlib import Path

import image_box
import pytest

from linklab.errors import LabError
from linklab.host.doctor import examine, healthy
from linklab.host.packages import NEEDS, PROFILING
from linklab.image.userland import Directory, File, read_manifest
from linklab.paths import IMAGES


def test_the_profile_image_is_the_live_one_and_perf() -> None:
    live, profile = read_manifest(IMAGES / "live"), read_manifest(IMAGES / "profile")
    added = [program for program in profile.programs if program not in live.programs]
    assert [program.command for program in added] == ["perf"]
    assert set(live.fixed) < set(profile.fixed)
    assert (profile.agent, profile.templates) == (live.agent, live.templates)
    (script,) = set(profile.fixed) - set(live.fixed)
    assert isinstance(script, File) and b"perf record" in script.read()


def test_a_manifest_adds_to_the_one_it_includes(tmp_path: Path) -> None:
    base = read_manifest(image_box.small_image(tmp_path / "base"))
    (tmp_path / "more").mkdir()
    text = 'include = "../base"\n[directories]\n"/srv" = "0755"\n'
    (tmp_path / "more/manifest.toml").write_text(text)
    more = read_manifest(tmp_path / "more")
    assert more.fixed == (*base.fixed, Directory("/srv", 0o755))
    assert more.values == base.values


def test_one_that_includes_what_is_not_there_names_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text('include = "nowhere"\n')
    with pytest.raises(LabError, match=re.escape(str(tmp_path / "nowhere/manifest.toml"))):
        read_manifest(tmp_path)


def test_perf_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not set(PROFILING) & set(NEEDS)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    (finding,) = (finding for finding in examine(()) if finding.need == "perf")
    assert not finding.found and not finding.required
    assert "linux-perf" in finding.advice and "invoke setup" not in finding.advice
    assert healthy([finding])
