"""Databases at this release's schema: made once as a hub makes one, then copied, which spares each test all steps.

The steps themselves are what tests/migration is about.
"""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
from pathlib import Path

import sqlalchemy as sa

from himalia_hub.db import migrate
from himalia_hub.db.engine import sync_url


async def bring(url: str) -> None:
    """What `migrate.upgrade` does: an empty database gets the schema, one that has it stays as it is."""
    await asyncio.to_thread(bring_blocking, url)


def bring_blocking(url: str) -> None:
    """What `bring` does, in this thread."""
    file = Path(str(sync_url(url).database))
    if url.startswith("sqlite") and (not file.exists() or file.stat().st_size == 0):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as out:
            out.write(_sqlite())
    migrate.upgrade_blocking(url)


@functools.cache
def _sqlite() -> bytes:
    with tempfile.TemporaryDirectory(prefix="himalia-schema-") as folder:
        file = Path(folder) / "himalia.sqlite"
        migrate.upgrade_blocking(f"sqlite:///{file}")
        return file.read_bytes()


@functools.cache
def postgres_template(cluster_url: str) -> str:
    """The name of a database of that cluster to make others of: `CREATE DATABASE … TEMPLATE name`."""
    name, cluster = "schema_to_copy", sync_url(cluster_url)
    server = sa.create_engine(cluster, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    migrate.upgrade_blocking(cluster.set(database=name).render_as_string(hide_password=False))
    return name
