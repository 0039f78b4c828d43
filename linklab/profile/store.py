"""Stored profiles: a folder for each, from which everything shown can be made again.

Two that were subtracted lie in the folders `a` and `b` of one that says what
came out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.errors import LabError, UsageError
from linklab.profile.shares import kernel_share, share_of, symbol_shares
from linklab.profile.stacks import Stacks, collapsed, read_collapsed

SCHEMA = 1
PROFILE_FILE = "profile.json"
DIFFERENCE_FILE = "difference.json"
FOLDED_FILE = "folded.txt"
GRAPH_FILE = "flamegraph.svg"
TABLE_FILE = "table.txt"
SIDES = ("a", "b")


@dataclass(frozen=True)
class StoredProfile:
    """A profile as stored: `about` is profile.json, `stacks` are folded.txt."""

    about: Mapping[str, Any]
    stacks: Stacks


def write_profile(folder: Path, profile: StoredProfile) -> None:
    """Write what is measured, and the shares that follow from it, into a folder.

    Raises `LabError` when it cannot be written.
    """
    _write(folder / FOLDED_FILE, collapsed(profile.stacks))
    _write_json(folder / PROFILE_FILE, {**profile.about, **_shares(profile.stacks)})


def write_difference(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what came out of two profiles into their folder. Raises `LabError` where it cannot."""
    _write_json(folder / DIFFERENCE_FILE, about)


def _write_json(path: Path, about: Mapping[str, Any]) -> None:
    _write(path, json.dumps({"schema": SCHEMA, **about}, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise LabError(f"the folder {path.parent} cannot be written: {error.strerror}") from error


def _shares(stacks: Stacks) -> dict[str, Any]:
    kernel = kernel_share(stacks)
    among = sum(stacks.values())
    shares = {"kernel": kernel, "user": share_of(among - kernel.samples, among)}
    return {
        "shares": {space: vars(share) for space, share in shares.items()},
        "symbols": [symbol.to_json() for symbol in symbol_shares(stacks)],
    }


def read_profile(folder: Path) -> StoredProfile:
    """Return a stored profile.

    Raises `UsageError` when there is none, or one of another schema.
    """
    try:
        about = json.loads((folder / PROFILE_FILE).read_text())
        stacks = read_collapsed((folder / FOLDED_FILE).read_text())
    except (OSError, ValueError, LabError) as error:
        raise UsageError(f"{folder} holds no profile that can be read: {error}") from error
    schema = about.get("schema") if isinstance(about, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{folder} was written by schema {schema}, this version reads {SCHEMA}")
    return StoredProfile(about, stacks)
