"""The way to a hub that is followed: its table as server-sent events, and posts of what is done and used here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Final

from himalia_proxy.channel import Message
from himalia_proxy.core import log
from himalia_proxy.errors import Unreachable
from himalia_proxy.framing import ResponseHead
from himalia_proxy.target import Target
from himalia_proxy.upstream import Pool, Upstream

SILENT_S: Final = 30.0
POSTED_WITHIN_S: Final = 10.0
_MOST_EVENT: Final = 64 * 1024 * 1024


class HubTable:
    """Asks the hub whose API is at `hub`, with a token that has the scope `proxy`.

    It remembers the last event it heard, so that a broken stream costs no second table.
    """

    def __init__(self, pool: Pool, hub: Target, token: str) -> None:
        self.pool = pool
        self.hub = hub
        self.authorization = b"Authorization: token " + token.encode() + b"\r\n"
        self.last = b""

    async def ask(self, heard: Callable[[Message], None], lost: Callable[[], None]) -> _Stream:
        """A stream that has begun. Unreachable says why there is none."""
        stream = _Stream(self, await self.pool.connect(self.hub), heard, lost)
        try:
            await stream.begun
        except BaseException:
            stream.close()
            raise
        return stream


class _Answer:
    """A Sink that wants a status and, of a stream, its lines."""

    def __init__(self) -> None:
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def interim(self, head: ResponseHead) -> None: ...

    def switched(self, connection: Upstream, head: ResponseHead, early: bytes) -> None:
        connection.abort()
        self.answer_lost("it switched protocols", untouched=False)

    def answer_begin(self, head: ResponseHead, data: bytes, *, ended: bool) -> None:
        if not 200 <= head.status < 300:
            self.answer_lost(f"it answered {head.status}", untouched=False)
            return
        if not self.begun.done():
            self.begun.set_result(None)
        self.answer_data(data)
        if ended:
            self.answer_end()

    def answer_data(self, data: bytes) -> None: ...

    def answer_end(self) -> None: ...

    def answer_lost(self, why: str, *, untouched: bool) -> None:
        if not self.begun.done():
            self.begun.set_exception(Unreachable(why))

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...


class _Stream(_Answer):
    """One stream, and what is posted beside it."""

    def __init__(
        self,
        table: HubTable,
        connection: Upstream,
        heard: Callable[[Message], None],
        lost: Callable[[], None],
    ) -> None:
        super().__init__()
        self._table, self._connection = table, connection
        self._heard, self._lost = heard, lost
        self._held: list[bytes] = []
        self._size = 0
        self._name = ""
        self._done: list[Message] = []
        self._activity: dict[str, float] = {}
        self._posting: asyncio.Task[None] | None = None
        self._closed = False
        self._loop = table.pool.loop
        self._spoke = self._loop.time()
        self._timer = self._loop.call_later(SILENT_S, self._look)
        after = b"Last-Event-ID: %s\r\n" % table.last if table.last else b""
        connection.begin(
            self,
            b"GET %s/proxy/follow HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n%s%s\r\n"
            % (table.hub.path, table.hub.netloc, table.authorization, after),
            to_head=False,
            whole=True,
            decode=True,
        )

    # -- what the hub says

    def answer_data(self, data: bytes) -> None:
        self._spoke = self._loop.time()
        *whole, rest = data.split(b"\n\n")
        if whole:
            whole[0] = b"".join([*self._held, whole[0]])
            self._held, self._size = [], 0
        if rest:
            self._held.append(rest)
            self._size += len(rest)
        try:
            for event in whole:
                self._event(event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._end(f"it said what is not understood: {error!r}")
        if self._size > _MOST_EVENT:
            self._end("an event of it has no end")

    def _event(self, event: bytes) -> None:
        said, event_id = [], b""
        for line in event.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                said.append(value.removeprefix(b" "))
            elif field == b"id":
                event_id = value.strip()
        if not said:
            return
        message: dict[str, Any] = json.loads(b"\n".join(said))
        if "report" in message:
            self._name = message["report"]
        else:
            self._heard(message)
        if event_id:
            self._table.last = event_id

    def answer_end(self) -> None:
        self._end("the stream ended")

    def answer_lost(self, why: str, *, untouched: bool) -> None:
        super().answer_lost(why, untouched=untouched)
        self._end(why)

    def _look(self) -> None:
        if self._loop.time() - self._spoke > SILENT_S:
            self._end("it has gone silent")
        elif not self._closed:
            self._timer = self._loop.call_later(SILENT_S, self._look)

    def _end(self, why: str) -> None:
        if not self._closed:
            log.info("follow.ended reason=%r", why)
            self.close()
            self._lost()

    # -- what it is told

    def send(self, message: Message) -> None:
        """Post it soon, with whatever else there is by then."""
        if "done" in message:
            self._done.append({"n": message["done"], "cut": message.get("cut", 0)})
        if "report" in message:
            self._activity.update(message["report"]["activity"])
        if (self._done or self._activity) and self._posting is None and not self._closed:
            self._posting = self._loop.create_task(self._post_all())

    async def _post_all(self) -> None:
        try:
            while self._done or self._activity:
                said = {"done": self._done, "activity": self._activity}
                self._done, self._activity = [], {}
                async with asyncio.timeout(POSTED_WITHIN_S):
                    await self._post(json.dumps(said).encode())
        except (Unreachable, TimeoutError) as error:
            self._end(f"a report was not taken: {error or 'no answer'}")
        finally:
            self._posting = None

    async def _post(self, body: bytes) -> None:
        table, answer = self._table, _Answer()
        connection = table.pool.take(table.hub.origin, fresh=True) or await table.pool.connect(table.hub)
        head = b"POST %s/proxy/followers/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n" % (
            table.hub.path,
            self._name.encode(),
            table.hub.netloc,
        )
        head += table.authorization + b"Content-Length: %d\r\n\r\n" % len(body)
        connection.begin(answer, head + body, to_head=False, whole=True, decode=True)
        try:
            await answer.begun
        except BaseException:
            connection.abort()
            raise

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        self._timer.cancel()
        self._connection.abort()
        if self._posting is not None and self._posting is not asyncio.current_task():
            with contextlib.suppress(RuntimeError):
                self._posting.cancel()
