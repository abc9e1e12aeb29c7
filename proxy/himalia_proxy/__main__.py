"""`python -I -m himalia_proxy`: one proxy process."""

from __future__ import annotations

import logging
import sys

import uvloop

from himalia_proxy.app import serve
from himalia_proxy.assembly import raise_file_limit
from himalia_proxy.errors import StartError
from himalia_proxy.settings import environ, read_settings
from himalia_proxy.worker import work
from himalia_proxy.workers import inherited

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
        raise_file_limit()
        given = inherited(environ())
        if given is not None:
            uvloop.run(work(settings, given))
            return 0
        for warning in settings.warnings:
            logging.getLogger("himalia.proxy").warning("settings.doubtful reason=%r", warning)
        uvloop.run(serve(settings, sys.argv[1:]))
    except StartError as error:
        print(f"himalia proxy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
