"""What several verbs need: the settings of a command line, and an open database."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from himalia_hub import config
from himalia_hub.config import Loaded
from himalia_hub.db import migrate
from himalia_hub.db.engine import Database
from himalia_hub.folder import prepare_data_dir
from himalia_hub.settings import HubSettings


def loaded_from(args: argparse.Namespace, overrides: Mapping[str, str] | None = None) -> Loaded:
    """The configuration and its sources. `overrides` come from a verb's own flags and win over all others."""
    return config.load(args.config, args.data, {**args.overrides, **(overrides or {})})


def settings_from(args: argparse.Namespace, overrides: Mapping[str, str] | None = None) -> HubSettings:
    """The settings in force for this command line. ConfigError lists every problem."""
    return loaded_from(args, overrides).settings


@asynccontextmanager
async def open_database(settings: HubSettings) -> AsyncIterator[Database]:
    """The database, made first when it is empty, so that set-up can be scripted before the first start.

    One that holds rows of another release is not changed in passing: SchemaError says the command.
    """
    prepare_data_dir(settings.data_dir)
    if await migrate.current(settings.db_url) is None:
        await migrate.upgrade(settings.db_url)
    else:
        await migrate.check(settings.db_url)
    database = Database(settings.db_url)
    try:
        yield database
    finally:
        await database.close()
