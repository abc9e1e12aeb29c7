"""`himalia import`: from a JupyterHub to here."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path

from himalia_hub import clock
from himalia_hub.audit import beside
from himalia_hub.cli.common import open_database, settings_from
from himalia_hub.cli.terminal import Terminal
from himalia_hub.config import FILE_NAME, load
from himalia_hub.errors import BadRequest
from himalia_hub.importing import config, jupyterhub, sections
from himalia_hub.importing.jupyterhub import Theirs
from himalia_hub.importing.write import write
from himalia_hub.languages import counted
from himalia_hub.settings import HubSettings

HELP = (
    "carry people, groups, tokens, servers, shares and settings of a JupyterHub over, and list what cannot be"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where."""
    sources = parser.add_subparsers(metavar="FROM", required=True, dest="source")
    theirs = sources.add_parser("jupyterhub", help="a JupyterHub 4 to 6", description=HELP)
    theirs.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="jupyterhub.sqlite or a database URL, jupyterhub_config.py, or both",
    )


def run(args: argparse.Namespace) -> int:
    """What was carried, and what was not; 0 however much is left, since it is in words."""
    terminal = Terminal(sys.stdout)
    scripts = [Path(name) for name in args.files if name.endswith(".py")]
    databases = [name for name in args.files if not name.endswith(".py")]
    if len(scripts) > 1 or len(databases) > 1:
        raise BadRequest("one database and one jupyterhub_config.py at a time")
    settings, left = settings_from(args), list[str]()
    named = {"services": frozenset[str](), "roles": frozenset[str]()}
    for script in scripts:
        carried = config.read(script)
        left += _settings(carried, settings.data_dir / FILE_NAME, terminal)
        named = {key: sections.names(carried.values, key) for key in named}
    for database in databases:
        theirs = jupyterhub.read(database, **named)
        made = asyncio.run(_rows(settings, theirs))
        terminal.done(
            ", ".join(_so_many(what, count) for what, count in made.items()) or "every row is here already"
        )
        left += theirs.left
    if left:
        terminal.note(f"{len(left)} thing{'s' if len(left) > 1 else ''} to do by hand:")
        for line in left:
            terminal.hint(line)
    return 0


def _so_many(what: str, count: int) -> str:
    one = "person" if what == "people" else what.removesuffix("s")
    return counted(f"%(num)s {one}", f"%(num)s {what}", count)


def _settings(carried: config.Carried, to: Path, terminal: Terminal) -> list[str]:
    """Write the configuration, never over one that is there."""
    text = config.as_toml(carried.values)
    if to.exists():
        to = to.with_name(f"{to.stem}.imported{to.suffix}")
    to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    to.write_text(text, encoding="utf-8")
    to.chmod(0o600)
    load(to, None, {})  # what they allowed may be refused here: better now, by name, than at the start
    terminal.done(
        counted("%(num)s setting is in %(to)s", "%(num)s settings are in %(to)s", len(carried.values), to=to)
    )
    return carried.left


async def _rows(settings: HubSettings, theirs: Theirs) -> Counter[str]:
    async with open_database(settings, make=True) as database, database.begin() as db:
        made = await write(db, theirs, now=clock.now())
        if made:
            change = {"after": dict(made)}
            db.add(beside.by_shell("himalia import jupyterhub", target_user="", change=change))
        return made
