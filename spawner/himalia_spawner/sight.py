"""What runs under a name: told by who watches it, else by its folder, as far as either can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from himalia_spawner import ending, procfs
from himalia_spawner.base import Cause, Exit, Presence, Sighting
from himalia_spawner.claimed import Claims
from himalia_spawner.ledger import Ledger
from himalia_spawner.records import Record
from himalia_spawner.remains import Remains, kept_of
from himalia_spawner.threads import Threads
from himalia_spawner.watching import Watch


class Sight:
    """Looks of one spawner. `tail` gives the last lines that the server of a name wrote."""

    def __init__(
        self,
        ledger: Ledger,
        watch: Watch,
        claims: Claims,
        remains: Remains,
        threads: Threads,
        tail: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._ledger, self._watch, self._claims, self._remains = ledger, watch, claims, remains
        self._threads, self._tail = threads, tail

    async def look(self, name: str) -> Sighting:
        """What runs under `name`; UNKNOWN only while a start is under way that can't be identified yet."""
        if (known := self._watch.alive(name)) is not None:
            return self._present(known)
        folder = self._ledger.folder(name)
        record = folder.read()
        if record is not None and record.name == name and record.running():
            return self._present(record)
        if record is not None and record.pid:
            return await self._absent(record)
        if record is None and not folder.locked():
            return Sighting(Presence.ABSENT)
        # A spawner was killed between its intent and its record, or is between them now.
        adopted = await self._threads.run(self._ledger.identify, name)
        if adopted is not None:
            return self._present(adopted)
        if folder.locked():
            return Sighting(Presence.UNKNOWN, detail="the server is just being started")
        # Read again: the start that was under way may have come to its end meanwhile.
        record = folder.read() or record
        if record is None:
            return Sighting(Presence.ABSENT)
        return self._present(record) if record.running() else await self._absent(record)

    def _present(self, record: Record) -> Sighting:
        self._watch.attend(record)
        hindrance = self._claims.hindrance(record)
        return Sighting(Presence.PRESENT, record.handle, detail=hindrance, listening=not hindrance)

    async def _absent(self, record: Record) -> Sighting:
        await self._watch.settled(record)
        folder = self._ledger.folder(record.name)
        record = folder.read() or record
        if self._claims.lost(record):
            return Sighting(Presence.UNKNOWN, detail="the server's port was taken; it is given another")
        record = await self._remains.examine(record, folder)
        if record.exit_reason:
            cause = Cause(record.exit_cause or Cause.CRASHED)
            how = Exit(record.exit_reason, record.exit_status, record.exit_signal, cause=cause)
        elif not record.pid:
            how = ending.INTERRUPTED
        else:
            how = ending.UNWATCHED if record.boot == procfs.boot_id() else ending.REBOOTED
        how = replace(how, log_tail=self._tail(record.name))
        return Sighting(Presence.ABSENT, exit=how, kept=kept_of(record))
