"""Having the other hubs read their configuration, too, and hearing what each of them took."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.replicas import store
from himalia_hub.replicas.models import Replica
from himalia_hub.servers.world import World

ANSWER_S = 20.0
LOOK_S = 0.05


async def reload(world: World) -> dict[str, Any]:
    """What each other hub said, by address. One that says nothing in ANSWER_S does it as soon as it can."""
    if world.db.is_sqlite or not world.together.name:
        return {}
    async with world.db.begin() as db:
        numbers = await store.ask_to_reload(db, world.together.name, now=clock.now())
    waited_until = time.monotonic() + ANSWER_S
    while True:
        async with world.db.read() as db:
            found = await db.scalars(sa.select(Replica).where(Replica.name.in_(numbers)))
            rows = found.all()
        late = [row for row in rows if row.reload_taken < numbers[row.name]]
        if not late or time.monotonic() > waited_until:
            break
        await asyncio.sleep(LOOK_S)
    no_answer = {"refused": f"it has not answered within {ANSWER_S:g} s, and reads its file when it is back"}
    return {row.url: no_answer if row in late else row.reload_answer for row in rows}
