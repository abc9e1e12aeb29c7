"""Putting a backup back: onto a clean machine, or in the place of what is there."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import Connection, make_url

from himalia_hub.backup import archive, rows
from himalia_hub.backup.archive import Unpacked
from himalia_hub.backup.make import files_of, folder_beside
from himalia_hub.backup.rows import Told
from himalia_hub.db import migrate
from himalia_hub.errors import BadRequest, ConfigError, Conflict
from himalia_hub.settings import HubSettings


@contextmanager
def opened(backup: Path, beside: Path) -> Iterator[Unpacked]:
    """A backup taken apart in a folder beside `beside`, which goes with the block."""
    with folder_beside(beside) as folder:
        yield archive.unpack(backup, folder)


def undo_folder(folder: Path, undo: ExitStack) -> None:
    """Have `undo` take away what is not there yet of a data folder, its parents, its logs and its lock."""
    for path in (*reversed(folder.parents), folder, folder / "logs"):
        if not path.exists():
            undo.callback(_remove_if_empty, path)
    lock = folder / "hub.lock"
    if not lock.exists():
        undo.callback(lock.unlink, missing_ok=True)


def restore_files(
    unpacked: Unpacked,
    settings: HubSettings,
    *,
    now: datetime,
    replace: bool,
    undo: ExitStack,
    only: Collection[str] | None = None,
) -> list[Path]:
    """Put secrets and configuration where the settings want them; what was kept of the old ones.

    `only` these, by their names in a backup: the configuration comes first, since it may say where the rest belongs.
    Conflict, before anything is changed, when another file is there and `replace` does not allow it. `undo` puts all
    back as it was, for when what follows is refused.
    """
    there = unpacked.files()
    wanted = {
        path: there[name]
        for name, path in files_of(settings).items()
        if name in there and (only is None or name in only)
    }
    differing = [
        path for path, new in wanted.items() if path.exists() and path.read_bytes() != new.read_bytes()
    ]
    if differing and not replace:
        raise Conflict(
            f"{str(differing[0])!r} is there and is not the one of the backup; give --replace to keep it under another "
            "name and go on"
        )
    kept = []
    for path in differing:
        kept.append(_set_aside(path, now))
        undo.callback(kept[-1].rename, path)
    for path, new in wanted.items():
        for parent in reversed(path.parents):
            if not parent.exists():
                undo.callback(_remove_if_empty, parent)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            new.unlink()
        else:
            shutil.move(new, path)  # it may lie on another filesystem
            undo.callback(path.unlink)
    return kept


def restore_rows(
    unpacked: Unpacked, settings: HubSettings, *, now: datetime, replace: bool, told: Told
) -> list[Path]:
    """Fill the database and bring it to this release; what was kept of the old one. All of it or nothing.

    Conflict when there are rows already: a SQLite file can be kept under another name by `replace`, a PostgreSQL
    database is never emptied by us.
    """
    url = make_url(settings.db_url)
    if url.get_backend_name() != "sqlite":
        if not _is_empty(settings.db_url):
            raise Conflict(
                "the database is not empty, and restoring never empties a PostgreSQL database; make a new one and "
                "name it in db.url"
            )
        migrate.build_blocking(
            settings.db_url, unpacked.revision, lambda connection: _fill(connection, unpacked, told)
        )
        return []
    file = Path(url.database or "")
    if file.exists() and not replace and not _is_empty(settings.db_url):
        raise Conflict(
            f"{str(file)!r} holds a hub already; give --replace to keep it under another name and go on"
        )
    made = file.with_name(file.name + ".restoring")
    try:
        made.unlink(missing_ok=True)
        made.touch(mode=0o600)
    except OSError as error:
        raise ConfigError(f"the database {str(file)!r} cannot be made: {error.strerror}") from None
    try:
        new_url = url.set(database=str(made)).render_as_string(hide_password=False)
        migrate.build_blocking(
            new_url, unpacked.revision, lambda connection: _fill(connection, unpacked, told)
        )
        kept = [_set_aside(file, now)] if file.exists() else []
        for old in kept:
            for end in ("-wal", "-shm"):
                if (log := file.with_name(file.name + end)).exists():
                    log.rename(old.with_name(old.name + end))
        made.rename(file)
    finally:
        made.unlink(missing_ok=True)
    return kept


def _fill(connection: Connection, unpacked: Unpacked, told: Told) -> None:
    tables = rows.tables_of(connection)
    if unknown := sorted(set(unpacked.rows) - {table.name for table in tables}):
        raise BadRequest(
            f"the backup has a table {unknown[0]!r} that revision {unpacked.revision!r} does not have"
        )
    for table in tables:
        if table.name not in unpacked.rows:
            continue
        with unpacked.table(table.name).open(encoding="utf-8") as lines:
            found = rows.load(connection, table, lines, told)
        if found != unpacked.rows[table.name]:
            raise BadRequest(
                f"the backup has {found} rows of {table.name!r} and says {unpacked.rows[table.name]}"
            )


def _is_empty(url: str) -> bool:
    return migrate.current_blocking(url) is None


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _set_aside(path: Path, now: datetime) -> Path:
    kept = path.with_name(f"{path.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")
    path.rename(kept)
    return kept
