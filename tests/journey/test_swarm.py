"""The hub with a swarm of three machines in place of processes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import docker_lab
import wire
from hubs import Client, Hub, client
from support import eventually
from swarm_lab import SwarmLab

pytestmark = pytest.mark.timeout(600)
SLOW_S = 90


@pytest.fixture
async def hub(swarm: SwarmLab, tmp_path: Path) -> AsyncIterator[Hub]:
    swarm.build(docker_lab.SERVER_IMAGE)
    homes = Path(tempfile.mkdtemp(prefix="himalia-homes-", dir="/var/tmp"))
    config = {
        "url": swarm.manager.url, "image": docker_lab.SERVER_IMAGE, "pull": "never", "stop_timeout_s": 5,
        "node_lost_s": 2, "constraints": ["node.role == worker"],
    }  # fmt: skip
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in config.items())
    volumes = f"[spawner.swarm.volumes]\n{json.dumps(f'{homes}/{{user}}')} = '{{home}}'\n"
    hub = Hub(tmp_path / "data", config=f'[spawner]\nkind = "swarm"\n[spawner.swarm]\n{table}\n{volumes}')
    inside = f"{swarm.gateway}:{hub.port + 2}"
    env = {
        "HIMALIA_HUB__ALSO_LISTEN": json.dumps([inside]),
        "HIMALIA_SPAWNER__SWARM__HUB_URL": f"http://{inside}",
    }
    try:
        hub.add_user("ada", admin=True)
        await hub.start(env=env)
        yield hub
    finally:
        hub.clean_up()
        swarm.remove_services()
        shutil.rmtree(homes, ignore_errors=True)


async def test_a_server_on_a_machine_that_is_cut_off_and_returns_never_runs_twice(
    hub: Hub, swarm: SwarmLab
) -> None:
    async with client(hub, hub.token("ada")) as ada:
        assert await start(ada) == ""
        first, token = server_of(swarm)
        assert await run(hub, ada, "open('note', 'w').write('kept'); print(6 * 7)") == "42"

        swarm.cut(swarm.node(first))
        try:
            await eventually(lambda: stopped(ada), within_s=SLOW_S, what="the machine counts as lost")
            assert f"was lost with its machine: its machine '{first}'" in await story(ada)
            assert await status_with(hub, token) in (401, 403), "the lost server's token is good no more"
            assert len(swarm.node(first).containers()) == 1, "it runs on by itself"

            # The storage of this lab is not cut off: the old server still holds its home.
            assert "ended" in await start(ada)
            assert f"in use by an earlier server ({first} since" in last_words(swarm)
        finally:
            swarm.heal(swarm.node(first))

        await eventually(
            lambda: not swarm.node(first).containers(), within_s=SLOW_S, what="the stale server is ended"
        )
        assert await start(ada) == ""
        assert await run(hub, ada, "print(open('note').read())") == "kept"

        status, body = await ada.call("DELETE", "/users/ada/server")
        assert status in (202, 204), body
        await eventually(
            lambda: not any(node.containers() for node in swarm.nodes),
            within_s=SLOW_S,
            what="no container runs",
        )


async def start(ada: Client) -> str:
    """Empty once the server is ready; else what the hub says of its end."""
    await ada.call("POST", "/users/ada/server")

    async def settled() -> bool:
        server = await ada.server("ada")
        return bool(server["ready"] or server["stopped"])

    await eventually(settled, within_s=SLOW_S)
    return "" if (await ada.server("ada"))["ready"] else await story(ada)


async def story(ada: Client) -> str:
    """What the progress of the last start, or end, says."""
    _, text = await ada.call("GET", "/users/ada/server/progress")
    return str(text)


async def run(hub: Hub, ada: Client, code: str) -> str:
    """What a cell prints on a new kernel."""
    async with wire.kernel_client(f"{hub.url}/user/ada/", ada.token) as kernel:
        return (await kernel.stream_of(await kernel.send("execute_request", code=code))).strip()


async def stopped(ada: Client) -> bool:
    """Whether the hub has recorded an end."""
    return bool((await ada.server("ada"))["stopped"])


def server_of(swarm: SwarmLab) -> tuple[str, str]:
    """The machine that runs the one server, and the token it was given."""
    for node in swarm.nodes:
        at = node.client()
        try:
            for one in at.containers():
                variables = at.inspect_container(one["Id"])["Config"]["Env"]
                token = next(each for each in variables if each.startswith("JUPYTERHUB_API_TOKEN="))
                return node.name, token.partition("=")[2]
        finally:
            at.close()
    raise AssertionError("no container runs")


def last_words(swarm: SwarmLab) -> str:
    """What the servers wrote that are known to the swarm."""
    at = swarm.manager.client()
    try:
        return "".join(
            b"".join(at.service_logs(one["ID"], stdout=True, stderr=True)).decode() for one in at.services()
        )
    finally:
        at.close()


async def status_with(hub: Hub, token: str) -> int:
    """What the hub answers to a token."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{hub.api}/user", headers={"Authorization": f"token {token}"}) as answer,
    ):
        return answer.status
