"""What happens to a running server from outside is seen, recorded and repaired without anyone asking."""

from __future__ import annotations

import json
import os
import signal
from functools import partial

import aiohttp

from hubs import Client, Hub, Launch
from support import eventually


async def running(launch: Launch, config: str = "") -> tuple[Hub, Client, int]:
    """A hub whose root runs a server; and the server's pid."""
    hub, admin = await launch(config)
    status, body = await admin.call("POST", "/users/root/server")
    assert status == 201, body
    ((pid, _),) = hub.processes()
    return hub, admin, pid


async def routed(admin: Client) -> bool:
    """Whether the proxy has root's route."""
    status, table = await admin.call("GET", "/proxy")
    assert status == 200, table
    return "/user/root/" in table


async def test_a_killed_server_is_seen_at_once_and_says_why(launch: Launch) -> None:
    _, admin, pid = await running(launch)

    os.kill(pid, signal.SIGKILL)

    async def recorded() -> bool:
        return bool((await admin.server("root"))["stopped"])

    await eventually(recorded)
    assert not await routed(admin)
    _, stream = await admin.call("GET", "/users/root/server/progress")
    assert "crashed" in stream
    assert "SIGKILL" in stream or "signal 9" in stream


async def test_starts_and_stops_are_timed_for_monitoring(launch: Launch) -> None:
    _, admin = await launch()
    await admin.call("POST", "/users/root/server")
    await admin.call("DELETE", "/users/root/server")
    text = ""

    async def counted(figure: str) -> bool:
        nonlocal text
        status, text = await admin.call("GET", "/metrics")
        assert status == 200
        return f"jupyterhub_{figure} 1.0" in text

    for figure in (
        'server_spawn_duration_seconds_count{reason="",status="success"}',
        'server_stop_seconds_count{status="success"}',
        "hub_startup_duration_seconds_count",
        "init_spawners_duration_seconds_count",
    ):
        await eventually(partial(counted, figure), what=figure)
    (began,) = (
        line for line in text.splitlines() if line.startswith("jupyterhub_hub_startup_duration_seconds_sum ")
    )
    assert float(began.split()[1]) > 0


async def test_a_route_removed_by_hand_comes_back(launch: Launch) -> None:
    hub, admin, _ = await running(launch)
    token = (hub.data / "proxy.token").read_text().strip()
    headers = {"Authorization": f"token {token}"}
    url = f"http://127.0.0.1:{hub.port + 1}/api/routes/user/root"
    async with admin.session.delete(url, headers=headers) as answer:
        assert answer.status == 204

    async def back() -> bool:
        async with admin.session.get(f"{hub.url}/user/root/api") as answer:
            return answer.status == 200

    await eventually(back)


async def test_a_killed_proxy_comes_back_with_every_route(launch: Launch) -> None:
    hub, admin, _ = await running(launch)
    before = json.loads((hub.data / "proxy.json").read_text())["pid"]
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        try:
            async with admin.session.get(f"{hub.url}/user/root/api") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(back)
    assert json.loads((hub.data / "proxy.json").read_text())["pid"] != before


async def test_keep_servers_leaves_them_running_and_a_new_hub_finds_them(launch: Launch) -> None:
    hub, admin = await launch(args=("--keep-servers",))
    assert (await admin.call("POST", "/users/root/server"))[0] == 201
    before = hub.processes()

    await hub.stop()
    assert hub.processes() == before
    async with admin.session.get(f"{hub.url}/user/root/api") as answer:
        assert answer.status == 200, "the proxy goes on as well"
    await hub.start()

    assert "found running" in hub.said()
    assert (await admin.server("root"))["ready"]
    assert (await admin.call("DELETE", "/users/root/server"))[0] == 204
    assert hub.processes() == []


async def test_ctrl_c_stops_servers_and_proxy(launch: Launch) -> None:
    hub, _, _ = await running(launch)

    await hub.stop()

    assert hub.processes() == []
    assert not (hub.data / "proxy.json").exists()


async def test_a_second_hub_on_the_same_folder_refuses(launch: Launch) -> None:
    hub, _ = await launch()
    second = Hub(hub.data, port=hub.port + 10)

    await second.start(ready=False)

    assert await second.died() == 1
    assert "another hub is running" in second.said()
