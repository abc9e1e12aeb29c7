"""A rig over the engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

import docker_lab
from docker_lab import Lab
from himalia_spawner.base import Handle, Limits, ServerRef, ServerSpec
from himalia_spawner.contract import Kind
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.docker.spawner import DockerSpawner
from himalia_spawner.names import backend_name
from small_servers import COMMANDS


class DockerRig:
    """Makes spawners over one runtime folder and removes every container with the test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.root = Path(tempfile.mkdtemp(prefix="hr-", dir="/run"))
        self.made: list[DockerSpawner] = []
        self.settings: dict[str, object] = {
            "url": lab.url, "image": docker_lab.PYTHON_IMAGE, "pull": "never", "transport": "port",
            "runtime_dir": self.root / "run", "hub_url": "http://172.31.254.1:8081", "stop_timeout_s": 3,
            "volumes": {}, "resync_s": 1,
        }  # fmt: skip

    def spawner(self, **settings: object) -> DockerSpawner:
        chosen = DockerSettings.model_validate(self.settings | settings)
        spawner = DockerSpawner(chosen, hub_id="tests", data_dir=self.root / "data")
        self.made.append(spawner)
        return spawner

    def spec(self, kind: Kind, ref: ServerRef, username: str, server_name: str) -> ServerSpec:
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
    ) -> ServerSpec:
        env = {
            "JUPYTERHUB_API_TOKEN": "token-of-ada", "JUPYTERHUB_USER": username, "EMPTY": "",
            "JUPYTERHUB_BASE_URL": "/",
        }  # fmt: skip
        ref = ref or ServerRef(backend_name(username, server_name), "1")
        limits = limits or Limits()
        return ServerSpec(ref, username, server_name, "/user/ada/", env, command, image=image, limits=limits)

    def inspect(self, handle: Handle) -> Mapping[str, object]:
        client = self.lab.client()
        try:
            return client.inspect_container(handle.state["container"])
        finally:
            client.close()

    async def environment(self, handle: Handle) -> Mapping[str, str]:
        config = self.inspect(handle)["Config"]
        pairs = (item.partition("=") for item in config["Env"])  # type: ignore[index]
        return {name: value for name, _, value in pairs}

    async def kill(self, handle: Handle) -> None:
        client = self.lab.client()
        try:
            client.kill(handle.state["container"], "KILL")
        finally:
            client.close()

    async def end(self) -> None:
        for spawner in self.made:
            await spawner.close()
        if not self.lab.answers():
            self.lab.stop()
            self.lab.start()
        self.lab.remove_containers()
        self.lab.remove_networks()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
async def rig(docker_engine: Lab) -> AsyncIterator[DockerRig]:
    docker_engine.build(docker_lab.PYTHON_IMAGE)
    rig = DockerRig(docker_engine)
    try:
        yield rig
    finally:
        await rig.end()
