"""A task followed from its service's creation to a running container, or to the words why there will be none."""

from __future__ import annotations

import asyncio
import time

from himalia_spawner.base import Cause, Handle, Say, ServerSpec
from himalia_spawner.containers.images import PULL_S
from himalia_spawner.errors import BackendGone, SpawnFailed, SpawnRefused
from himalia_spawner.swarm import tasks
from himalia_spawner.swarm.ending import Ending
from himalia_spawner.swarm.manager import Manager
from himalia_spawner.swarm.settings import SwarmSettings
from himalia_spawner.swarm.tasks import Life, Service, Task

SHORTEST_S, LONGEST_S = 0.03, 0.25
"""Between two looks at a task that is on its way: Swarm tells no events of tasks."""
TOLD = {
    "assigned": "The swarm chose {where}",
    "preparing": "Its {where} prepares the image",
    "starting": "Its {where} starts the container",
}


class Following:
    """Waits for tasks of new services."""

    def __init__(self, manager: Manager, ending: Ending, settings: SwarmSettings) -> None:
        self._manager, self._ending, self._settings = manager, ending, settings

    async def until_running(self, service: Service, spec: ServerSpec, say: Say) -> Handle:
        """The handle of its running task; a service whose task ended, or found no place, is removed again."""
        began, pause_s, told = time.monotonic(), SHORTEST_S, ""
        while True:
            task = service.task
            match service.life(self._settings.node_lost_s):
                case Life.LIVE:
                    if (handle := tasks.handle_of(service, self._settings)) is not None:
                        return handle
                case Life.CUT | Life.LOST:
                    raise BackendGone("its machine stopped to answer the swarm while it was started")
                case Life.ENDED | Life.LEAVING:
                    await self._give_up(service, task, spec)
            waited_s = time.monotonic() - began
            if task is None or task.node is None:
                if waited_s > self._settings.placement_timeout_s:
                    await self._no_place(service, task)
            elif waited_s > PULL_S:
                await self._give_up(service, task, spec)
            told = _tell(task, told, say)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.2, LONGEST_S)
            service = await self._again(service)

    async def _again(self, service: Service) -> Service:
        found = (await self._manager.view(service.ref.name)).of(service.ref)
        if found is None:
            raise SpawnFailed("its service was removed by somebody else as it was started")
        return found

    async def _no_place(self, service: Service, task: Task | None) -> None:
        await self._ending.remove(service)
        words = task.words if task and task.words else "no machine was chosen"
        raise SpawnFailed(
            f"no machine of the swarm fits it: {words}; add one, or change constraints, limits or reservations"
        )

    async def _give_up(self, service: Service, task: Task | None, spec: ServerSpec) -> None:
        if task is None:
            raise SpawnFailed("its service was scaled down by somebody else as it was started")
        how = tasks.exit_of(task)
        tail = tuple(await self._manager.logs(service.id, self._settings.log_tail_lines))
        await self._ending.remove(service)
        reason = _remedy(how.reason, spec.image or self._settings.image)
        if how.cause is Cause.REFUSED:
            raise SpawnRefused(reason, log_tail=tail)
        raise SpawnFailed(reason, log_tail=tail)


def _remedy(reason: str, image: str) -> str:
    if "No such image" in reason:
        return f"{reason}; load {image!r} on every machine, or push it to a registry that they all reach"
    if "bind source path does not exist" in reason:
        return f"{reason}; mount the shared storage on every machine, or make the folder"
    return reason


def _tell(task: Task | None, told: str, say: Say) -> str:
    """Say what is new about a task; what was said last."""
    if task is None:
        return told
    sentence = told
    if task.node is None and task.words:
        sentence = f"Waiting for a machine: {task.words}"
    elif task.node is not None and task.state in TOLD:
        sentence = TOLD[task.state].format(where=task.where)
    if sentence != told:
        say(sentence)
    return sentence
