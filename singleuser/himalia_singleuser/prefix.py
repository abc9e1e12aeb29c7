"""All routes below the base URL, from one table that knows no base URL.

A table takes a megabyte to make; this one is made in the parent of all servers and shared by them. It also serves
prefixes such as `/user/a b/`, whose letters must be escaped: aiohttp matches decoded paths but escapes the fixed parts
of its patterns, so `%20` never matches there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web
from aiohttp.web_urldispatcher import AbstractResource, UrlDispatcher
from yarl import URL


class BelowPrefix(AbstractResource):
    """The routes of a table, whose paths begin with a slash, below one prefix, which is given decoded."""

    def __init__(self, prefix: str, table: UrlDispatcher) -> None:
        super().__init__()
        self._prefix = prefix.rstrip("/")
        self._safe = URL.build(path=prefix).path_safe.rstrip("/")
        self._table = table

    @property
    def canonical(self) -> str:
        """What the application's index of resources is asked for: the decoded prefix."""
        return self._safe or "/"

    async def resolve(self, request: web.Request) -> Any:
        """The match of the rest of the path, and the methods that would have matched."""
        path = request.rel_url.path_safe
        if not path.startswith(self._safe + "/"):
            return None, set()
        found = await self._table.resolve(_Rest(request.method, path[len(self._safe) :]))  # type: ignore[arg-type]
        refusal = found.http_exception
        if refusal is None:
            return found, set()
        return None, refusal.allowed_methods if isinstance(refusal, web.HTTPMethodNotAllowed) else set()

    def url_for(self, **parts: str) -> URL:
        """There is no one URL of all routes."""
        raise NotImplementedError

    def add_prefix(self, prefix: str) -> None:
        """Nobody mounts a server inside another."""
        raise NotImplementedError

    def get_info(self) -> Any:
        """For aiohttp's debugging views."""
        return {"prefix": self._prefix, "routes": self._table}

    def raw_match(self, path: str) -> bool:
        """Never the resource that a new route could be added to."""
        return False

    def __len__(self) -> int:
        return len(self._table.routes())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._table.routes())


class _Rest:
    """As much of a request as matching looks at; a whole one would cost more than the match."""

    __slots__ = ("method", "path_safe")

    def __init__(self, method: str, path_safe: str) -> None:
        self.method = method
        self.path_safe = path_safe

    @property
    def rel_url(self) -> _Rest:
        return self
