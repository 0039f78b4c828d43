"""What was done, apart from which kernel did it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Work:
    """What is compared between kernels: one operation by one arm on so many interfaces."""

    operation: str
    arm: str
    interfaces: int

    @property
    def text(self) -> str:
        """What messages call it."""
        return f"{self.operation} by {self.arm}, {self.interfaces} interfaces"
