"""What a crowd of servers may cost the machine."""

from __future__ import annotations

import asyncio

import pytest

from himalia_spawner import procfs
from himalia_spawner.base import Presence, ServerRef


async def test_of_servers_that_stop_together_what_is_left_is_searched_for_together(
    rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = iter(range(10**6))
    all_pids = procfs.pids
    monkeypatch.setattr(procfs, "pids", lambda: (next(searches), all_pids())[1])
    spawner = rig.spawner()
    refs = [ServerRef(f"server-{number}", "1") for number in range(16)]
    for ref in refs:
        await spawner.start(rig.server(ref=ref))
    before = next(searches)

    await asyncio.gather(*(spawner.stop(ref) for ref in refs))

    assert next(searches) - before - 1 <= len(refs), "each alone would search twice and more"
    for ref in refs:
        assert (await spawner.look(ref.name)).presence is Presence.ABSENT
