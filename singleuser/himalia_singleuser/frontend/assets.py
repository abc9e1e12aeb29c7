"""Static files of the front ends: found in the first folder that has them, compressed once, cached for ever.

What is compressed is kept in a cache folder on disk, not in memory: a thousand servers share the machine.
A hub may name a folder that was filled beforehand (`HIMALIA_STATIC_CACHE`, filled by
`python -I -m himalia_singleuser.frontend.assets FOLDER`), then no server compresses anything.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from himalia_singleuser.errors import NotFound
from himalia_singleuser.files.send import FileAnswer, send_file

IMMUTABLE = "public, max-age=31536000, immutable"
COMPRESSED = frozenset({".js", ".mjs", ".css", ".json", ".svg", ".html", ".map", ".txt", ".ttf", ".eot"})
WORTH_IT = 1000
MOST_COMPRESSED = 64 * 2**20

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ico": "image/x-icon",
    ".map": "application/json",
}


@dataclass(frozen=True, slots=True)
class Caches:
    """Folders of compressed files: the ones to read, of which the last is ours to fill."""

    folders: Sequence[Path]

    def get(self, file: Path, status: os.stat_result) -> Path | None:
        """The compressed form of `file`, made if need be; None when it cannot be kept."""
        name = _cache_name(file, status)
        for folder in self.folders:
            if (folder / name).is_file():
                return folder / name
        return self._make(file, self.folders[-1] / name) if self.folders else None

    def _make(self, file: Path, target: Path) -> Path | None:
        draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(gzip.compress(file.read_bytes(), 6, mtime=0))
            os.replace(draft, target)
        except OSError:
            draft.unlink(missing_ok=True)
            return None
        return target


CACHES = web.AppKey("CACHES", Caches)


def _cache_name(file: Path, status: os.stat_result) -> str:
    key = hashlib.sha256(f"{file}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()
    return f"{key[:32]}.gz"


def find_asset(folders: Sequence[Path], path: str) -> Path:
    """The first file of that name; NotFound, also for whatever tries to leave the folder."""
    parts = [part for part in path.split("/") if part]
    if parts and not any(part == ".." or "\0" in part or "\\" in part for part in parts):
        for folder in folders:
            file = folder.joinpath(*parts)
            # Not Path.is_file, which raises for a name that is too long for a file.
            if os.path.isfile(file):
                return file
    raise NotFound(f"There is no asset {path!r}")


async def send_asset(
    request: web.Request, folders: Sequence[Path], path: str, *, immutable: bool = False
) -> web.StreamResponse:
    """The asset, compressed when the browser can and it pays."""
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: IMMUTABLE if immutable else "no-cache"}
    file, packed = await asyncio.to_thread(_choose, request, folders, path)
    content_type = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if file.suffix in COMPRESSED:
        headers[hdrs.VARY] = "Accept-Encoding"
    if packed is not None:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    # A compressed copy is younger than its original: browsers must see the date that does not change.
    mtime = file.stat().st_mtime
    return await send_file(request, FileAnswer(packed or file, content_type, headers, mtime))


def _choose(request: web.Request, folders: Sequence[Path], path: str) -> tuple[Path, Path | None]:
    file = find_asset(folders, path)
    accepts = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
    if not accepts or file.suffix not in COMPRESSED or hdrs.RANGE in request.headers:
        return file, None
    status = file.stat()
    if not WORTH_IT <= status.st_size <= MOST_COMPRESSED:
        return file, None
    return file, request.app[CACHES].get(file, status)


def fill(cache: Path, folder: Path) -> int:
    """Compress everything below `folder` into `cache`; the number of files."""
    count = 0
    for file in sorted(folder.rglob("*")):
        if file.suffix in COMPRESSED and file.is_file():
            status = file.stat()
            if WORTH_IT <= status.st_size <= MOST_COMPRESSED:
                count += Caches([cache]).get(file, status) is not None
    return count


def main() -> int:
    """Fill the folder named on the command line with JupyterLab's assets."""
    cache = Path(sys.argv[1])
    total = fill(cache, Path(sys.prefix) / "share/jupyter/lab/static")
    total += fill(cache, Path(sys.prefix) / "share/jupyter/labextensions")
    sys.stdout.write(f"{total} files in {cache}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
