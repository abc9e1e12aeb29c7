"""Which gists anybody may list. Git gives out secret ones to whoever has the id, so the site's API is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from himalia_hub.ephemeral.archives import Answered
from himalia_hub.ephemeral.git import GitError
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.sources import Source

REMEMBERED = 10_000
REFUSED_FOR_S = 60.0
"""A secret gist may be made public; whoever tries again within this time costs no question."""


class Gists:
    """Asks once for each gist that is public: it cannot be made secret (GitHub's docs: "Creating gists").

    `document` reads JSON from an address.
    """

    def __init__(self, document: Callable[[str], Awaitable[Any]], section: EphemeralSection) -> None:
        self._document, self._section = document, section
        self._public: dict[str, None] = {}
        self._refused: dict[str, tuple[float, GitError]] = {}
        self._asking = asyncio.Lock()

    async def check(self, source: Source) -> None:
        """GitError for a gist that is not public, where those are not opened; all who ask at once cost one question."""
        if source.provider != "gist" or self._section.secret_gists:
            return
        gist = source.stem.rpartition("/")[2]
        async with self._asking:
            if gist in self._public:
                return
            now = time.monotonic()
            self._refused = {key: one for key, one in self._refused.items() if one[0] > now}
            if gist in self._refused:
                raise self._refused[gist][1]
            try:
                await self._ask(gist)
            except GitError as error:
                self._refused[gist] = (now + REFUSED_FOR_S, error)
                raise
            self._public[gist] = None
            if len(self._public) > REMEMBERED:
                del self._public[next(iter(self._public))]

    async def _ask(self, gist: str) -> None:
        try:
            told = await self._document(f"{self._section.gist_api.rstrip('/')}/gists/{gist}")
        except Answered as error:
            if error.answer in (404, 410):
                raise GitError("There is no such gist.", remedy="Check the address in the link.") from None
            # GitHub's limit for an address without an account is an answer of 403 or 429.
            raise GitError(
                f"Whether this gist is secret cannot be asked just now: its site answered {error.answer}.",
                remedy="Try again in an hour, or ask an administrator to allow secret gists here.",
            ) from None
        if not isinstance(told, dict) or told.get("public") is not True:
            raise GitError(
                "The gist is secret, and this hub opens public ones only.",
                remedy="Make it public, or ask an administrator to allow secret gists here.",
            )
