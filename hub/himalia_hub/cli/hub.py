"""`himalia hub`: the hub alone, as a service runs it; servers and proxy outlive it."""

from __future__ import annotations

import argparse

from himalia_hub.cli.common import read_again, settings_from
from himalia_hub.cli.running import run_hub

HELP = "run the hub as a service; people's servers and the proxy go on when it ends"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb: none of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Refuse an old database (it says the command), else run until SIGTERM. SIGHUP reads the configuration again."""
    return run_hub(
        settings_from(args),
        migrate=False,
        keep_servers=True,
        keep_proxy=True,
        load=read_again(args),
        reload_on_hangup=True,
    )
