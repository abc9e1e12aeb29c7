"""A server that nobody uses is stopped by itself; one whose cell runs silently is not."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import wire
from hubs import Client, Hub, Launch
from support import eventually

IDLE_S = 6
LONG, SHORT = "[cull.users.root]\nidle_s = 600\n", f"[cull.users.root]\nidle_s = {IDLE_S}\n"
ENDLESS = "import time\nwhile True: time.sleep(0.1)"


async def test_a_silent_cell_keeps_its_server_and_after_its_end_the_server_stops_and_says_why(
    launch: Launch,
) -> None:
    hub, admin = await launch(f"[cull]\nidle_s = {IDLE_S}\nevery_s = 0.5\n{LONG}")
    status, model = await admin.call("POST", "/users/root/server")
    assert status == 201, model
    url = f"{hub.url}{model['url']}"
    async with wire.kernel_client(url, admin.token) as kernel:
        await kernel.send("execute_request", code=ENDLESS)
        await eventually(lambda: _computes(admin, url), what="the cell runs")
    # Only now: on a busy machine a kernel needs longer to start than a server here may be idle.
    file = hub.data / "himalia.toml"
    file.write_text(file.read_text().replace(LONG, SHORT))
    assert (await admin.call("POST", "/config/reload"))[1]["changed"] == ["cull.users"]
    left = datetime.now(UTC)

    async def outlived() -> bool:
        model = await admin.server("root")
        assert model["ready"], "stopped while a cell ran"
        used = datetime.fromisoformat(model["last_activity"])
        return used > left + timedelta(seconds=IDLE_S + 2)

    await eventually(outlived, within_s=60, what="the server reports its running cell beyond the idle limit")

    (kernel_id,) = await _computes(admin, url)
    async with admin.session.delete(f"{url}api/kernels/{kernel_id}", headers=admin.headers) as answer:
        assert answer.status == 204
    await eventually(lambda: not hub.processes(), within_s=60, what="the idle server is stopped")
    await eventually(lambda: _reasons(hub), what="the reason is kept")
    assert _reasons(hub) == [f"Stopped: idle for {IDLE_S} seconds"]
    assert '"event": "server.culled"' in hub.said()


async def _computes(admin: Client, url: str) -> list[str]:
    """The ids of the kernels that run a cell."""
    async with admin.session.get(f"{url}api/kernels", headers=admin.headers) as answer:
        return [kernel["id"] for kernel in await answer.json() if kernel["execution_state"] == "busy"]


def _reasons(hub: Hub) -> list[str]:
    with sqlite3.connect(hub.data / "himalia.sqlite", timeout=30) as database:
        rows = database.execute("SELECT message FROM server_events WHERE kind = 'culled'").fetchall()
    return [message for (message,) in rows]
