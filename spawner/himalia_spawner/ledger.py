"""All servers of one hub on this machine: where their folders are, and whose an unrecorded process is."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from himalia_spawner import procfs, searching
from himalia_spawner.environ import COOKIE, SERVICE_URL
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.names import short_name
from himalia_spawner.records import Folder, Record

_SHORT = re.compile(r"[0-9a-f]{16}")
_SERVERS_LOG = re.compile(r"[a-z][a-z0-9-]*-[a-z2-7]{24}\.log(\.1)?")
SOCKET_PATH_MAX = 107  # sockaddr_un.sun_path holds 108 bytes, the last of them NUL


def runtime_folder(configured: Path | None, data_dir: Path) -> Path:
    """The folder of sockets, locks and records: made if need be, ours alone, and short enough."""
    path = configured or _default_runtime(data_dir)
    longest = len(os.fsencode(path / short_name("") / "sock"))
    if longest > SOCKET_PATH_MAX:
        raise SpawnRefused(
            f"the runtime folder {str(path)!r} makes unix socket paths of {longest} bytes, "
            f"{SOCKET_PATH_MAX} are possible; set spawner.process.runtime_dir to a shorter one"
        )
    try:
        path.mkdir(mode=0o700, parents=configured is not None, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise SpawnRefused(
            f"the runtime folder {str(path)!r} can't be made ({error.strerror}); "
            "set spawner.process.runtime_dir"
        ) from error
    # Under /tmp anybody may have made it first, and would then own our sockets.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o027:
        raise SpawnRefused(
            f"the runtime folder {str(path)!r} must be a folder of the hub's own account that others "
            "can't enter; remove it or chmod 700 it, or set spawner.process.runtime_dir"
        )
    return path


def _default_runtime(data_dir: Path) -> Path:
    key = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:8]
    if os.geteuid() == 0:
        return Path(f"/run/himalia-{key}")
    if (session := os.environ.get("XDG_RUNTIME_DIR", "")) and os.access(session, os.W_OK | os.X_OK):
        return Path(session, f"himalia-{key}")
    return Path(f"/tmp/himalia-{os.geteuid()}-{key}")


class Ledger:
    """The records below one runtime folder. Blocking; all but `folder` read /proc: call in a thread."""

    def __init__(self, runtime: Path, hub: str, logs: Path) -> None:
        self._runtime = runtime
        self._hub = hub
        self._logs = logs
        self._folders = functools.lru_cache(maxsize=4096)(self._folder)

    def folder(self, name: str) -> Folder:
        """Where the server of that name has its lock, record and socket."""
        return self._folders(name)

    def _folder(self, name: str) -> Folder:
        return Folder(f"{self._runtime}/{short_name(name)}")

    def folder_of_mark(self, mark: str) -> Folder:
        """The same by what `traces` calls it."""
        return Folder(self._runtime / mark)

    def stock(self) -> tuple[list[Record], list[Record]]:
        """The records of all that runs here, adopted where needed, and of all that ended."""
        running: dict[str, Record] = {}
        dead: list[Record] = []
        for path in self._runtime.iterdir():
            record = Folder(path).read()
            if record is None:
                continue
            if record.running():
                running[record.name] = record
            elif record.pid:
                dead.append(record)
        known = {*running, *(record.name for record in dead)}
        # A folder may have been deleted under a running server; its processes still tell whose they are.
        for found in searching.carriers(self._hub, leaders=True):
            name = found.cookie.name if found.cookie else ""
            if name and name not in known and (adopted := self.identify(name)) is not None:
                running[name] = adopted
        return list(running.values()), dead

    def traces(self, known: Collection[str]) -> list[str]:
        """Short names of servers that are not `known` and do not run, of which a folder or a log is left."""
        there = {path.name for path in self._runtime.iterdir() if _SHORT.fullmatch(path.name)}
        there |= set(self._logs_by_mark())
        candidates = there - {short_name(name) for name in known}
        return sorted(mark for mark in candidates if not self.folder_of_mark(mark).locked())

    def remove_trace(self, mark: str) -> None:
        """Remove that folder and log, unless the server runs again."""
        folder = self.folder_of_mark(mark)
        lock = folder.lock()
        if lock is None:
            return
        try:
            record = folder.read()
            if record is None or not record.running():
                folder.remove()
                for log in self._logs_by_mark().get(mark, ()):
                    log.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def _logs_by_mark(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self._logs.glob("*.log*"):
            if _SERVERS_LOG.fullmatch(path.name):  # the hub's own programs write into this folder too
                found.setdefault(short_name(path.name.partition(".")[0]), []).append(path)
        return found

    def identify(self, name: str) -> Record | None:
        """The record of a running server whose spawner died before writing it; written now."""
        folder = self.folder(name)
        intent = folder.read()
        if intent is not None and intent.pid:
            return intent if intent.running() else None
        found = searching.find_server(self._hub, name, intent, folder.lock_identity())
        if found is None:
            return None
        record = replace(intent or _reconstructed(name, found), pid=found.pid, ticks=found.ticks)
        if (now := folder.read()) is None or not now.pid:  # else its own spawner was just quicker
            with suppress(OSError):
                folder.path.mkdir(mode=0o700, exist_ok=True)
                folder.write(record)
        return record


def _reconstructed(name: str, found: searching.Found) -> Record:
    """What a server's own environment tells of it, where nothing was written, or it was lost."""
    env = found.env or {}
    cookie = searching.parse_cookie(env.get(COOKIE, ""))
    scheme, _, rest = env.get(SERVICE_URL, "").partition("://")
    url = f"{scheme}://{rest.partition('/')[0]}"
    incarnation = cookie.incarnation if cookie else ""
    return Record(name, incarnation, url, found.uid, procfs.command_of(found.pid), procfs.boot_id(), 0)
