"""Who is nobody can ask as often as they like: no row and no object stays of it."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site, site
from himalia_hub.app import all_routes
from himalia_hub.auth import backoff
from himalia_hub.db.base import Base
from himalia_hub.rbac.guard import access_of

NAMES = 2
"""Rows that all names which nobody has share, here."""
STREAMS = re.compile("events|progress|build/")
TURNS = 8


async def rows(hub: Site) -> dict[str, int]:
    async with hub.db.read() as db:
        return {
            table.name: await db.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


async def ask_for_everything(hub: Site, turn: int) -> int:
    """Each path once, with a name and a credential that nobody had before; how many requests that were."""
    asked = 0
    async with hub.client(f"nobody's {turn}") as stranger:
        for route in all_routes("/hub/", "/"):
            access = access_of(route.handler)
            if route.method == "*" or STREAMS.search(route.path) or access is None:
                continue
            path = re.sub(r"\{[^}]*\}", f"x{turn}", route.path)
            answer = await stranger(route.method, f"{path}?code={turn}&state={turn}&next=/x{turn}")
            assert answer.status < 500, (route.method, path, answer.text)
            asked += 1
    async with hub.client() as stranger:
        assert (await stranger.login(f"nobody{turn}", "wrong")).status in (200, 401, 403, 429)
    return asked


async def test_requests_of_nobody_grow_neither_a_table_nor_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2026-34052: what was kept before a signature had been checked filled the memory."""
    monkeypatch.setattr(backoff, "BUCKETS", NAMES)
    async with site(tmp_path) as hub:
        await hub.person("root", admin=True)
        for turn in range(2):  # what is made once: patterns, templates, statements
            await ask_for_everything(hub, turn)
        before, held = await rows(hub), objects()

        asked = sum([await ask_for_everything(hub, turn) for turn in range(2, 2 + TURNS)])

        after = await rows(hub)
        grown = {name: count - before[name] for name, count in after.items() if count != before[name]}
        assert set(grown) <= {"failed_logins"}, grown
        assert after["failed_logins"] <= NAMES + 1, "those of names, and one of the address"
        assert asked > 500
        assert objects() - held < asked, f"{asked} requests of strangers left {objects() - held} objects"


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())
