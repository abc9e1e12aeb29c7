"""`himalia restore`: a hub from its backup."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from himalia_hub import clock
from himalia_hub.backup import restore
from himalia_hub.backup.archive import Unpacked
from himalia_hub.cli.common import settings_from
from himalia_hub.cli.terminal import Terminal
from himalia_hub.config import FILE_NAME
from himalia_hub.folder import only_one, prepare_data_dir

HELP = "put a backup back, into SQLite or an empty PostgreSQL database, whichever it was made from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, and what may be put aside for it."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what `himalia backup` made")
    parser.add_argument(
        "--replace", action="store_true", help="keep what is in the place under another name, and go on"
    )
    parser.add_argument(
        "--look", action="store_true", help="say what is in it and whether it is whole; change nothing"
    )


def run(args: argparse.Namespace) -> int:
    """The hub as it was. Everything is checked before anything is changed."""
    terminal = Terminal(sys.stdout)
    settings, now = settings_from(args), clock.now()
    if args.look:
        with restore.opened(args.file, args.file) as unpacked:
            _describe(unpacked, terminal)
        return 0
    prepare_data_dir(settings.data_dir)
    with only_one(settings.data_dir), restore.opened(args.file, settings.data_dir / "restore") as unpacked:
        _describe(unpacked, terminal)
        kept = restore.restore_files(unpacked, settings, now=now, replace=args.replace, only=[FILE_NAME])
        settings = settings_from(args)  # the configuration is in its place now, and may name the database
        kept += restore.restore_files(unpacked, settings, now=now, replace=args.replace)
        kept += restore.restore_rows(unpacked, settings, now=now, replace=args.replace, told=terminal.count)
    for path in kept:
        terminal.note(f"What was there is kept as {path}")
    terminal.done(
        "The hub is as it was; start it as ever. It looks for the servers first and forgets those that ended."
    )
    return 0


def _describe(unpacked: Unpacked, terminal: Terminal) -> None:
    about = unpacked.manifest
    terminal.done(
        f"A whole backup of hub {about['hub_id']}, made {about['made']} by himalia {about['himalia']} "
        f"at revision {unpacked.revision}"
    )
    for name, count in unpacked.rows.items():
        if count:
            terminal.done(f"{count:>9,} {name.replace('_', ' ')}")
