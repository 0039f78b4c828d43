"""The program that fills sets and a switch through netlink: what it refuses, and why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.image.programs import build_program
from linklab.paths import GUEST

pytestmark = pytest.mark.agent


@pytest.fixture(scope="module")
def fill() -> Path:
    return build_program(GUEST / "fill", Cache(), ignore)


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        ("", 2, "usage: fill ipset NAME"),
        ("ipset listed", 2, "usage: fill ipset NAME"),
        ("ipset listed hash:mac /dev/null", 2, "hash:mac: hash:ip or hash:net is expected"),
        ("nftset ip6 ladder listed set /dev/null", 2, "ip6: ip or netdev is expected"),
        ("nftset ip ladder listed tree /dev/null", 2, "tree: set or prefixes is expected"),
        ("switch joined both a b", 2, "both: plain or tracked is expected"),
        ("ipset listed hash:ip /nowhere", 1, "fill: /nowhere: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_named(fill: Path, words: str, status: int, complaint: str) -> None:
    done = subprocess.run([fill, *words.split()], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert complaint in done.stderr
