"""`python -I -m himalia_singleuser`: the server of one person."""

from __future__ import annotations

import gc
import os
import sys


def main(argv: list[str] | None = None) -> int:
    """0 after an ordinary end, 2 when the settings or the address are wrong."""
    if os.environ.get("HIMALIA_SAFE_MODE") == "1":
        from himalia_singleuser.safe_mode import safe_home

        with safe_home(os.environ):
            return _run(argv)
    return _run(argv)


def _run(argv: list[str] | None) -> int:
    from himalia_singleuser import lean

    lean.import_aiohttp()
    lean.stay_small()
    import structlog

    from himalia_singleuser.environ import SettingsError
    from himalia_singleuser.log_stream import LogStream
    from himalia_singleuser.settings import parse

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(LogStream(2)),  # type: ignore[arg-type]
    )
    try:
        settings = parse(sys.argv[1:] if argv is None else argv, os.environ)
        if settings.set_password and settings.password_file:
            from himalia_singleuser.auth.passwords import ask_and_set

            return ask_and_set(settings.password_file)

        from himalia_singleuser.serve import listen, serve, take_lock

        take_lock(settings)
        listener = listen(settings)
    except SettingsError as error:
        sys.stderr.write(f"himalia singleuser: {error}\n")
        return 2

    import uvloop

    # What start made stays for good: collections need not look at it again.
    gc.collect()
    gc.freeze()
    uvloop.run(serve(settings, listener))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
