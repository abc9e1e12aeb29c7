"""`himalia db`: the schema of the database."""

from __future__ import annotations

import argparse

from himalia_hub.cli.common import settings_from
from himalia_hub.db import migrate
from himalia_hub.folder import prepare_data_dir

HELP = "bring the database to this release, or say where it stands"

ACTIONS = {
    "upgrade": "bring it to this release; SQLite is copied first when there is something to lose",
    "current": "print its revision",
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
        case _:
            print(f"database fits this release (revision {migrate.check_blocking(settings.db_url)})")
    return 0
