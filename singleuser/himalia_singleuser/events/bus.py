"""From whoever emits to whoever subscribes. Nobody waits for a slow subscriber."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import structlog

from himalia_singleuser.errors import BadRequest
from himalia_singleuser.events.schemas import KNOWN, EventSchema

log = structlog.get_logger(__name__)

MOST_WAITING = 1000


class Subscriber:
    """The queue of one subscriber; `lost` is set when it fell too far behind."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self.lost = asyncio.Event()


class EventBus:
    """Checks events against their schema and hands them on."""

    def __init__(self) -> None:
        self._schemas = dict(KNOWN)
        self._subscribers: set[Subscriber] = set()

    def register(self, schema: EventSchema) -> None:
        """Make another kind of event known."""
        self._schemas[schema.id] = schema

    def emit(self, schema_id: str, data: dict[str, Any]) -> None:
        """Hand an event of the server's own to all subscribers; never blocks, never raises."""
        try:
            self._checked(schema_id, data)
        except BadRequest as error:
            log.error("event.refused", schema=schema_id, why=error.message)
            return
        self._send(schema_id, data)

    def post(self, schema_id: str, version: str, data: dict[str, Any]) -> None:
        """Hand on an event from a client; BadRequest says what is wrong with it."""
        schema = self._checked(schema_id, data)
        if version != schema.version:
            raise BadRequest(f"Event {schema_id} has version {schema.version}, not {version}")
        self._send(schema_id, data)

    def subscribe(self) -> Subscriber:
        """A new subscriber; end it with `unsubscribe`."""
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Stop sending to it."""
        self._subscribers.discard(subscriber)

    def _checked(self, schema_id: str, data: dict[str, Any]) -> EventSchema:
        schema = self._schemas.get(schema_id)
        if schema is None:
            raise BadRequest(f"Unknown event schema {schema_id!r}. Known: {', '.join(sorted(self._schemas))}")
        schema.check(data)
        return schema

    def _send(self, schema_id: str, data: dict[str, Any]) -> None:
        frame = json.dumps({"schema_id": schema_id, **data}, default=str).encode()
        for subscriber in self._subscribers:
            try:
                subscriber.queue.put_nowait(frame)
            except asyncio.QueueFull:
                subscriber.lost.set()
