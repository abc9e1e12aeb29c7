"""A person's own page: their browser sign-ins, their password, their second step. Forms only; works without scripts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import accounts, backoff, origin, out, second
from himalia_hub.auth import password as passwords
from himalia_hub.auth.agents import browser_of
from himalia_hub.auth.forms import small_form
from himalia_hub.auth.vault import VAULT
from himalia_hub.errors import BadRequest, Conflict, HimaliaError, NotFound, TooMany
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.languages import gettext
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.users.models import Login, User

log = structlog.get_logger()

REFUSALS = (BadRequest, TooMany, second.WrongCode)


class NotYourPassword(BadRequest):
    """The present password, asked for before something grave, is wrong."""

    code = "wrong-password"

    def __init__(self) -> None:
        super().__init__("Your present password is another one.")


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    here = prefix + "account"
    return [
        web.get(here, show),
        web.post(here + "/password", change_password),
        web.get(here + "/second-step", show_second_step),
        web.post(here + "/second-step", confirm_second_step),
        web.post(here + "/second-step/off", turn_second_step_off),
        web.post(here + "/second-step/codes", new_codes),
        web.post(here + "/sign-out", sign_out),
    ]


def _identity(request: web.Request) -> Identity:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let it through
    return identity


def _person(request: web.Request) -> int:
    """The row of who is signed in: only people have browser sign-ins."""
    user_id = _identity(request).user_id
    assert user_id is not None
    return user_id


@signed_in
async def show(request: web.Request) -> web.Response:
    """200 the page."""
    return await _page(request)


async def _page(
    request: web.Request, *, problem: HimaliaError | None = None, at: str = "", done: str = ""
) -> web.Response:
    """`account.html` gets `logins` (id, where, browser, created, last_seen, here), `has_password`, `second_step`,
    `codes_left`, `problem` and the part of the page it is `at`, `done` (text), `password_min_length`.
    """
    identity = _identity(request)
    async with request.app[DB].read() as db:
        user = await db.get_one(User, _person(request))
        rows = await accounts.logins_of(db, _person(request), now=clock.now())
        on = await db.run_sync(second.is_on, _person(request))
        left = await second.codes_left(db, _person(request))
    mine = identity.login.id if identity.login else None
    return await page(
        request,
        "account.html",
        status=problem.status if problem else 200,
        logins=[_shown(row, mine) for row in rows],
        has_password=user.password_hash is not None,
        second_step=on,
        codes_left=left,
        problem=problem,
        at=at,
        done=done,
        password_min_length=request.app[SETTINGS].auth.password_min_length,
    )


def _shown(row: Login, mine: int | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "where": row.address,
        "browser": browser_of(row.user_agent),
        "created": row.created,
        "last_seen": row.last_seen,
        "here": row.id == mine,
    }


async def _confirm(request: web.Request, given: str) -> User:
    """Who is signed in, after their present password was right. A stolen open browser must not be enough."""
    identity, database = _identity(request), request.app[DB]
    account, address = backoff.account_key(identity.name, known=True), origin.address(request)
    async with database.begin() as db:
        user = await db.get_one(User, _person(request))
        await db.run_sync(backoff.charge, account, backoff.address_key(address), now=clock.now())
    right = (await passwords.verify(user.password_hash, given)).right
    async with database.begin() as db:
        if right:
            await db.run_sync(backoff.succeeded, account)
        else:
            await db.run_sync(backoff.failed, backoff.address_key(address), now=clock.now())
    if not right:
        raise NotYourPassword
    return user


@signed_in
async def change_password(request: web.Request) -> web.Response:
    """200 the page; every other sign-in of this person has ended. 400, 429 with what is wrong."""
    form, least = await small_form(request), request.app[SETTINGS].auth.password_min_length
    new = form.get("password", "")
    try:
        passwords.check_new(new, least=least, name=_identity(request).name)
        if form.get("password_repeat", "") != new:
            raise BadRequest("the two passwords are not the same")
        user = await _confirm(request, form.get("current", ""))
    except REFUSALS as error:
        return await _page(request, problem=error, at="password")
    hashed = await passwords.hash_off_loop(new)
    async with request.app[DB].begin() as db:
        # Only while the present one is still the one that was checked.
        mine = sa.and_(User.id == user.id, User.password_hash == user.password_hash)
        changed = await db.execute(sa.update(User).where(mine).values(password_hash=hashed))
        if not changed.rowcount:  # type: ignore[attr-defined]
            raise Conflict("the password was changed at this moment", remedy="sign in with the newer one")
        ended = await _end_others(request, db)
        gone = out.note(db, ended)
    tell(request, change={"after": {"password": "changed", "sign_ins_ended": len(ended)}})
    await out.cut(request.app, gone)
    log.info("password.changed", user=user.name, sign_ins_ended=len(ended))
    return await _page(request, done=gettext("Your password is changed. Other browsers were signed out."))


async def _end_others(request: web.Request, db: AsyncSession) -> list[accounts.Ended]:
    identity = _identity(request)
    rows = await accounts.logins_of(db, _person(request), now=clock.now())
    others = [row for row in rows if identity.login is None or row.id != identity.login.id]
    return [await db.run_sync(accounts.end_login, row) for row in others]


@signed_in
async def sign_out(request: web.Request) -> web.Response:
    """303 back after ending one sign-in (`login`, a number) or all others (`login=others`). 404 for a foreign one."""
    wanted = (await small_form(request)).get("login", "")
    async with request.app[DB].begin() as db:
        if wanted == "others":
            ended = await _end_others(request, db)
        else:
            rows = await accounts.logins_of(db, _person(request), now=clock.now())
            row = next((row for row in rows if str(row.id) == wanted), None)
            if row is None:
                raise NotFound("this sign-in has ended already")
            ended = [await db.run_sync(accounts.end_login, row)]
        gone = out.note(db, ended)
    await out.cut(request.app, gone)
    tell(request, change={"after": {"sign_ins_ended": len(ended)}})
    return redirect(request.app[SETTINGS].hub_prefix + "account", status=303)


# ------------------------------------------------------------------ the second step


@signed_in
async def show_second_step(request: web.Request) -> web.Response:
    """200 the secret as picture and text, and a form for the first code; 302 back when it is on already."""
    return await _enrol(request)


async def _enrol(request: web.Request, problem: HimaliaError | None = None) -> web.Response:
    """`second_step_on.html` gets `picture`, `secret` (in groups of four), `problem`."""
    identity = _identity(request)
    back = request.app[SETTINGS].hub_prefix + "account"
    async with request.app[DB].begin() as db:
        user = await db.get_one(User, _person(request))
        if user.password_hash is None or await db.run_sync(second.is_on, user.id):
            return redirect(back)
        secret = await second.begin(db, request.app[VAULT], user.id)
    address = second.address_for_apps(secret, identity.name, request.host)
    return await page(
        request,
        "second_step_on.html",
        status=problem.status if problem else 200,
        picture=second.picture(address),
        secret=" ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        problem=problem,
    )


@signed_in
async def confirm_second_step(request: web.Request) -> web.Response:
    """200 the recovery codes, shown this once; 403 the form again. The second step is on."""
    identity = _identity(request)
    code = (await small_form(request)).get("otp", "")[:64]
    try:
        async with request.app[DB].begin() as db:
            codes = await second.confirm(db, request.app[VAULT], _person(request), code)
    except second.WrongCode as error:
        return await _enrol(request, error)
    tell(request, change={"after": {"second_step": "on"}})
    log.info("second_step.on", user=identity.name)
    return await page(request, "recovery_codes.html", codes=codes)


@signed_in
async def turn_second_step_off(request: web.Request) -> web.Response:
    """200 the page, without a second step; 400, 429 with what is wrong."""
    try:
        user = await _confirm(request, (await small_form(request)).get("current", ""))
    except REFUSALS as error:
        return await _page(request, problem=error, at="second-step")
    async with request.app[DB].begin() as db:
        await second.turn_off(db, user.id)
    tell(request, change={"after": {"second_step": "off"}})
    log.info("second_step.off", user=user.name)
    return await _page(request, done=gettext("The second step is off."))


@signed_in
async def new_codes(request: web.Request) -> web.Response:
    """200 fresh recovery codes; the older ones are worth nothing now. 400, 429 with what is wrong."""
    try:
        user = await _confirm(request, (await small_form(request)).get("current", ""))
    except REFUSALS as error:
        return await _page(request, problem=error, at="second-step")
    async with request.app[DB].begin() as db:
        if not await db.run_sync(second.is_on, user.id):
            return redirect(request.app[SETTINGS].hub_prefix + "account", status=303)
        codes = await second.new_recovery_codes(db, user.id)
    tell(request, change={"after": {"recovery_codes": "new"}})
    return await page(request, "recovery_codes.html", codes=codes)
