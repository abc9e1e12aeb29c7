"""A person's tokens: make one with chosen rights, see what was issued to programs, and revoke. Forms only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import cookies, out
from himalia_hub.auth.forms import posted
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.languages import gettext, later, ngettext
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac import expand, rights
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity, token_scopes
from himalia_hub.rbac.scopes import SCOPES
from himalia_hub.tokens import store
from himalia_hub.tokens.handlers import may_issue
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

log = structlog.get_logger()

LASTS = {
    later("an hour"): 3600, later("a day"): 86400, later("a week"): 7 * 86400, later("30 days"): 30 * 86400,
    later("90 days"): 90 * 86400, later("a year"): 365 * 86400,
}  # fmt: skip
USUAL_S = 30 * 86400
LONGEST_NOTE = 200
ALL = "inherit"
ONCE = "himalia-new-token"
"""The cookie that carries a new token over one redirect, so that a reload neither shows it again nor makes another."""
ONCE_FOR = timedelta(minutes=1)

OWN_WORDS = {
    "read:users": later("Read all of your account: name, groups, last activity."),
    "read:users:name": later("Read your name."),
    "read:users:groups": later("Read which groups you are in."),
    "read:users:activity": later("Read when you were last active."),
    "users:activity": later("Report that you are active."),
    "servers": later("See, start, stop and remove your servers."),
    "read:servers": later("See your servers and how they are."),
    "start:servers": later("Start your servers."),
    "delete:servers": later("Stop and remove your servers."),
    "access:servers": later("Open your servers: notebooks, files, terminals."),
    "tokens": later("See, make and revoke your tokens."),
    "read:tokens": later("See your tokens, never their values."),
    "read:shares": later("See with whom your servers are shared."),
    "users:shares": later("See and leave what is shared with you."),
    "read:users:shares": later("See what is shared with you."),
}
"""What the rights that everybody has over their own things let a program do."""


@dataclass(frozen=True, slots=True)
class Right:
    """A box to tick: the scope that it stands for, in the reader's words."""

    scope: str
    words: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A token as its person sees it. `client` is the program that it was issued to; `server` whose own it is."""

    id: int
    note: str
    may: tuple[Right, ...]
    created: datetime
    last_activity: datetime | None
    last_address: str | None
    expires_at: datetime | None
    client: str = ""
    server: str | None = None


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix; the first one is JupyterHub's."""
    return [
        web.get(prefix + "token", show),
        web.post(prefix + "token", make),
        web.post(prefix + "token/revoke", revoke),
    ]


@signed_in
async def show(request: web.Request) -> web.Response:
    """200 the page; right after a token was made, and only then, with its value."""
    identity, secret = _person(request), request.cookies.get(ONCE, "")
    response = await _page(request, identity, secret=secret[:128])
    if secret:
        response.del_cookie(ONCE, path=_here(request))
    return response


@signed_in
async def make(request: web.Request) -> web.Response:
    """303 to the page, which shows the new token's value this once; 400 the form again, with what is wrong."""
    identity, fields = _person(request), await posted(request)
    scopes = [one for one in fields.getall("scopes", ()) if isinstance(one, str)]
    typed = {key: str(fields.get(key, "")) for key in ("note", "lasts")}
    rules = request.app[SETTINGS].rules
    try:
        note, lasts = typed["note"].strip(), _lasts(request, typed["lasts"])
        if not note or len(note) > LONGEST_NOTE:
            raise BadRequest(
                f"The name has {len(note)} characters; 1 to {LONGEST_NOTE} are right.",
                remedy="Say what the token is for.",
            )
        if not scopes:
            raise BadRequest("No right is ticked.", remedy="Tick what the token is for.")
        for scope in scopes:
            rules.check(scope)
        async with request.app[DB].begin() as db:
            owner = await db.get_one(User, identity.person)
            theirs = await rights.of_user(db, owner, rules, now=clock.now())
            may_issue(scopes, owner.name, theirs, identity, rules)
            row, secret = await store.issue(
                db, owner.id, now=clock.now(), scopes=scopes, note=note, expires_in=lasts
            )
    except HimaliaError as problem:
        return await _page(request, identity, typed=typed, ticked=frozenset(scopes), problem=problem)
    tell(request, target_user=identity.name, target=f"a{row.id}", change={"after": {"scopes": scopes}})
    log.info("token.created", owner=identity.name, token_id=row.id, scopes=scopes)
    response = redirect(_here(request), status=303)
    cookies.put(request, response, ONCE, secret, path=_here(request), age=ONCE_FOR)
    return response


@signed_in
async def revoke(request: web.Request) -> web.Response:
    """200 with a question that says what will happen; with `sure` 303 back, and the token is worth nothing."""
    identity, fields = _person(request), await posted(request)
    number = str(fields.get("id", ""))
    if "sure" not in fields:
        async with request.app[DB].read() as db:
            (one,) = await _shown(db, request, [await _own(db, identity, number)])
        return await page(request, "token_revoke.html", token=one)
    async with request.app[DB].begin() as db:
        row = await _own(db, identity, number)
        gone = out.note(db, await store.revoke(db, row))
    await out.cut(request.app, gone)
    tell(request, target_user=identity.name, target=f"a{number}", change={"before": {"note": row.note}})
    log.info("token.deleted", owner=identity.name, token_id=row.id)
    return redirect(_here(request), status=303)


async def _own(db: AsyncSession, identity: Identity, number: str) -> ApiToken:
    known = number.isascii() and number.isdigit() and len(number) < 10
    row = await db.get(ApiToken, int(number)) if known else None
    if row is None or row.user_id != identity.person:
        raise NotFound("This token is gone already.", remedy="Look at your tokens again.")
    return row


def rights_to_give(identity: Identity, custom: Mapping[str, object]) -> tuple[list[Right], list[Right]]:
    """The boxes: what they may do with their own things, and with everybody's. Never more than they hold."""
    mine = [
        Right(f"{name}!user", gettext(words))
        for name, words in OWN_WORDS.items()
        if identity.allows(name, user=identity.name)
    ]
    all_of_it = [
        Right(name, gettext(scope.description)) for name, scope in SCOPES.items() if identity.allows(name)
    ]
    return mine, all_of_it + [Right(name, "") for name in custom if identity.allows(name)]


async def _page(
    request: web.Request,
    identity: Identity,
    *,
    secret: str = "",
    typed: Mapping[str, str] | None = None,
    ticked: frozenset[str] = frozenset(),
    problem: HimaliaError | None = None,
) -> web.Response:
    settings, now = request.app[SETTINGS], clock.now()
    most = settings.auth.token_max_age_s
    async with request.app[DB].read() as db:
        rows = [
            row
            for row in await store.list_for_user(db, identity.person)
            if row.expires_at is None or row.expires_at > now
        ]
        tokens = await _shown(db, request, rows)
    mine, all_of_it = rights_to_give(identity, dict(settings.rules.custom))
    lasts = [(gettext(title), s) for title, s in LASTS.items() if not most or s <= most]
    return await page(
        request,
        "token.html",
        status=problem.status if problem else 200,
        secret=secret,
        own=[one for one in tokens if not one.client and one.server is None],
        servers=[one for one in tokens if one.server is not None],
        programs=[one for one in tokens if one.client],
        mine=mine,
        everybodys=all_of_it,
        lasts=lasts or [(ngettext("%(num)s second", "%(num)s seconds", most) % {"num": most}, most)],
        chosen_lasts=(typed or {}).get("lasts") or str(USUAL_S if (most or USUAL_S) >= USUAL_S else ""),
        note=(typed or {}).get("note", ""),
        ticked=ticked,
        problem=problem,
        longest_note=LONGEST_NOTE,
    )


async def _shown(db: AsyncSession, request: web.Request, rows: list[ApiToken]) -> list[Shown]:
    named = await store.server_names(db, rows)
    rules = request.app[SETTINGS].rules
    return [
        Shown(
            row.id, row.note, tuple(map(in_words, token_scopes(row, rules))), row.created,
            row.last_activity, row.last_address, row.expires_at,
            client="" if row.client_id == store.OWN else row.client_id,
            server=None if row.server_id is None else named.get(row.server_id, ""),
        )
        for row in rows
    ]  # fmt: skip


def in_words(scope: str) -> Right:
    """What a stored scope lets its token do."""
    if scope in (ALL, "self"):
        return Right(scope, gettext("Everything that you may do."))
    name, kind, value = expand.split(scope)
    known = SCOPES.get(name)
    if kind == "user" and not value and name in OWN_WORDS:
        return Right(scope, gettext(OWN_WORDS[name]))
    if known is None:
        return Right(scope, "")
    words = gettext(known.description)
    if kind:
        of = gettext("your own") if kind == "user" and not value else f"{gettext(kind)} {value}".strip()
        words = gettext("%(right)s (%(of)s).") % {"right": words.removesuffix("."), "of": of}
    return Right(scope, words)


def _lasts(request: web.Request, text: str) -> timedelta:
    most = request.app[SETTINGS].auth.token_max_age_s
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not seconds or seconds > (most or max(LASTS.values())):
        raise BadRequest("It is not said how long the token is good.", remedy="Choose one of the times.")
    return timedelta(seconds=seconds)


def _person(request: web.Request) -> Identity:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let them through
    if not identity.allows("tokens", user=identity.name):
        raise NotAuthorized("You may not make tokens.")
    return identity


def _here(request: web.Request) -> str:
    return request.app[SETTINGS].hub_prefix + "token"
