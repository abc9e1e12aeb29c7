"""The parents of one hub's servers: one with our server's code loaded, one that executes commands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from himalia_spawner.base import Exit
from himalia_spawner.nest_client import Brood, NestClient, NestUnusable
from himalia_spawner.settings import ProcessSettings

_MAX_UID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class Nests:
    """Both, of which that of commands is made when the first is started. Blocking, as the clients are."""

    own: NestClient
    commands: NestClient

    def __iter__(self) -> Iterator[NestClient]:
        return iter((self.own, self.commands))

    def warm_up(self) -> None:
        """Have what the next start needs, and know of what a hub before this one has left."""
        for prepare in (self.own.ensure, self.commands.adopt):
            with suppress(NestUnusable):  # the next start tries again, and says so
                prepare()

    def renew(self) -> None:
        """Replace what is of yesterday."""
        for each in self:
            with suppress(NestUnusable):
                each.renew()

    def sync(self) -> None:
        """Return when every end there was is written down."""
        for each in self:
            each.sync()

    def exit_of(self, pid: int, ticks: int) -> Exit | None:
        """How that process ended, if its parent wrote it down; told once."""
        return self.own.exit_of(pid, ticks) or self.commands.exit_of(pid, ticks)

    def close(self) -> None:
        """Take leave of both."""
        for each in self:
            each.close()


def nests_for(settings: ProcessSettings, runtime: Path, logs: Path) -> Nests | None:
    """Those of a spawner with these settings, not started yet; None where servers are fresh interpreters."""
    if settings.isolation == "exec":
        return None
    uids = f"{settings.min_uid}-{_MAX_UID}" if settings.system_users else str(os.geteuid())
    if guests := settings.guest_range:
        uids += f",{guests.start}-{guests.stop - 1}"
    rlimits = json.dumps(settings.rlimits, sort_keys=True)
    return Nests(
        NestClient(runtime / "nest", Brood(settings.preload, uids), logs / "nest.log"),
        NestClient(
            runtime / "exec", Brood((), uids, "himalia_spawner.commands", rlimits), logs / "commands.log"
        ),
    )
