"""`himalia user`: people, from a terminal or a script."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys

import sqlalchemy as sa
from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit import beside
from himalia_hub.auth import out
from himalia_hub.auth.accounts import end_login
from himalia_hub.auth.cutting import Put, asked_of_proxies
from himalia_hub.auth.password import check_new, hash_password
from himalia_hub.cli.common import open_database, settings_from
from himalia_hub.db.engine import Database
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.replicas.models import CutRow
from himalia_hub.routes.launch import auth_token
from himalia_hub.settings import HubSettings
from himalia_hub.users import store
from himalia_hub.users.models import Login, User
from himalia_proxy.base import ProxyError
from himalia_proxy.client import HttpProxy

HELP = "add people, change a password, list them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Three actions."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    add = actions.add_parser("add", help="a new person", description="Add a person.")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--admin", action="store_true", help="may do everything, and see everyone's servers")
    change = actions.add_parser(
        "passwd",
        help="a new password",
        description="Set a new password; every browser is signed out.",
    )
    change.add_argument("name", metavar="NAME")
    for action in (add, change):
        action.add_argument(
            "--password-stdin", action="store_true", help="read it from standard input (one line)"
        )
    add.add_argument(
        "--no-password", action="store_true", help="an account that uses tokens only and cannot sign in"
    )
    listing = actions.add_parser("list", help="everyone", description="List everyone.")
    listing.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(args: argparse.Namespace) -> int:
    """Do one action."""
    settings = settings_from(args)
    match args.action:
        case "add":
            hashed = None if args.no_password else hash_password(_read_password(settings, args))
            print(f"added {asyncio.run(_add(settings, args, hashed))}")
        case "passwd":
            asyncio.run(_require(settings, args.name))
            hashed = hash_password(_read_password(settings, args))
            print(f"new password for {asyncio.run(_set_password(settings, args.name, hashed))}")
        case _:
            _print_list(asyncio.run(_everyone(settings)), as_json=args.json)
    return 0


def _read_password(settings: HubSettings, args: argparse.Namespace) -> str:
    if args.password_stdin:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password for {args.name}: ")
        if getpass.getpass("Once more: ") != password:
            raise BadRequest("the two passwords differ; nothing was changed")
    else:
        raise BadRequest("there is no terminal to ask for the password; give it with --password-stdin")
    check_new(password, least=settings.auth.password_min_length, name=args.name)
    return password


async def _add(settings: HubSettings, args: argparse.Namespace, hashed: str | None) -> str:
    async with open_database(settings, make=True) as database, database.begin() as db:
        user = await store.create(db, args.name, now=clock.now(), admin=args.admin, password_hash=hashed)
        change = {"after": {"name": user.name, "admin": user.admin}}
        db.add(beside.by_shell("himalia user add", target_user=user.name, change=change))
        return f"administrator {user.name!r}" if user.admin else f"user {user.name!r}"


async def _require(settings: HubSettings, name: str) -> None:
    async with open_database(settings) as database, database.read() as db:
        if await store.by_name(db, store.normalise(name)) is None:
            raise NotFound(f"there is no user {name!r}; `himalia user list` shows everyone")


async def _set_password(settings: HubSettings, name: str, hashed: str) -> str:
    async with open_database(settings) as database:
        async with database.begin() as db:
            user = await store.by_name(db, store.normalise(name))
            if user is None:
                raise NotFound(f"there is no user {name!r}")
            user.password_hash = hashed
            # Whoever knew the old password is signed out, and loses what was issued through that sign-in.
            logins = (await db.scalars(sa.select(Login).where(Login.user_id == user.id))).all()
            gone = out.note(db, [await db.run_sync(end_login, login) for login in logins])
            change = {"after": {"password": "changed"}}
            db.add(beside.by_shell("himalia user passwd", target_user=user.name, change=change))
        if gone is not None:
            await _cut(settings, database, gone)
        return repr(user.name)


async def _cut(settings: HubSettings, database: Database, gone: CutRow) -> None:
    """Have the proxy that this folder knows cut at once what was noted, also where no hub runs. Hubs find the row, and
    tell the proxies that follow them.
    """
    if not (settings.data_dir / "proxy.token").exists():
        return
    app = web.Application()
    app[SETTINGS], app[DB] = settings, database
    proxy = HttpProxy(settings.proxy_api_url, auth_token(settings))
    try:
        for one in await asked_of_proxies(app, Put.read(gone.what)):
            await proxy.cut(login=one.login, route=one.route, tokens=one.tokens)
    except ProxyError:
        pass  # one that is away holds nothing open, or a hub does it
    finally:
        await proxy.close()


async def _everyone(settings: HubSettings) -> list[User]:
    async with open_database(settings) as database, database.read() as db:
        return list(await db.scalars(sa.select(User).order_by(User.name)))


def _print_list(people: list[User], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "name": user.name,
                "admin": user.admin,
                "has_password": user.password_hash is not None,
                "created": clock.iso(user.created),
                "last_activity": clock.iso(user.last_activity),
            }
            for user in people
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max((len(user.name) for user in people), default=0)
    for user in people:
        marks = [word for word, on in (("admin", user.admin), ("no password", not user.password_hash)) if on]
        seen = f"seen {user.last_activity:%Y-%m-%d}" if user.last_activity else "never seen"
        print(f"{user.name:<{width}}  {', '.join([seen, *marks])}")
