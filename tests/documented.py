"""What the docs show that is more than a command."""

from __future__ import annotations

from linklab.paths import ROOT


def documented_scenario() -> str:
    """Return the scenario that `docs/scenarios.md` shows whole."""
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    return text.partition("```python\n")[2].partition("```")[0]
