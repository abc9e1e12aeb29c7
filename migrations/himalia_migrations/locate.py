"""Where this folder lies: the same answer in a checkout, a wheel and an image."""

from __future__ import annotations

from importlib.resources import files


def script_location() -> str:
    """The path that alembic calls `script_location`."""
    return str(files("himalia_migrations"))
