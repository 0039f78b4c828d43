"""Stored profiles: a folder for each, from which everything shown can be made again."""

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
FOLDED_FILE = "folded.txt"
GRAPH_FILE = "flamegraph.svg"
TABLE_FILE = "table.txt"


@dataclass(frozen=True)
class StoredProfile:
    """A profile as stored: `about` is profile.json, `stacks` are folded.txt."""

    about: Mapping[str, Any]
    stacks: Stacks


def write_profile(folder: Path, profile: StoredProfile) -> None:
    """Write what is measured, and the shares that follow from it, into a folder.

    Raises `LabError` when it cannot be written.
    """
    about = {"schema": SCHEMA, **profile.about, **_shares(profile.stacks)}
    try:
        (folder / FOLDED_FILE).write_text(collapsed(profile.stacks))
        (folder / PROFILE_FILE).write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise LabError(f"the folder {folder} cannot be written: {error.strerror}") from error


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
