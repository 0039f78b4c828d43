"""The machine we stand on."""
