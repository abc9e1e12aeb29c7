"""The hub with containers in place of processes: our server and JupyterHub's, by configuration alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import docker_lab
import wire
from docker_lab import Lab
from hubs import Client, Hub, client
from support import eventually

pytestmark = pytest.mark.timeout(300)
GATEWAY = "172.31.254.1"


@pytest.fixture(params=[docker_lab.SERVER_IMAGE, docker_lab.OFFICIAL_IMAGE], ids=["ours", "official"])
async def hub(docker_engine: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Hub]:
    docker_engine.build(request.param)
    config = {
        "url": docker_engine.url, "image": request.param, "pull": "never", "stop_timeout_s": 5,
    }  # fmt: skip
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in config.items())
    hub = Hub(tmp_path / "data", config=f'[spawner]\nkind = "docker"\n[spawner.docker]\n{table}\n')
    env = {}
    if (
        request.param == docker_lab.OFFICIAL_IMAGE
    ):  # ours reaches the hub by a unix socket, theirs needs an address
        inside = f"{GATEWAY}:{hub.port + 2}"
        env = {
            "HIMALIA_HUB__ALSO_LISTEN": json.dumps([inside]),
            "HIMALIA_SPAWNER__DOCKER__HUB_URL": f"http://{inside}",
        }
    try:
        hub.add_user("ada", admin=True)
        await hub.start(env=env)
        yield hub
    finally:
        hub.clean_up()
        docker_engine.remove_containers()


async def test_a_server_in_a_container_runs_a_cell_and_leaves_nothing(hub: Hub, docker_engine: Lab) -> None:
    async with client(hub, hub.token("ada")) as ada:
        await _start(ada)
        assert len(docker_engine.containers()) == 1

        async with wire.kernel_client(f"{hub.url}/user/ada/", ada.token) as kernel:
            assert (
                await kernel.stream_of(await kernel.send("execute_request", code="print(6 * 7)"))
            ).strip() == "42"

        status, body = await ada.call("DELETE", "/users/ada/server")
        assert status in (202, 204), body
        await eventually(lambda: not docker_engine.containers(), within_s=30, what="the container is gone")


async def _start(ada: Client) -> None:
    status, body = await ada.call("POST", "/users/ada/server")
    assert status in (201, 202), body

    async def ready() -> bool:
        server = await ada.server("ada")
        assert not server["stopped"], server
        return bool(server["ready"])

    await eventually(ready, within_s=90)
