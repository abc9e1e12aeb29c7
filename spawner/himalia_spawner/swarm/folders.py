"""Folders on shared storage, made for their person where this machine has the storage too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from himalia_spawner.errors import SpawnRefused
from himalia_spawner.swarm.settings import SwarmSettings


def make_missing(paths: Iterable[str], settings: SwarmSettings) -> None:
    """Make each folder that is missing, with the servers' user id, where the folder above it is here.

    Elsewhere only the machines can tell, and do. SpawnRefused when one cannot be made.
    """
    if not settings.make_folders:
        return
    uid, _, gid = settings.user.partition(":")
    for path in map(Path, paths):
        if path.exists() or not path.parent.is_dir():
            continue
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            os.chown(path, int(uid), int(gid or -1))
        except OSError as error:
            raise SpawnRefused(
                f"the folder {str(path)!r} cannot be made for user {settings.user} ({error.strerror}); make it by "
                "hand, or run the hub with the right to"
            ) from error
