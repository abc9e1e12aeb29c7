"""What is asked of the engine for one container: that it is made, has a file, is ended, is removed."""

from __future__ import annotations

from typing import Any

from docker import errors

from himalia_spawner.containers.engine import Engine, words
from himalia_spawner.errors import SpawnFailed


async def create(engine: Engine, name: str, options: dict[str, Any]) -> Any:
    """Make it; what the engine says of it. APIError when it refuses, 409 where the name is taken."""
    rest = {key: value for key, value in options.items() if key != "host"}

    def make(client: Any) -> Any:
        return client.create_container(
            name=name, host_config=client.create_host_config(**options["host"]), **rest
        )

    return await engine.ask(make)


async def has_file(engine: Engine, container_id: str, path: str) -> bool:
    """Whether a container has such a file (Engine API, ContainerArchiveInfo; the SDK can only fetch all of it)."""

    def head(client: Any) -> bool:
        url = f"{client.base_url}/v{client.api_version}/containers/{container_id}/archive"
        answer = client.head(url, params={"path": path}, timeout=client.timeout)
        return bool(answer.status_code != 404)

    return await engine.ask(head)


async def end(engine: Engine, container_id: str, *, grace_s: int, answer_s: float) -> None:
    """SIGTERM, and SIGKILL after the grace; the engine may take `answer_s` more. Not being there is success."""
    try:
        await engine.ask(
            lambda client: client.stop(container_id, timeout=grace_s), within_s=grace_s + answer_s
        )
    except errors.NotFound:
        return
    except errors.APIError as error:
        raise SpawnFailed(f"the engine cannot stop the container: {words(error)}") from error


async def remove(engine: Engine, container_id: str) -> None:
    """Away with it, whatever it does. Not being there, or being removed by somebody else, is success."""
    try:
        await engine.ask(lambda client: client.remove_container(container_id, v=True, force=True))
    except errors.NotFound:
        return
    except errors.APIError as error:
        if "already in progress" not in words(error):
            raise SpawnFailed(f"the engine cannot remove the container: {words(error)}") from error
