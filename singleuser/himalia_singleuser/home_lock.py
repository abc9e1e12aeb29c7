"""One server at a time in a home that several machines share.

On the machine that was cut off from the others a server may run on while its successor starts elsewhere: two of them
would overwrite each other's notebooks. The storage decides, by a lock that is gone with the process that holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog

from himalia_singleuser.environ import SettingsError

log = structlog.get_logger(__name__)

WAIT_S = 5.0
"""For a predecessor that is just ending."""
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def take(path: Path, holder: str, *, wait_s: float = WAIT_S) -> int | None:
    """The descriptor that holds the lock for the life of this process; None where the storage knows no locks.

    SettingsError, with what `holder` the other one named itself, when it is not free within `wait_s` seconds.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(
            f"the home cannot be locked at {str(path)!r} ({error.strerror}): it must belong to this server's user"
        ) from None
    try:
        _within(wait_s, lambda: fcntl.flock(descriptor, fcntl.LOCK_EX))
    except TimeoutError:
        other = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise SettingsError(
            f"this home is in use by an earlier server ({other or 'unknown'}) that has not ended: it may be on a "
            "machine that is cut off; try again when that one is back, or have it shut down"
        ) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_LOCKS:
            raise SettingsError(f"the home cannot be locked at {str(path)!r}: {error.strerror}") from None
        log.warning("home.storage_has_no_locks", path=str(path))
        return None
    with contextlib.suppress(OSError):  # a full home is locked all the same: safe mode must start in it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC".encode(), 0)
    return descriptor


def _within(seconds: float, work: Callable[[], None]) -> None:
    """TimeoutError when a blocking call has not returned in time; for the main thread, before there is a loop."""
    before = signal.signal(signal.SIGALRM, _too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_late(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError
