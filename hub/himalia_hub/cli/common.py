"""What several verbs need: the settings of a command line, and an open database."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from himalia_hub import config
from himalia_hub.config import Loaded
from himalia_hub.db import migrate
from himalia_hub.db.engine import Database
from himalia_hub.errors import ConfigError
from himalia_hub.folder import prepare_data_dir
from himalia_hub.settings import HubSettings


def loaded_from(args: argparse.Namespace, overrides: Mapping[str, str] | None = None) -> Loaded:
    """The configuration and its sources. `overrides` come from a verb's own flags and win over all others."""
    return config.load(args.config, args.data, {**args.overrides, **(overrides or {})})


def settings_from(args: argparse.Namespace, overrides: Mapping[str, str] | None = None) -> HubSettings:
    """The settings in force for this command line. ConfigError lists every problem."""
    return loaded_from(args, overrides).settings


def read_again(
    args: argparse.Namespace, overrides: Mapping[str, str] | None = None
) -> Callable[[], HubSettings]:
    """What reads the configuration of this command line once more, for a reload.

    A file that was there and is gone is a ConfigError: to go on with the defaults, which let in other people, is what
    nobody meant who has just begun to replace it.
    """
    known = loaded_from(args, overrides).file

    def read() -> HubSettings:
        nonlocal known
        loaded = loaded_from(args, overrides)
        if known is not None and loaded.file is None:
            raise ConfigError(
                f"{known} is not there any more; put it back, or start the hub again without it"
            )
        known = loaded.file
        return loaded.settings

    return read


@asynccontextmanager
async def open_database(settings: HubSettings, *, make: bool = False) -> AsyncIterator[Database]:
    """The database; with `make` an empty one is made ready, so that set-up can be scripted before the first start.

    Without it, ConfigError where there is none: who mistypes `--data` gets no second hub. One that holds rows of
    another release is not changed in passing: SchemaError says the command.
    """
    if await migrate.current(settings.db_url) is None:
        if not make:
            raise ConfigError(
                f"there is no hub in {str(settings.data_dir)!r}: its database is empty",
                remedy="himalia up makes one; --data names another folder",
            )
        prepare_data_dir(settings.data_dir)
        await migrate.upgrade(settings.db_url)
    else:
        await migrate.check(settings.db_url)
    database = Database(settings.db_url)
    try:
        yield database
    finally:
        await database.close()
