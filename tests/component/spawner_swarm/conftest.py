"""A rig over the swarm."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.api.client import APIClient

import docker_lab
import small_servers
from himalia_spawner.base import Handle, Limits, ServerRef, ServerSpec
from himalia_spawner.contract import WORDS, Kind
from himalia_spawner.names import backend_name
from himalia_spawner.swarm.settings import SwarmSettings
from himalia_spawner.swarm.spawner import SwarmSpawner
from swarm_lab import SwarmLab

NO_IMAGE = "himalia-test-nowhere:1"
COMMANDS = {
    **small_servers.COMMANDS,
    # A moment later: a server that ends before Swarm has told its port is refused as it starts.
    Kind.CRASHES: small_servers.python(f"import time; time.sleep(1); print({WORDS!r}); raise SystemExit(3)"),
}


class SwarmRig:
    """Makes spawners of one hub, with homes in a folder that all nodes see, and removes its services with the test."""

    def __init__(self, lab: SwarmLab) -> None:
        self.lab, self.hub_id = lab, uuid.uuid4().hex
        self.root = Path(tempfile.mkdtemp(prefix="himalia-homes-", dir="/var/tmp"))
        self.made: list[SwarmSpawner] = []
        self.settings: dict[str, object] = {
            "url": lab.manager.url, "image": docker_lab.PYTHON_IMAGE, "pull": "never", "stop_timeout_s": 2,
            "hub_url": f"http://{lab.gateway}:8081", "volumes": {f"{self.root}/{{user}}": "{home}"}, "resync_s": 0.5,
            "node_lost_s": 2, "placement_timeout_s": 10,
        }  # fmt: skip

    def spawner(self, **settings: object) -> SwarmSpawner:
        chosen = SwarmSettings.model_validate(self.settings | settings)
        spawner = SwarmSpawner(chosen, hub_id=self.hub_id, data_dir=self.root)
        self.made.append(spawner)
        return spawner

    def spec(self, kind: Kind, ref: ServerRef, username: str, server_name: str) -> ServerSpec:
        if kind is Kind.REFUSED:
            return self.server(("anything",), ref, username, server_name, image=NO_IMAGE)
        return self.server(COMMANDS[kind], ref, username, server_name)

    def server(
        self,
        command: tuple[str, ...] = COMMANDS[Kind.SERVES],
        ref: ServerRef | None = None,
        username: str = "ada",
        server_name: str = "",
        *,
        image: str = "",
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ServerSpec:
        given = {
            "JUPYTERHUB_API_TOKEN": "token-of-ada", "JUPYTERHUB_USER": username, "EMPTY": "", "JUPYTERHUB_BASE_URL": "/",
            "TEMPLATE": "{{.Node.Hostname}} {{{ }} {{", **(env or {}),
        }  # fmt: skip
        ref = ref or ServerRef(backend_name(username, server_name), "1")
        limits = limits or Limits()
        return ServerSpec(
            ref, username, server_name, "/user/ada/", given, command, image=image, limits=limits
        )

    def inspect(self, handle: Handle) -> Mapping[str, Any]:
        client, id_ = self._container(handle)
        try:
            found: Mapping[str, Any] = client.inspect_container(id_)
            return found
        finally:
            client.close()

    def _container(self, handle: Handle) -> tuple[APIClient, str]:
        client = self.lab.node(handle.state["node"]).client()
        wanted = {"label": f"com.docker.swarm.service.id={self._service(handle)}"}
        return client, client.containers(all=True, filters=wanted)[0]["Id"]

    def _service(self, handle: Handle) -> str:
        client = self.lab.manager.client()
        try:
            return str(client.inspect_service(handle.state["service"])["ID"])
        finally:
            client.close()

    async def environment(self, handle: Handle) -> Mapping[str, str]:
        pairs = (item.partition("=") for item in self.inspect(handle)["Config"]["Env"])
        return {name: value for name, _, value in pairs}

    async def kill(self, handle: Handle) -> None:
        client, id_ = self._container(handle)
        try:
            client.kill(id_, "KILL")
        finally:
            client.close()

    async def end(self) -> None:
        for spawner in self.made:
            await spawner.close()
        self.lab.remove_services()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
async def rig(swarm: SwarmLab) -> AsyncIterator[SwarmRig]:
    swarm.build(docker_lab.PYTHON_IMAGE)
    rig = SwarmRig(swarm)
    try:
        yield rig
    finally:
        await rig.end()
