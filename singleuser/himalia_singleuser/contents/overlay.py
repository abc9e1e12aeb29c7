"""What lies over the notebooks on disk: outputs that the server knows and no client has saved yet."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from himalia_singleuser.contents.models import Model


class Overlay(Protocol):
    """Asked on the event loop at every read and save. Paths are API paths without slashes at the ends."""

    def covers(self, path: str) -> bool:
        """Whether there is anything to change in the model of this path."""

    async def shown(self, model: Model) -> None:
        """A client is given this model: change it in place."""

    async def saving(self, path: str, model: dict[str, Any]) -> set[str]:
        """A client saves this model: change its content in place; what to tell `saved` when it is on disk."""

    def saved(self, path: str, settled: set[str]) -> None:
        """It is on disk."""

    def condition(self, path: str, if_match: str | None) -> str | None:
        """The hash on disk that stands for the one which the client was told."""

    def moved(self, old: str, new: str) -> None:
        """A file or folder has another name."""


class NoOverlay:
    """The disk is all there is."""

    def covers(self, path: str) -> bool:
        """Never."""
        return False

    async def shown(self, model: Model) -> None:
        """Nothing."""

    async def saving(self, path: str, model: dict[str, Any]) -> set[str]:
        """Nothing."""
        return set()

    def saved(self, path: str, settled: set[str]) -> None:
        """Nothing."""

    def condition(self, path: str, if_match: str | None) -> str | None:
        """The same."""
        return if_match

    def moved(self, old: str, new: str) -> None:
        """Nothing."""


OVERLAY: web.AppKey[Overlay] = web.AppKey("OVERLAY", Overlay)
