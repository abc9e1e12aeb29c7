"""A running hub with an administrator, for journeys over the REST API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hubs import PATIENT, Client, Hub, Launch, client


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    """Start a patient hub with this configuration; its administrator is root. Everything ends with the test."""
    async with AsyncExitStack() as stack:

        async def start(
            config: str = "", *, args: tuple[str, ...] = (), env: dict[str, str] | None = None
        ) -> tuple[Hub, Client]:
            if "slow_start_s" not in config:
                before, _, after = config.partition("[servers]\n")
                config = f"{before}\n[servers]\n{PATIENT}{after}"
            hub = Hub(tmp_path / "data", config=config)
            stack.callback(hub.clean_up)
            hub.add_user("root", admin=True)
            admin = await stack.enter_async_context(client(hub, hub.token("root")))
            await hub.start(*args, env=env)
            return hub, admin

        yield start
