"""Which events are taken, and that a slow subscriber stops nobody."""

from __future__ import annotations

import json

import pytest

from himalia_singleuser.errors import BadRequest
from himalia_singleuser.events.bus import MOST_WAITING, EventBus
from himalia_singleuser.events.schemas import CONTENTS, KERNEL_ACTIONS

GET = {"action": "get", "path": "a.ipynb"}


@pytest.mark.parametrize(
    ("schema", "version", "data"),
    [
        ("https://nobody.org/v1", "1", GET),
        (CONTENTS, "2", GET),
        (CONTENTS, "1", {"action": "get"}),
        (CONTENTS, "1", {"action": "steal", "path": "x"}),
        (CONTENTS, "1", {"action": ["get"], "path": "x"}),
        (CONTENTS, "1", {"action": "get", "path": 3}),
        (KERNEL_ACTIONS, "1", {"action": "start", "status": "maybe"}),
    ],
)
async def test_an_event_that_does_not_fit_its_schema_is_refused(schema, version, data):
    with pytest.raises(BadRequest):
        EventBus().post(schema, version, data)


async def test_a_subscriber_gets_the_fields_at_the_top():
    bus = EventBus()
    subscriber = bus.subscribe()
    bus.emit(CONTENTS, GET)
    assert json.loads(subscriber.queue.get_nowait()) == {"schema_id": CONTENTS, **GET}


async def test_emitting_never_raises_and_never_waits_for_a_slow_subscriber():
    bus = EventBus()
    slow = bus.subscribe()
    for _ in range(MOST_WAITING + 5):
        bus.emit(CONTENTS, GET)
    bus.emit("unknown", {})
    assert slow.lost.is_set()
