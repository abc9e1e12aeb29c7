"""`himalia singleuser`: one single-user server in this terminal; a spawner starts it without this detour."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from himalia_hub.cli.passing_on import become

HELP = "run one single-user server in this terminal (himalia singleuser --help)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own: everything is passed on."""
    del parser


def run(rest: Sequence[str]) -> int:
    """Become the server."""
    return become("himalia_singleuser", rest)
