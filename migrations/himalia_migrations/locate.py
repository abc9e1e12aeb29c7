"""Where this folder lies: the same answer in a checkout, a wheel and an image."""

from __future__ import annotations

from importlib.resources import files


def script_location() -> str:
    """The path that alembic calls `script_location`."""
    return str(files("himalia_migrations"))


def revisions() -> list[str]:
    """Every revision, the newest last: the numbers that the files of `versions/` begin with."""
    names = (entry.name for entry in files("himalia_migrations").joinpath("versions").iterdir())
    return sorted(name.partition("_")[0] for name in names if name[:4].isdigit() and name.endswith(".py"))
