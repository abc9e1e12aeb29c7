"""The end of services: removed from the swarm, and waited for until no machine that answers runs their tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from himalia_spawner.errors import BackendGone
from himalia_spawner.swarm.manager import Manager
from himalia_spawner.swarm.settings import SwarmSettings
from himalia_spawner.swarm.tasks import Life, Service, Task, View

ENDING_S = 20.0
"""Beyond a server's own time to end: for its machine to hear of it and to say that it is done."""
SHORTEST_S, LONGEST_S = 0.05, 0.5


class Ending:
    """Ends tasks and knows when they have ended."""

    def __init__(self, manager: Manager, settings: SwarmSettings) -> None:
        self._manager, self._settings = manager, settings

    async def remove(self, service: Service) -> None:
        """Remove it, and wait for its tasks."""
        await self._manager.remove(service.id)
        await self.wait(service.ref.name, lambda task: task.service == service.id)

    async def wait(self, name: str, which: Callable[[Task], bool]) -> None:
        """Until none of these tasks of a server can run. Those of lost machines are not waited for.

        BackendGone when a machine does not answer, or takes too long.
        """
        limit_s = self._settings.stop_timeout_s + ENDING_S
        pause_s = SHORTEST_S
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    lives = [
                        (self._life(one), one) for one in all_of(await self._manager.view(name)) if which(one)
                    ]
                    if cut := [one for life, one in lives if life is Life.CUT]:
                        raise BackendGone(away(cut[0]))
                    if all(life in (Life.ENDED, Life.LOST) for life, _ in lives):
                        return
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, LONGEST_S)
        except TimeoutError:
            raise BackendGone(f"server {name!r} has not ended within {limit_s:g} seconds") from None

    def _life(self, task: Task) -> Life:
        return task.life(self._settings.node_lost_s)


def all_of(view: View) -> list[Task]:
    """Every task of a view, whether its service is still there or not."""
    return [*view.ghosts, *(task for one in view.services for task in one.tasks)]


def away(task: Task | None) -> str:
    """A sentence for a server whose machine the manager cannot reach."""
    where = task.where if task else "machine"
    return f"its {where} does not answer the swarm; what it runs may go on there"
