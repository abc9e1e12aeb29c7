"""`himalia db`: the schema of the database."""

from __future__ import annotations

import argparse
import asyncio

from himalia_hub import secrets
from himalia_hub.audit import beside
from himalia_hub.auth import state
from himalia_hub.auth.vault import Vault
from himalia_hub.cli.common import open_database, settings_from
from himalia_hub.db import migrate
from himalia_hub.errors import ConfigError
from himalia_hub.folder import prepare_data_dir
from himalia_hub.languages import counted
from himalia_hub.settings import HubSettings

HELP = "bring the database to this release, or say where it stands"

ACTIONS = {
    "upgrade": "bring it to this release; SQLite is copied first when there is something to lose",
    "current": "print its revision",
    "rekey": "encrypt what is kept encrypted with the first key of `auth.crypt_keys_file`; older keys may go then",
    "check": "exit 0 when it fits this release; else say what to do",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One action."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    for name, text in ACTIONS.items():
        actions.add_parser(name, help=text, description=text)


def run(args: argparse.Namespace) -> int:
    """Do it and print one line."""
    settings = settings_from(args)
    match args.action:
        case "upgrade":
            if settings.db.url is None:
                prepare_data_dir(settings.data_dir)
            done = migrate.upgrade_blocking(settings.db_url)
            print(
                f"database is now at revision {done}" if done.changed else f"nothing to do at revision {done}"
            )
        case "current":
            print(migrate.current_blocking(settings.db_url) or "empty")
        case "rekey":
            count, lost = asyncio.run(_rekey(settings))
            print(
                counted(
                    "%(num)s value is encrypted with the first key",
                    "%(num)s values are encrypted with the first key",
                    count,
                )
            )
            if lost:
                raise ConfigError(
                    counted(
                        "%(num)s value was encrypted with a key that is not in the file; put it back, or have this "
                        "person sign in anew",
                        "%(num)s values were encrypted with a key that is not in the file; put it back, or have these "
                        "people sign in anew",
                        lost,
                    )
                )
        case _:
            print(f"database fits this release (revision {migrate.check_blocking(settings.db_url)})")
    return 0


async def _rekey(settings: HubSettings) -> tuple[int, int]:
    secret = secrets.load_or_create(settings.hub.secret_file or settings.data_dir / "secret")
    vault = Vault.of(settings, secret)
    async with open_database(settings) as database, database.begin() as db:
        count, lost = await state.rekey(db, vault)
        change = {"after": {"values": count, "without_a_key": lost}}
        db.add(beside.by_shell("himalia db rekey", target_user="", change=change))
        return count, lost
