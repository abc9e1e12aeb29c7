"""The table on disk, so that a restarted proxy serves before any hub has spoken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import Any

from himalia_proxy.activity import parse_time
from himalia_proxy.core import log
from himalia_proxy.errors import BadTarget
from himalia_proxy.table import RouteTable, shown

ACTIVITY_EVERY_S = 60.0
PAUSE_S = 0.1


class Snapshot:
    """Writes the table to `path` after changes: one write at a time, each file whole or not there."""

    def __init__(self, path: str, table: RouteTable) -> None:
        self._path = path
        self._table = table
        self._changed = asyncio.Event()

    def load(self) -> int:
        """Fill the table from the file; how many routes it had. A file that cannot be read counts as none."""
        try:
            with open(self._path, "rb") as file:
                routes = dict(json.load(file)["routes"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("snapshot.unreadable path=%s reason=%r", self._path, str(error))
            return 0
        for path, data in routes.items():
            try:
                self._table.put(path, data, _last(data))
            except (BadTarget, KeyError, TypeError, AttributeError) as error:
                log.warning("snapshot.unreadable path=%s route=%r reason=%r", self._path, path, str(error))
        return len(self._table)

    def changed(self) -> None:
        """The table has changed: write soon."""
        self._changed.set()

    async def keep(self) -> None:
        """Write after changes, and now and then for the times of activity, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), ACTIVITY_EVERY_S)
            self._changed.clear()
            content = self._content()
            try:
                await asyncio.to_thread(_write, self._path, content)
            except OSError as error:
                log.error("snapshot.unwritable path=%s reason=%r", self._path, str(error))
            await asyncio.sleep(PAUSE_S)

    def save(self) -> None:
        """Write now, from the last moments of a process."""
        try:
            _write(self._path, self._content())
        except OSError as error:
            log.error("snapshot.unwritable path=%s reason=%r", self._path, str(error))

    def _content(self) -> bytes:
        routes = {entry.path: shown(entry) for entry in self._table}
        return json.dumps({"version": 1, "routes": routes}, separators=(",", ":")).encode()


def _last(data: dict[str, Any]) -> float:
    try:
        return parse_time(data["last_activity"])
    except (KeyError, ValueError, TypeError):
        return time.time()


def _write(path: str, content: bytes) -> None:
    """Replace the file in one step. Only its owner may read it: targets are nobody else's business."""
    beside = f"{path}.{os.getpid()}.new"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
