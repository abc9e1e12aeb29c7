"""Bringing the database up to date in a child process, so that alembic never lies in the memory of a hub (11 MB)."""

from __future__ import annotations

import asyncio
import os
import pickle
import traceback
from pathlib import Path
from typing import NoReturn

from himalia_hub.db import migrate
from himalia_hub.errors import ConfigError, HimaliaError, Unavailable


async def upgrade(url: str) -> migrate.Upgrade:
    """As `migrate.upgrade`. For a process that has one thread as yet: with others a fork is not safe.

    The child inherits the locks of the hub's folders: no other hub begins beside an upgrade whose hub was killed.
    """
    if migrate.current_blocking(url) == migrate.head():
        return migrate.upgrade_blocking(url)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _in_child(url, write_end)
    os.close(write_end)
    said = await asyncio.to_thread(_read_and_wait, read_end, child)
    if not said:
        raise RuntimeError("the process that brought the database up to date was killed")
    return _outcome(pickle.loads(said))  # noqa: S301 -- from our own child


def _read_and_wait(read_end: int, child: int) -> bytes:
    with open(read_end, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def _in_child(url: str, write_end: int) -> NoReturn:
    """Say in the pipe what became of it, and end without the manners of an interpreter: they are the hub's."""
    try:
        with open(write_end, "wb") as pipe:
            pipe.write(pickle.dumps(_tried(url)))
    finally:
        os._exit(0)


def _tried(url: str) -> tuple[str, ...]:
    try:
        done = migrate.upgrade_blocking(url)
    except HimaliaError as error:
        return type(error).__name__, error.message, error.remedy
    except BaseException:
        return "", traceback.format_exc()
    return "done", done.before or "", done.after, str(done.copy or "")


def _outcome(said: tuple[str, ...]) -> migrate.Upgrade:
    match said:
        case "done", before, after, copy:
            return migrate.Upgrade(before or None, after, Path(copy) if copy else None)
        case name, message, remedy:
            kinds = {kind.__name__: kind for kind in (migrate.SchemaError, ConfigError, Unavailable)}
            raise kinds.get(name, HimaliaError)(message, remedy=remedy)
        case _:
            raise RuntimeError(f"bringing the database up to date failed: {said[-1]}")
