"""The access log: one line of JSON for each answered request, if somebody asked for it."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Final

from himalia_proxy.activity import iso
from himalia_proxy.errors import StartError

_MOST_BUFFERED: Final = 64 * 1024


class AccessLog:
    """Lines appended to `path` (`-`: standard output), at the latest with the next tick.

    A line has `time` (when the request came), `client`, `method`, `host`, `path`, `status`, `bytes` (of the body
    sent), `seconds`, `route`. The query is left out: it may hold a token. Each write is whole lines, so several
    processes can share a file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._size = 0
        self._file = -1
        self.reopen()

    def reopen(self) -> None:
        """Go on in a new file of that name, after the old one was moved away. StartError if there can be none."""
        self.flush()
        if self._path == "-":
            self._file = sys.stdout.fileno()
            return
        try:
            opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StartError(f"--access-log {self._path!r} cannot be written: {error.strerror}.") from None
        if self._file >= 0:
            os.close(self._file)
        self._file = opened

    def write(
        self,
        *,
        began: float,
        client: bytes,
        method: bytes,
        host: bytes | None,
        path: bytes,
        status: int,
        size: int,
        route: str | None,
    ) -> None:
        """Note a request. `began` is in seconds since 1970; `status` 0: the client left before there was one."""
        line = {
            "time": iso(began),
            "client": _text(client),
            "method": _text(method),
            "host": _text(host or b""),
            "path": _text(path),
            "status": status,
            "bytes": size,
            "seconds": round(max(time.time() - began, 0), 4),
            "route": route,
        }
        encoded = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._lines.append(encoded)
        self._size += len(encoded)
        if self._size > _MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write what waits. A disk that is full costs lines, never requests."""
        if not self._lines:
            return
        data, self._lines, self._size = b"".join(self._lines), [], 0
        try:
            os.write(self._file, data)
        except OSError:
            pass


def _text(data: bytes) -> str:
    return data.decode("latin-1")
