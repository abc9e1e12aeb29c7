"""`python -I -m himalia_proxy`: one proxy process."""

from __future__ import annotations

import logging
import sys

import uvloop

from himalia_proxy.app import raise_file_limit, serve
from himalia_proxy.errors import StartError
from himalia_proxy.settings import environ, read_settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def main() -> int:
    """Run until stopped: 0, or 1 with a sentence if it cannot start."""
    try:
        settings = read_settings(sys.argv[1:], environ())
        # Not structlog: it would double what an idle proxy needs of memory.
        logging.basicConfig(
            stream=sys.stderr,
            level=_LEVELS[settings.log_level],
            format="%(asctime)s %(levelname)s %(message)s",
        )
        for warning in settings.warnings:
            logging.getLogger("himalia.proxy").warning("settings.doubtful reason=%r", warning)
        raise_file_limit()
        uvloop.run(serve(settings))
    except StartError as error:
        print(f"himalia proxy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
