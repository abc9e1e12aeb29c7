"""Routes below a base URL whose letters must be escaped, such as `/user/a b/`.

aiohttp matches routes with patterns on the decoded path but escapes their fixed parts, so `%20` never
matches. Such a prefix is taken off first, segment by segment, and the rest is matched as usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aiohttp import web
from aiohttp.web_urldispatcher import AbstractResource, UrlDispatcher
from yarl import URL


class OddPrefix(AbstractResource):
    """All routes of the application below one prefix, which is given decoded."""

    def __init__(self, prefix: str, routes: Sequence[web.RouteDef]) -> None:
        super().__init__()
        self._prefix = prefix.rstrip("/")
        self._inner = UrlDispatcher()
        self._inner.add_routes(routes)

    @property
    def canonical(self) -> str:
        """What the application's index of resources is asked for: the decoded prefix."""
        return self._prefix

    async def resolve(self, request: web.Request) -> Any:
        """The match of the rest of the path, and the methods that would have matched."""
        path = request.rel_url.path_safe
        if not path.startswith(self._prefix + "/"):
            return None, set()
        below = request.rel_url.raw_path.split("/")[len(self._prefix.split("/")) :]
        rest = URL.build(path="/" + "/".join(below), encoded=True)
        found = await self._inner.resolve(request.clone(rel_url=rest))
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
        return {"prefix": self._prefix, "routes": self._inner}

    def raw_match(self, path: str) -> bool:
        """Never the resource that a new route could be added to."""
        return False

    def __len__(self) -> int:
        return len(self._inner.routes())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner.routes())
