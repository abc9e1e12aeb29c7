"""The data folder: database, secret, logs and homes. Its owner's alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

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
    with (data_dir / "hub.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another hub is running on {str(data_dir)!r}; stop it, or choose another --data"
            ) from None
        yield
