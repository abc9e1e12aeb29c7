"""`himalia up`: database, proxy, hub and spawner in one terminal."""

from __future__ import annotations

import argparse

from himalia_hub.cli.common import read_again, settings_from
from himalia_hub.cli.running import run_hub

HELP = "start everything in this terminal: database, proxy, hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument("--port", type=int, metavar="N", help="public port (proxy.port, default 8000)")
    parser.add_argument("--ip", metavar="ADDRESS", help="public address (proxy.ip, default 127.0.0.1)")
    parser.add_argument(
        "--keep-servers",
        action="store_true",
        help="leave people's servers (and the proxy) running at the end",
    )


def run(args: argparse.Namespace) -> int:
    """Migrate, start, print the address and the way in, run until Ctrl-C."""
    flags = {"proxy.port": args.port, "proxy.ip": args.ip}
    overrides = {key: str(value) for key, value in flags.items() if value is not None}
    settings = settings_from(args, overrides)
    keep = args.keep_servers or not settings.servers.stop_on_exit
    return run_hub(
        settings,
        migrate=True,
        keep_servers=keep,
        keep_proxy=keep,
        load=read_again(args, overrides),
    )
