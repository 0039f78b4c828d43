"""Small facts kept in files: written whole or not at all, and never trusted to be there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def load_json(path: Path) -> dict[str, Any]:
    """Return what a memo holds; nothing where it is missing, cut short or of another kind."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def save_json(path: Path, value: dict[str, Any]) -> None:
    """Write a memo: a reader finds the old one or the new one, never half of it."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
