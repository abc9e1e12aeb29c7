"""Who writes down what a later server needs to find the kernels again, should this one be killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Witness(Protocol):
    """Called on the event loop, must be quick."""

    def opened(self, kernel_id: str, session_id: str, parts: Sequence[bytes]) -> None:
        """A session is about to ask this kernel to run a cell."""

    def shown(self, kernel_id: str, frames: Sequence[bytes]) -> None:
        """Its browsers have been given all it published up to this message."""

    def changed(self) -> None:
        """A kernel, a session or what is known of them is not as it was."""


class NoWitness:
    """Writes nothing down."""

    def opened(self, kernel_id: str, session_id: str, parts: Sequence[bytes]) -> None:
        """Nothing."""

    def shown(self, kernel_id: str, frames: Sequence[bytes]) -> None:
        """Nothing."""

    def changed(self) -> None:
        """Nothing."""
