"""What a person sees when there is no answer to relay: the hub's page, a file, or a small page of our own."""

from __future__ import annotations

import asyncio
import html
import logging
import os
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from himalia_proxy.errors import Unreachable
from himalia_proxy.framing import Headers, RequestHead, ResponseHead
from himalia_proxy.headers import reason
from himalia_proxy.target import Target
from himalia_proxy.upstream import Pool, Upstream

FETCH_TIMEOUT_S: Final = 10.0
MAX_PAGE: Final = 2 * 1024 * 1024

_RELAYED: Final = (b"content-type", b"content-encoding")
_ASKED_WITH: Final = (b"accept", b"accept-language")
_WORDS: Final = {
    404: "There is nothing at this address. The server that was here may have been stopped.",
    503: "The server behind this address does not answer. It may be starting or stopped; try again soon.",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {phrase}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;\
color:#222;background:#fff}}h1{{font-size:1.4rem}}\
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#161616}}}}</style></head>
<body><h1>{status} {phrase}</h1><p>{words}</p></body></html>
"""

log = logging.getLogger("himalia.proxy")

Done = Callable[[Headers, bytes], None]


def built_in(status: int) -> tuple[Headers, bytes]:
    """A self-contained page."""
    words = _WORDS.get(status, "The proxy could not handle this request.")
    page = _PAGE.format(status=status, phrase=html.escape(reason(status)), words=words)
    return [(b"Content-Type", b"text/html; charset=utf-8")], page.encode()


class ErrorPages:
    """Makes the bodies of error answers; `target` is asked first, then files in `folder`."""

    def __init__(self, pool: Pool, *, target: Target | None = None, folder: str | None = None) -> None:
        self._pool = pool
        self._target = target
        self._folder = folder

    def render(self, status: int, request: RequestHead, done: Done) -> asyncio.Task[None] | None:
        """Call `done` with headers and body, now or later; the task can be cancelled."""
        if self._target is None:
            done(*self._own(status))
            return None
        return self._pool.loop.create_task(self._fetched(self._target, status, request, done))

    def _own(self, status: int) -> tuple[Headers, bytes]:
        if self._folder is not None:
            for name in (f"{status}.html", "error.html"):
                try:
                    with open(os.path.join(self._folder, name), "rb") as file:
                        return [(b"Content-Type", b"text/html")], file.read()
                except OSError:
                    continue
        return built_in(status)

    async def _fetched(self, target: Target, status: int, request: RequestHead, done: Done) -> None:
        url = quote(request.url.decode("latin-1"), safe="")
        path = b"%s/%d?url=%s" % (target.path, status, url.encode())
        if target.query:
            path += b"&" + target.query
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                headers, body = await _Fetch(self._pool).run(target, path, request)
        except (Unreachable, TimeoutError) as error:
            log.warning(
                "error_page.unavailable target=%s reason=%s", target.origin, error or "no answer in time"
            )
            headers, body = self._own(status)
        done(headers, body)


class _Fetch:
    """One GET whose answer is collected whole."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._result: asyncio.Future[tuple[Headers, bytes]] = pool.loop.create_future()
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0
        self._connection: Upstream | None = None

    async def run(self, target: Target, path: bytes, request: RequestHead) -> tuple[Headers, bytes]:
        connection = self._connection = await self._pool.connect(target)
        asked = b"".join(b"%s: %s\r\n" % one for one in request.headers if one[0].lower() in _ASKED_WITH)
        head = b"GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (path, target.netloc, asked)
        connection.begin(self, head, to_head=False, whole=True, decode=True)
        try:
            return await self._result
        finally:
            if not self._result.done() or self._result.cancelled():
                connection.abort()

    def interim(self, head: ResponseHead) -> None: ...

    def switched(self, connection: Upstream, head: ResponseHead, early: bytes) -> None:
        connection.abort()
        self.answer_lost("it switched protocols", untouched=False)

    def answer_begin(self, head: ResponseHead, data: bytes, *, ended: bool) -> None:
        self._headers = [one for one in head.headers if one[0].lower() in _RELAYED]
        self.answer_data(data)
        if ended:
            self.answer_end()

    def answer_data(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_PAGE and self._connection is not None:
            self._connection.abort()
            self.answer_lost(f"its page is larger than {MAX_PAGE} bytes", untouched=False)

    def answer_end(self) -> None:
        if not self._result.done():
            self._result.set_result((self._headers, b"".join(self._parts)))

    def answer_lost(self, why: str, *, untouched: bool) -> None:
        if not self._result.done():
            self._result.set_exception(Unreachable(why))

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...
