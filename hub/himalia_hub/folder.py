"""The data folder: database, secret, logs and homes. Its owner's alone."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from sqlalchemy.engine import make_url

from himalia_hub.errors import ConfigError

LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """Where a hub that runs is found on this machine: itself and through the proxy, each with its prefix, and the REST
    API of the proxy; and its database, without the password. The configuration may have others by now, which count
    after a restart.
    """

    hub: str
    through_proxy: str
    proxy_api: str
    database: str = ""


def shown(db_url: str) -> str:
    """A database's URL without its password."""
    return make_url(db_url).render_as_string(hide_password=True)


def prepare_data_dir(path: Path) -> None:
    """Make the data folder, for its owner alone. ConfigError says why it cannot be used."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (path / "logs").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"the data folder {str(path)!r} cannot be made: {error.strerror}; choose another --data"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the data folder {str(path)!r} is not writable; run as its owner or choose another --data"
        )


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[Callable[[Running], None]]:
    """Hold the folder's lock while the block runs: two hubs on one folder would fight over its files. What is yielded
    tells others where the hub runs (`where_it_runs`).
    """
    refusal = f"another hub is running on {str(data_dir)!r}; stop it, or choose another --data"
    with _locked(data_dir / "hub.lock", refusal) as lock:

        def tell(where: Running) -> None:
            lock.truncate(0)
            lock.write(json.dumps(asdict(where)) + "\n")
            lock.flush()

        yield tell


def where_it_runs(data_dir: Path) -> Running | None:
    """Where the hub of this folder runs; None when none does, or it has not come so far."""
    try:
        with (data_dir / "hub.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Running(**json.loads(lock.read()))
    except (OSError, ValueError, TypeError):
        pass
    return None  # what stands there is of a hub that has ended


async def until_lost(data_dir: Path, db_url: str) -> Path:
    """The file of a hub that runs which was deleted, moved or replaced: its lock, or its SQLite database.

    Both are held open, so that the hub would go on, and all that it writes would be gone with its end. Two looks must
    agree, and a filesystem that only does not answer has lost nothing (docs/decisions/0052).
    """
    held = [data_dir / "hub.lock", *([file] if (file := _sqlite_file(db_url)) else [])]
    known = await asyncio.to_thread(lambda: {path: _identity(path) for path in held})
    suspect = None
    while True:
        await asyncio.sleep(LOOK_S)
        lost = await asyncio.to_thread(_first_lost, known)
        if lost is not None and lost == suspect:
            return lost
        suspect = lost


def _first_lost(known: dict[Path, tuple[int, int] | None]) -> Path | None:
    for path, identity in known.items():
        with contextlib.suppress(OSError):
            if _identity(path) != identity:
                return path
    return None


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None when nothing is there. A file that somebody holds open keeps them."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _sqlite_file(db_url: str) -> Path | None:
    url = make_url(db_url)
    file = Path(url.database or "")
    return file if url.get_backend_name() == "sqlite" and file.name else None


@contextlib.contextmanager
def alone_on_sqlite(db_url: str) -> Iterator[None]:
    """Hold a SQLite database's lock while the block runs: a hub of another folder would find that none of its
    servers runs, and write that down. Of PostgreSQL's hubs each knows of the others.
    """
    file = _sqlite_file(db_url)
    if file is None or not file.parent.is_dir():
        yield
        return
    refusal = f"another hub is running on the database {str(file)!r}; SQLite serves one hub: stop it, or use PostgreSQL"
    with _locked(file.with_name(f"{file.name}.lock"), refusal):
        yield


@contextlib.contextmanager
def _locked(file: Path, refusal: str) -> Iterator[TextIO]:
    try:
        lock = file.open("a")
    except OSError as error:
        raise ConfigError(f"{str(file)!r} cannot be opened: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(refusal) from None
        yield lock
