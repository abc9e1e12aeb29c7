"""`himalia token NAME`: an API token for scripts, printed once."""

from __future__ import annotations

import argparse
import asyncio
import re
from datetime import timedelta

from himalia_hub import clock
from himalia_hub.audit import beside
from himalia_hub.cli.common import open_database, settings_from
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.rbac import expand, rights, roles
from himalia_hub.rbac.rights import Rights
from himalia_hub.rbac.rules import Rules
from himalia_hub.settings import HubSettings
from himalia_hub.tokens import store as tokens
from himalia_hub.users import store as users

HELP = "make an API token for a user and print it, nothing else, on standard output"

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, for what, how long, and with which rights."""
    parser.add_argument("name", metavar="NAME", help="the user who will own it")
    parser.add_argument("--note", default="made with `himalia token`", help="what it is for")
    parser.add_argument(
        "--expires-in", type=duration, metavar="TIME", help="such as 90s, 15m, 12h, 30d (default: never)"
    )
    parser.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="a right it carries; may be repeated (default: inherit, everything its owner may do)",
    )


def run(args: argparse.Namespace) -> int:
    """Make and print it."""
    secret = asyncio.run(_make(settings_from(args), args))
    print(secret)
    return 0


def duration(text: str) -> timedelta:
    """A time span with its unit; bare numbers are seconds."""
    matched = re.fullmatch(r"(\d+)([smhdw]?)", text)
    if not matched or not int(matched[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time span; write one like 90s, 15m, 12h or 30d")
    try:
        return timedelta(seconds=int(matched[1]) * UNITS[matched[2]])
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is longer than a computer's calendar") from None


async def _make(settings: HubSettings, args: argparse.Namespace) -> str:
    async with open_database(settings) as database, database.begin() as db:
        user = await users.by_name(db, users.normalise(args.name))
        if user is None:
            raise NotFound(f"there is no user {args.name!r}; make one with: himalia user add {args.name}")
        scopes = args.scope or list(roles.TOKEN)
        held = await rights.of_user(db, user, settings.rules, now=clock.now())
        _refuse_more_than_owned(scopes, user.name, held, settings.rules)
        row, secret = await tokens.issue(
            db,
            user.id,
            now=clock.now(),
            scopes=scopes,
            note=args.note,
            expires_in=args.expires_in,
        )
        change = {"after": {"scopes": scopes}}
        db.add(beside.by_shell("himalia token", target_user=user.name, target=f"a{row.id}", change=change))
    return secret


def _refuse_more_than_owned(scopes: list[str], owner: str, held: Rights, rules: Rules) -> None:
    for scope in scopes:
        rules.check(scope)
    expanded = {scope: expand.expand((scope,), owner, custom=rules.custom) for scope in scopes}
    wanted = [s for s in scopes if not expand.covers_all(held.scopes, expanded[s], held.members)]
    if wanted:
        raise BadRequest(f"{owner!r} does not hold {', '.join(wanted)}, so no token of theirs can")
