"""Whether who opened a stream may still read it: its request was let in once, and it may last for minutes."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web

from himalia_hub.errors import HimaliaError
from himalia_hub.keys import IDENTITY
from himalia_hub.rbac.guard import access_of, require
from himalia_hub.rbac.resolve import resolve

EVERY_S: Final = 3.0
"""Out is out within 5 s, by streams too."""


class Still:
    """Asked as often as one likes, it looks every EVERY_S; a look costs what a request's does."""

    def __init__(self, request: web.Request) -> None:
        access = access_of(request.match_info.handler)
        assert access is not None  # the guard let it through
        self._request, self._access, self._at = request, access, time.monotonic()

    @property
    def next_s(self) -> float:
        """Until the next look is due."""
        return max(0.0, self._at + EVERY_S - time.monotonic())

    async def may(self) -> bool:
        """Whether the sign-in or token counts, and its rights are those that were needed."""
        if self.next_s:
            return True
        self._at = time.monotonic()
        self._request[IDENTITY] = await resolve(self._request, tokens_too=self._access.tokens is not False)
        try:
            require(self._request, *self._access.scopes)
        except (HimaliaError, web.HTTPException):
            return False
        return True
