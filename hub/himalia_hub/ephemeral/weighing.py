"""How much the folder of a running session holds: a disk is shared by all of them, and by the hub."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

EVERY_S: Final = 15.0
ENTRY: Final = 4096
"""What a file costs beside its content, in bytes: a million empty ones fill a disk as well."""


class Scales:
    """Weighs each folder now and then, one at a time and beside all other work. `most` is in bytes; 0 is no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weighed_s: dict[int, float] = {}
        self._too_large: set[int] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def too_large(self, launch_id: int, home: Path) -> bool:
        """Whether it held too much when it was last weighed; it is weighed again if that was a while ago."""
        now_s = asyncio.get_running_loop().time()
        if self._most and not self.tasks and now_s - self._weighed_s.get(launch_id, -EVERY_S) >= EVERY_S:
            self._weighed_s[launch_id] = now_s
            task = asyncio.create_task(self._weigh(launch_id, home), name=f"launch.weigh.{launch_id}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return launch_id in self._too_large

    def forget(self, kept: set[int]) -> None:
        """Only these launches are under way."""
        self._weighed_s = {key: at for key, at in self._weighed_s.items() if key in kept}
        self._too_large &= kept

    async def _weigh(self, launch_id: int, home: Path) -> None:
        if await asyncio.to_thread(holds_more, home, self._most):
            self._too_large.add(launch_id)


def holds_more(home: Path, most: int) -> bool:
    """Whether files and folders below take more than `most` bytes of the disk. Links are not followed.

    Its owner may change anything meanwhile: what has gone counts nothing.
    """
    held, folders = 0, [str(home)]
    while folders and held <= most:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    held += ENTRY + entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                if held > most:
                    break
    return held > most
