"""Writing so that a reader sees the old file or the new one, never half, and a full disk loses nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from himalia_singleuser.errors import ApiError, Forbidden, NotFound


def write(file: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of `file` (or of what it links to). Raises ApiError that says why not."""
    target = Path(os.path.realpath(file))
    try:
        _replace(target, data, durable=durable)
    except OSError as error:
        raise explain(error, file.name) from None


def _replace(target: Path, data: bytes, *, durable: bool) -> None:
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is read-only")
    except FileNotFoundError:
        mode = None
    draft = target.with_name(f".~{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except PermissionError:
        if mode is None:
            raise
        # A file we may write in a folder we may not: there is no room beside it for a draft.
        target.write_bytes(data)
        return
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            if mode is not None:
                os.fchmod(out.fileno(), mode)
            # Without this a crash of the machine may leave the new name with no content.
            if durable:
                os.fsync(out.fileno())
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def take_place(draft: Path, target: Path) -> None:
    """A finished draft becomes the file, with the mode the file had. OSError when it cannot."""
    with open(draft, "rb") as inside:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(inside.fileno(), stat.S_IMODE(target.stat().st_mode))
        os.fsync(inside.fileno())
    os.replace(draft, target)


def explain(error: OSError, name: str) -> ApiError:
    """The answer for what the file system said."""
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Forbidden(f"Permission denied: {name}")
        case errno.ENOENT:
            return NotFound(f"The folder of {name!r} does not exist")
        case errno.ENOTDIR:
            return NotFound(f"A part of the path of {name!r} is a file, not a folder")
        case errno.ENOSPC | errno.EDQUOT:
            return ApiError(f"No space left to save {name!r}: the old content is kept", status=507)
        case errno.ENAMETOOLONG:
            return ApiError(f"The name {name[:60]!r}... is too long for this file system", status=400)
        case errno.EFBIG:
            return ApiError(f"{name!r} would be larger than files may be here", status=413)
        case errno.EISDIR:
            return ApiError(f"{name!r} is a directory", status=400, reason="bad type")
        case _:
            return ApiError(f"{name!r}: {error.strerror or error}")
