"""The kernel's own self-tests: found, built, packed, run in guests, and judged."""
