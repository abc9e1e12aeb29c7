"""`himalia proxy`: the routing process alone, with configurable-http-proxy's options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from himalia_hub.cli.passing_on import become

HELP = "run the proxy alone; takes configurable-http-proxy's options (himalia proxy --help)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own: everything is passed on."""
    del parser


def run(rest: Sequence[str]) -> int:
    """Become the proxy."""
    return become("himalia_proxy", rest)
