"""What happens to tasks: Swarm tells no events of them, so all of this hub's are listed again and again.

One list answers for all servers: a hundred cost the manager no more questions than one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from himalia_spawner.errors import SpawnError
from himalia_spawner.swarm.manager import Manager
from himalia_spawner.swarm.tasks import Life, View


class Watcher:
    """Tells the names of servers whose tasks, or whose machines, changed between two lists."""

    def __init__(self, manager: Manager, *, resync_s: float, lost_s: float) -> None:
        self._manager, self._resync_s, self._lost_s = manager, resync_s, lost_s
        self._known: dict[str, str] | None = None
        self.changed: asyncio.Queue[str] = asyncio.Queue()

    async def resync(self) -> None:
        """List, tell the differences, sleep, again; until cancelled."""
        while True:
            with suppress(SpawnError):
                await self.compare()
            await asyncio.sleep(self._resync_s)

    async def compare(self) -> None:
        """One list. With the first, what does not run is told: there is nothing to compare the others with."""
        view = await self._manager.view()
        states = summary(view, self._lost_s)
        if self._known is None:
            running = {one.ref.name for one in view.services if one.life(self._lost_s) is Life.LIVE}
            differing = states.keys() - running
        else:
            names = {*states, *self._known}
            differing = {name for name in names if states.get(name) != self._known.get(name)}
        for name in differing:
            self.changed.put_nowait(name)
        self._known = states


def summary(view: View, lost_s: float) -> dict[str, str]:
    """By server, a text that differs when anything of it differs that a look would show."""
    lines: dict[str, list[str]] = {}
    for service in view.services:
        lines.setdefault(service.ref.name, []).append(f"{service.id} {service.life(lost_s)}")
        for task in service.tasks:
            lines[service.ref.name].append(f"{task.id} {task.state} {task.life(lost_s)} {task.words}")
    for ghost in view.ghosts:
        lines.setdefault(ghost.ref.name, []).append(f"{ghost.id} {ghost.state} {ghost.life(lost_s)}")
    return {name: "\n".join(sorted(each)) for name, each in lines.items()}
