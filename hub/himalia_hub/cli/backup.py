"""`himalia backup`: everything the hub cannot make again, in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from himalia_hub import clock
from himalia_hub.backup.make import back_up
from himalia_hub.cli.common import settings_from
from himalia_hub.cli.terminal import Terminal
from himalia_hub.languages import counted

HELP = (
    "write people, tokens, servers, audit, secrets and configuration into one file; the hub may go on running"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="what to make (default: himalia-backup-MOMENT.tar.gz, here)",
    )


def run(args: argparse.Namespace) -> int:
    """The rows that were written, and what is not in the file."""
    settings, now = settings_from(args), clock.now()
    to = args.file or Path(f"himalia-backup-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    terminal = Terminal(sys.stdout)
    written = back_up(settings, to, now=now, told=terminal.count)
    terminal.done(
        counted(
            "%(num)s row of %(tables)s tables is in %(to)s (%(size)s bytes)",
            "%(num)s rows of %(tables)s tables are in %(to)s (%(size)s bytes)",
            sum(written.values()),
            tables=len(written),
            to=to,
            size=f"{to.stat().st_size:,}",
        )
    )
    terminal.note("It holds the hub's secrets: keep it as you would keep a password.")
    terminal.note("Homes and volumes are not in it: copy those as the folders they are.")
    return 0
