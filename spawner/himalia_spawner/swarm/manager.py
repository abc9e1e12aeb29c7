"""A manager of the swarm: what this project asks of it, and its errors as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from docker import errors

from himalia_spawner.containers.asked import HUB, NAME
from himalia_spawner.containers.engine import Engine, refusal, words
from himalia_spawner.errors import BackendGone, SpawnRefused
from himalia_spawner.swarm import tasks
from himalia_spawner.swarm.settings import SwarmSettings
from himalia_spawner.swarm.tasks import Found, Node, View

T = TypeVar("T")
LOGS_S = 5.0
"""A manager fetches logs from the task's machine and waits for it without end."""
_FRAME = 8
"""Bytes before each piece of a log: its stream, three zeros, its length (Engine API, ContainerAttach)."""


class NoManager(SpawnRefused):
    """The engine is no manager of a swarm."""


class NameTaken(SpawnRefused):
    """There is a service of that name already."""


class Manager:
    """Asks the manager for everything of one hub."""

    def __init__(self, settings: SwarmSettings, hub: str) -> None:
        self.engine = Engine(
            settings.url, timeout_s=settings.request_timeout_s, concurrency=settings.concurrency
        )
        self._settings, self._hub = settings, hub
        self._down_since: dict[str, float] = {}

    async def view(self, name: str | None = None) -> View:
        """All services and tasks of this hub, or of one server. BackendGone when they cannot be listed."""
        labels = [f"{HUB}={self._hub}", *([f"{NAME}={name}"] if name is not None else [])]

        def lists(client: Any) -> tuple[list[Found], list[Found], list[Found]]:
            # Tasks first: the task of a service that came in between would be taken for one of a removed service.
            found_tasks = client.tasks(filters={"label": labels})
            found_services = client.services(filters={"label": labels})
            return found_services, found_tasks, client.nodes()

        services, found, nodes = await self._ask(lists)
        return tasks.view(services, found, self._known(nodes, found))

    async def create(self, body: dict[str, Any]) -> str:
        """The id of the service it has made; NameTaken when there is one of that name, SpawnRefused for another no."""
        try:
            return str((await self._ask(lambda client: _create(client, body)))["ID"])
        except errors.APIError as error:
            if error.status_code == 409:
                raise NameTaken(words(error)) from error
            raise refusal(error) from error

    async def remove(self, service_id: str) -> None:
        """Have Swarm end the service's task wherever it is, now or when its machine returns. Twice is fine."""
        try:
            await self._ask(lambda client: client.remove_service(service_id))
        except errors.NotFound:
            return
        except errors.APIError as error:
            raise BackendGone(f"the service cannot be removed: {words(error)}") from error

    async def logs(self, service_id: str, lines: int) -> list[str]:
        """The last lines of a service whose machine answers."""
        query = {"stdout": True, "stderr": True, "tail": lines}

        def fetch(client: Any) -> bytes:
            url = f"{client.base_url}/v{client.api_version}/services/{service_id}/logs"
            answer = client.get(url, params=query, timeout=LOGS_S)
            return answer.content if answer.status_code == 200 else b""

        try:
            found = await self._ask(fetch)
        except BackendGone:
            return ["(its machine does not answer for its log)"]
        return unframed(found).decode(errors="replace").splitlines()[-lines:]

    async def close(self) -> None:
        """Let go of the engine."""
        await self.engine.close()

    async def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return await self.engine.ask(question)
        except errors.APIError as error:
            text = words(error)
            if "not a swarm manager" in text:
                raise NoManager(
                    f"{self.engine.where} is no manager of a swarm; docker swarm init, "
                    "or let spawner.swarm.url name a manager"
                ) from error
            if error.status_code in (500, 503) and any(
                sign in text for sign in ("does not have a leader", "deadline exceeded", "Unavailable")
            ):
                raise BackendGone(f"the swarm cannot be asked: {text}") from error
            raise

    def _known(self, nodes: Iterable[Found], found_tasks: Iterable[Found]) -> dict[str, Node]:
        """Nodes by id. How long one is down is counted from when this hub first saw it so: never too early."""
        now = time.monotonic()
        by_id = {str(one["ID"]): one for one in nodes}
        gone = {str(one["NodeID"]) for one in found_tasks if one.get("NodeID")} - by_id.keys()
        up = {id_ for id_, one in by_id.items() if (one.get("Status") or {}).get("State") == "ready"}
        down = (by_id.keys() | gone) - up
        # A list of one server's tasks names only its own nodes that were removed: others are not forgotten for it.
        for id_ in up:
            self._down_since.pop(id_, None)
        for id_ in down:
            self._down_since.setdefault(id_, now)
        return {
            id_: _node(
                id_, by_id.get(id_), self._settings, now - self._down_since[id_] if id_ in down else None
            )
            for id_ in up | down
        }


def _node(id_: str, found: Found | None, settings: SwarmSettings, down_for_s: float | None) -> Node:
    if found is None:
        return Node(id_, id_[:12], "", down_for_s)
    name = str((found.get("Description") or {}).get("Hostname") or id_[:12])
    return Node(id_, name, tasks.address_of(found, settings.address_label), down_for_s)


def _create(client: Any, body: dict[str, Any]) -> Any:
    return client.create_service(
        body["TaskTemplate"], name=body["Name"], labels=body["Labels"], mode=body["Mode"],
        endpoint_spec=body["EndpointSpec"],
    )  # fmt: skip


def unframed(content: bytes) -> bytes:
    """The text of a log without the frames around its pieces."""
    text, at = b"", 0
    while at + _FRAME <= len(content):
        length = int.from_bytes(content[at + 4 : at + _FRAME], "big")
        text += content[at + _FRAME : at + _FRAME + length]
        at += _FRAME + length
    return text
