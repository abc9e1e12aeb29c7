"""Sending a file: types, ranges, unchanged answers, in pieces so that memory stays small.

aiohttp's FileResponse is not used because it prefers a `.gz` neighbour, which is right for assets and wrong
for a person's `data.csv` beside `data.csv.gz`.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

from aiohttp import hdrs, web

from himalia_singleuser.errors import ApiError, Forbidden, NotFound

PIECE = 256 * 1024
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """What is sent: the file, its type, further headers."""

    path: Path
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    mtime: float | None = None
    """The date to tell, when it is not the file's own: that of what a compressed copy was made from."""


async def send_file(request: web.Request, answer: FileAnswer) -> web.StreamResponse:
    """200, 206, 304 or 416, with or without a body as the method says."""
    file, status = await asyncio.to_thread(_open, answer.path)
    try:
        mtime = status.st_mtime if answer.mtime is None else answer.mtime
        headers: dict[str, str] = {
            hdrs.LAST_MODIFIED: http_date(mtime),
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.CONTENT_TYPE: answer.content_type,
            **answer.headers,
        }
        if _unchanged(request, mtime):
            return web.Response(status=304, headers=headers)
        start, end, code = _span(request, status.st_size)
        if code == 416:
            return web.Response(status=416, headers={hdrs.CONTENT_RANGE: f"bytes */{status.st_size}"})
        if code == 206:
            headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{status.st_size}"
        if request.method == hdrs.METH_HEAD:
            headers[hdrs.CONTENT_LENGTH] = str(end - start)
            return web.Response(status=code, headers=headers)
        if end - start <= PIECE:
            data = await asyncio.to_thread(_read, file, start, end - start)
            return web.Response(body=data, status=code, headers=headers)
        return await _stream(request, file, start, end, web.StreamResponse(status=code, headers=headers))
    finally:
        file.close()


def _open(path: Path) -> tuple[BinaryIO, os.stat_result]:
    try:
        # A pipe without a writer would block the thread for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise Forbidden(f"Permission denied: {path.name}") from None
    except OSError:
        raise NotFound(f"{path.name!r} does not exist") from None
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise Forbidden(f"{path.name!r} is not a file")
    return file, status


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    return os.pread(file.fileno(), length, start)


async def _stream(
    request: web.Request, file: BinaryIO, start: int, end: int, response: web.StreamResponse
) -> web.StreamResponse:
    response.content_length = end - start
    await response.prepare(request)
    while start < end:
        data = await asyncio.to_thread(_read, file, start, min(PIECE, end - start))
        if not data:
            # The file became shorter meanwhile: the promised length cannot be kept.
            raise ConnectionResetError("file truncated while it was sent")
        await response.write(data)
        start += len(data)
    await response.write_eof()
    return response


def http_date(seconds: float) -> str:
    """The date format of HTTP headers."""
    return format_datetime(datetime.fromtimestamp(max(0, int(seconds)), UTC), usegmt=True)


def _unchanged(request: web.Request, mtime: float) -> bool:
    since = request.headers.get(hdrs.IF_MODIFIED_SINCE)
    if not since or hdrs.RANGE in request.headers:
        return False
    try:
        moment = parsedate_to_datetime(since)
    except ValueError:
        return False
    return moment.tzinfo is not None and int(mtime) <= moment.timestamp()


def _span(request: web.Request, size: int) -> tuple[int, int, int]:
    """Start, end (exclusive) and status. Several ranges at once, and other units, get the whole file."""
    match = RANGE.fullmatch(request.headers.get(hdrs.RANGE, ""))
    if match is None or match[0] == "bytes=-":
        return 0, size, 200
    first, last = match.groups()
    if len(first) > 18 or len(last) > 18:
        raise ApiError("The range is beyond any file", status=400)
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end, 206) if start < end else (0, 0, 416)
