"""Making a backup of a hub, running or not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.engine import Connection

from himalia_hub import secrets
from himalia_hub.backup import archive, rows
from himalia_hub.backup.rows import Told
from himalia_hub.config import FILE_NAME
from himalia_hub.db import migrate
from himalia_hub.errors import BadRequest
from himalia_hub.settings import HubSettings


def back_up(settings: HubSettings, to: Path, *, now: datetime, told: Told) -> dict[str, int]:
    """Write a backup of one moment of this hub; rows by table. The hub may go on: what it writes later is not in it.

    BadRequest when `to` is there already or cannot be made; ConfigError when the database is not of this release.
    """
    if to.exists():
        raise BadRequest(f"{str(to)!r} exists already; choose another name")
    with folder_beside(to) as folder:

        def look(connection: Connection, revision: str) -> tuple[str, dict[str, int]]:
            (folder / "rows").mkdir()
            return revision, {
                table.name: _write(
                    folder / "rows" / f"{table.name}.jsonl", rows.dump(connection, table, told)
                )
                - 1
                for table in rows.tables_of(connection)
            }

        revision, written = migrate.read_blocking(settings.db_url, look)
        hub_id = secrets.load_or_create(files_of(settings)["secret"]).hub_id
        (folder / "files").mkdir()
        for name, path in files_of(settings).items():
            if path.is_file():
                shutil.copyfile(path, folder / "files" / name)
        about = {
            "himalia": version("himalia"),
            "revision": revision,
            "hub_id": hub_id,
            "made": now.isoformat(timespec="seconds"),
        }
        archive.pack(folder, about, written, to)
    return written


def _write(path: Path, lines: Iterable[str]) -> int:
    """Write the lines; how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, line in enumerate(lines, 1):  # noqa: B007 - the count outlives the loop
            file.write(line + "\n")
    return count


def files_of(settings: HubSettings) -> dict[str, Path]:
    """The files that a hub cannot make again, by their names in a backup."""
    files = {
        "secret": settings.hub.secret_file or settings.data_dir / "secret",
        FILE_NAME: settings.data_dir / FILE_NAME,
    }
    if settings.auth.crypt_keys_file is not None:
        files["crypt.keys"] = settings.auth.crypt_keys_file
    if settings.proxy.auth_token is None:
        files["proxy.token"] = settings.proxy.auth_token_file or settings.data_dir / "proxy.token"
    return files


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A folder for its owner alone, on the same filesystem."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".himalia-backup-", dir=path.absolute().parent))
    except OSError as error:
        raise BadRequest(f"nothing can be written beside {str(path)!r}: {error.strerror}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
