"""Where the project's data lies: images, guest sources and templates."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "images"
LIVE = IMAGES / "live"
GUEST = ROOT / "guest"
TEMPLATES = ROOT / "templates"

EXTERNAL_MODULES = "external"
"""In a guest, within its modules' folder: those that are under test themselves."""
