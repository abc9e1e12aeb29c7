"""What a process spawner writes down about a server, and the lock that proves the server's life.

Each server has a folder `<runtime>/<short name>/` with three files:

- `lock`: locked as long as the server lives. The lock belongs to an open file description that the spawner
  makes and the server inherits, so the kernel keeps it exactly as long as one of the two is there.
- `record`: whose server it is, where it listens, and its pid and start time. It is written twice: before the
  fork without a pid (the intent), and after it with one.
- `sock`: the unix socket of our own server.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from himalia_spawner import procfs
from himalia_spawner.base import Exit, Handle, Limits, ServerRef

_FLOCK = "hhqqi4x"
_NO_LIMITS = Limits()
_UNBORN = '"pid": 0, "ticks": 0}'


@dataclass(frozen=True, slots=True)
class Record:
    """One server as written in its folder. `pid` 0 is the intent: a fork was about to happen, or has."""

    name: str
    incarnation: str
    url: str
    uid: int
    argv: tuple[str, ...]
    boot: str
    since_ticks: int
    """When the intent was written: no process older than that is the server."""
    pid: int = 0
    ticks: int = 0
    exit_reason: str = ""
    exit_status: int | None = None
    exit_signal: int | None = None
    exit_cause: str = ""
    forked: bool = False
    """Whether the nest made it: then how it ended is in the nest's `exits`."""
    limits: Limits = _NO_LIMITS
    cgroups: tuple[str, ...] = ()
    """Folders of the control groups that hold it and all it starts."""
    counted: tuple[int, int] = (0, 0)
    """What those groups had counted before it: processes killed for want of memory, refusals of one more."""
    kept_until: float | None = None
    """Of a server that has ended: until when its kernels wait for the next (seconds since boot), 0 when none do;
    None while nobody has looked.
    """

    @property
    def ref(self) -> ServerRef:
        return ServerRef(self.name, self.incarnation)

    @property
    def handle(self) -> Handle:
        return Handle(self.ref, self.url, {"pid": self.pid, "start_ticks": self.ticks, "uid": self.uid})

    @property
    def text(self) -> str:
        """As it is written down: JSON that ends with pid and start time, for `completed`."""
        # Not `asdict`, which copies the deepest word: that alone was a tenth of a start.
        told = {name: getattr(self, name) for name in _MEMBERS}
        told["limits"] = {name: getattr(self.limits, name) for name in _LIMITS}
        return json.dumps(told)

    def running(self) -> bool:
        """Whether the very process it names runs."""
        here = self.pid > 0 and self.boot == procfs.boot_id()
        return here and procfs.running(self.pid, self.ticks) is not None

    def ended(self, how: Exit) -> Record:
        """The same with its end."""
        return replace(
            self,
            exit_reason=how.reason,
            exit_status=how.status,
            exit_signal=how.signal,
            exit_cause=str(how.cause),
        )


_LIMITS = tuple(each.name for each in fields(Limits))
_MEMBERS = (*(each.name for each in fields(Record) if each.name not in ("pid", "ticks")), "pid", "ticks")


def completed(intent: str, pid: int, ticks: int) -> str:
    """The text of an intent with the process that came of it. ValueError where it is none."""
    if not intent.endswith(_UNBORN):
        raise ValueError("not the text of an intent")
    return f'{intent.removesuffix(_UNBORN)}"pid": {pid}, "ticks": {ticks}}}'


def record_from(data: dict[str, Any]) -> Record:
    """A record from its JSON; ValueError, TypeError or KeyError where it is none."""
    lists = {name: tuple(data.get(name, ())) for name in ("argv", "cgroups")}
    lists["counted"] = tuple(data.get("counted", (0, 0)))
    return Record(**{**data, **lists, "limits": Limits(**data.get("limits", {}))})


class Folder:
    """The runtime folder of one server."""

    def __init__(self, path: Path | str) -> None:
        self._name = os.fspath(path)  # as text: a Path takes longer to make than a look at the record
        self._lock = f"{self._name}/lock"
        self._record = f"{self._name}/record"

    @property
    def path(self) -> Path:
        """The folder itself."""
        return Path(self._name)

    @property
    def socket(self) -> Path:
        """Where our own server listens."""
        return Path(self._name, "sock")

    def lock(self) -> int | None:
        """Take the lock: a descriptor that holds it, or None if somebody else does. Makes the folder."""
        while True:
            try:
                os.mkdir(self._name, 0o700)
            except FileExistsError:
                pass
            try:
                descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # the folder was purged between the two lines above
                continue
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise
            # A purge may have unlinked the file after we opened it: then this lock excludes nobody.
            mine = os.fstat(descriptor)
            if self.lock_identity() == (mine.st_dev, mine.st_ino):
                return descriptor
            os.close(descriptor)

    def hold(self) -> Held | None:
        """The same, to be let go of and taken again."""
        descriptor = self.lock()
        return Held(self, descriptor) if descriptor is not None else None

    def locked(self) -> bool:
        """Whether anybody holds the lock. Only asks: trying it would make a start at this moment fail."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
        finally:
            os.close(descriptor)
        return int(struct.unpack(_FLOCK, answer)[0]) != fcntl.F_UNLCK

    def lock_identity(self) -> tuple[int, int] | None:
        """Device and inode of the lock, to find its holders by."""
        try:
            found = os.stat(self._lock)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def read(self) -> Record | None:
        """The record, or None if there is none that can be read."""
        try:
            descriptor = os.open(self._record, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with open(descriptor, "rb", buffering=0) as file:
            data = file.read()
        try:
            record = record_from(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        return record

    def write(self, record: Record) -> None:
        """Replace the record; a reader, or a successor after a crash, sees the old or the new one whole."""
        self.write_text(record.text)

    def write_text(self, text: str) -> None:
        """The same with a record's text."""
        draft = f"{self._record}.{os.getpid()}"
        data = text.encode()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
        os.replace(draft, self._record)

    def clear(self) -> None:
        """Forget the server: record and socket go. The lock stays: unlinking a lock lets two hold "it"."""
        for path in (self._record, self.socket):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def refresh(self) -> None:
        """Touch everything, so that a cleaner of temporary folders does not take it for forgotten."""
        for path in (self._lock, self._record, self.socket, self.path):
            try:
                os.utime(path)
            except FileNotFoundError:
                continue

    def remove(self) -> None:
        """Delete the folder. The caller holds the lock."""
        self.clear()
        for draft in self.path.glob("record.*"):
            draft.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(self._lock)
        try:
            self.path.rmdir()
        except FileNotFoundError:
            pass


class Held:
    """The lock of a folder while its server is made. Closed at the end: the server has its own by inheritance."""

    def __init__(self, folder: Folder, descriptor: int) -> None:
        self._folder = folder
        self.descriptor: int | None = descriptor

    def fileno(self) -> int:
        """The descriptor that holds it."""
        assert self.descriptor is not None
        return self.descriptor

    def again(self, within_s: float) -> bool:
        """Let go of it and take it again: False where somebody has it still, such as a server that was made."""
        self.close()
        until = time.monotonic() + within_s
        while (found := self._folder.lock()) is None:
            if time.monotonic() > until:
                return False
            select.select((), (), (), 0.02)
        self.descriptor = found
        return True

    def close(self) -> None:
        """Let go."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
