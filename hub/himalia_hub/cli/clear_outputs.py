"""`himalia clear-outputs`: notebooks without outputs, in place or as a git filter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from himalia_hub.cli.passing_on import become

HELP = "remove the outputs of notebooks, in place or as a git filter (himalia clear-outputs --help)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own: everything is passed on."""
    del parser


def run(rest: Sequence[str]) -> int:
    """Become the filter."""
    return become("himalia_singleuser.contents.outputs", rest)
