"""`himalia restore`: a hub from its backup."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from himalia_hub import clock
from himalia_hub.backup import restore
from himalia_hub.backup.archive import Unpacked
from himalia_hub.cli.common import settings_from
from himalia_hub.cli.terminal import Terminal
from himalia_hub.config import FILE_NAME
from himalia_hub.folder import only_one, prepare_data_dir
from himalia_hub.settings import HubSettings

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
    """The hub as it was. What is refused changes nothing, and leaves nothing behind."""
    terminal = Terminal(sys.stdout)
    settings = settings_from(args)
    if args.look:
        with restore.opened(args.file, args.file) as unpacked:
            _describe(unpacked, terminal)
        return 0
    with ExitStack() as undo:
        kept = _put_back(args, settings, terminal, undo)
        undo.pop_all()
    for path in kept:
        terminal.note(f"What was there is kept as {path}")
    terminal.done(
        "The hub is as it was; start it as ever. It looks for the servers first and forgets those that ended."
    )
    return 0


def _put_back(
    args: argparse.Namespace, settings: HubSettings, terminal: Terminal, undo: ExitStack
) -> list[Path]:
    """What was kept of what was there. `undo` is what has to happen if this fails."""
    now, replace = clock.now(), args.replace
    restore.undo_folder(settings.data_dir, undo)
    prepare_data_dir(settings.data_dir)
    with only_one(settings.data_dir), restore.opened(args.file, settings.data_dir / "restore") as unpacked:
        _describe(unpacked, terminal)
        kept = restore.restore_files(
            unpacked, settings, now=now, replace=replace, undo=undo, only=[FILE_NAME]
        )
        settings = settings_from(args)  # the configuration is in its place now, and may name the database
        kept += restore.restore_files(unpacked, settings, now=now, replace=replace, undo=undo)
        kept += restore.restore_rows(unpacked, settings, now=now, replace=replace, told=terminal.count)
    return kept


def _describe(unpacked: Unpacked, terminal: Terminal) -> None:
    about = unpacked.manifest
    terminal.done(
        f"A whole backup of hub {about['hub_id']}, made {about['made']} by himalia {about['himalia']} "
        f"at revision {unpacked.revision}"
    )
    for name, count in unpacked.rows.items():
        if count:
            terminal.done(f"{name.replace('_', ' ')}: {count:,}")
