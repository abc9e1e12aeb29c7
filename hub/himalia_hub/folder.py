"""The data folder: database, secret, logs and homes. Its owner's alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

from himalia_hub.errors import ConfigError


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
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs: two hubs on one folder would fight over its files."""
    refusal = f"another hub is running on {str(data_dir)!r}; stop it, or choose another --data"
    with _locked(data_dir / "hub.lock", refusal):
        yield


@contextlib.contextmanager
def alone_on_sqlite(db_url: str) -> Iterator[None]:
    """Hold a SQLite database's lock while the block runs: a hub of another folder would find that none of its
    servers runs, and write that down. Of PostgreSQL's hubs each knows of the others.
    """
    url = make_url(db_url)
    file = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not file.name or not file.parent.is_dir():
        yield
        return
    refusal = f"another hub is running on the database {str(file)!r}; SQLite serves one hub: stop it, or use PostgreSQL"
    with _locked(file.with_name(f"{file.name}.lock"), refusal):
        yield


@contextlib.contextmanager
def _locked(file: Path, refusal: str) -> Iterator[None]:
    try:
        lock = file.open("a")
    except OSError as error:
        raise ConfigError(f"{str(file)!r} cannot be opened: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(refusal) from None
        yield
