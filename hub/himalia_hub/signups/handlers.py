"""Asking for an account, by a page that is open to all; and deciding, by the REST API."""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.exc import IntegrityError

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import origin, password, xsrf
from himalia_hub.auth.door import DOOR
from himalia_hub.auth.forms import small_form
from himalia_hub.errors import BadRequest, HimaliaError, NotFound, TooMany
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import NO_ACCESS, public, scoped
from himalia_hub.signups import store
from himalia_hub.signups.models import SignUp
from himalia_hub.users import store as users

LONGEST_NOTE = 500

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    one = prefix + "api/sign-ups/{id}"
    return [
        web.get(prefix + "sign-up", show_form),
        web.post(prefix + "sign-up", sign_up),
        web.get(prefix + "api/sign-ups", get_sign_ups),
        web.post(one, let_in),
        web.delete(one, refuse),
    ]


def is_open(app: web.Application) -> bool:
    """Whether strangers may ask for an account here."""
    return app[DOOR].has_local and app[SETTINGS].auth.sign_up


@public
async def show_form(request: web.Request) -> web.Response:
    """200 the form; 404 where nobody may ask."""
    _must_be_open(request)
    return await _form(request)


@public(xsrf_by_hand=True)
async def sign_up(request: web.Request) -> web.Response:
    """200 that it was received, whoever has the name already; 400 the form again, 429 when one address asks too often.

    A free name and a taken one are answered alike, and take as long: the form tells nobody who is here.
    """
    _must_be_open(request)
    fields = await small_form(request)
    name, given, note = (fields.get(key, "") for key in ("username", "password", "note"))
    name = name.strip()
    try:
        await xsrf.check(request)
        clean = users.normalise(name)
        password.check_new(given, least=request.app[SETTINGS].auth.password_min_length, name=clean)
        if fields.get("password_repeat", "") != given:
            raise BadRequest("the two passwords are not the same")
        if len(note) > LONGEST_NOTE or "\0" in note:
            raise BadRequest(f"the note has {len(note)} characters, {LONGEST_NOTE} are the most")
        asked = SignUp(
            name=clean,
            password_hash=await password.hash_off_loop(given),
            note=note.strip(),
            address=origin.address(request)[:64],
            created=clock.now(),
        )
        waits = await _ask(request, asked)
    except (BadRequest, TooMany, xsrf.XsrfFailed) as error:
        return await _form(
            request, status=error.status, username=name[:255], note=note[:LONGEST_NOTE], error=error
        )
    log.info("sign_up.asked", user=clean, waits=waits)
    return await page(request, "sign_up_asked.html", name=clean)


async def _ask(request: web.Request, asked: SignUp) -> bool:
    try:
        return await request.app[DB].write(lambda db: store.ask(db, asked, now=clock.now()))
    except IntegrityError:  # somebody else at another address was faster with this name
        return False


@scoped("admin:users")
async def get_sign_ups(request: web.Request) -> web.Response:
    """200 who asked for an account and waits, the first first: `id`, `name`, `note`, `address`, `created`."""
    async with request.app[DB].read() as db:
        return web.json_response([_model(one) for one in await store.waiting(db)])


@scoped("admin:users")
async def let_in(request: web.Request) -> web.Response:
    """201 `kind` and `name` of the new account; 404 when it was decided meanwhile, 409 when the name is somebody's."""
    name = await decide(request, _id(request), agree=True)
    return web.json_response({"kind": "user", "name": name}, status=201)


@scoped("admin:users")
async def refuse(request: web.Request) -> web.Response:
    """204 and they are forgotten; 404 when it was decided meanwhile."""
    await decide(request, _id(request), agree=False)
    return web.Response(status=204)


async def decide(request: web.Request, sign_up_id: int, *, agree: bool) -> str:
    """Let somebody in who waits, or forget them; their name. For the API and the page."""
    async with request.app[DB].begin() as db:
        if agree:
            name = (await store.let_in(db, sign_up_id, now=clock.now())).name
        else:
            name = await store.refuse(db, sign_up_id)
    tell(request, target_user=name, change={"after": {"let_in": agree}})
    log.info("sign_up.decided", user=name, let_in=agree)
    return name


def _id(request: web.Request) -> int:
    number = request.match_info["id"]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise NotFound(NO_ACCESS)
    return int(number)


def _must_be_open(request: web.Request) -> None:
    if not is_open(request.app):
        raise NotFound("Accounts of this hub are made by its administrators.", remedy="ask one of them")


def _model(one: SignUp) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "note": one.note,
        "address": one.address,
        "created": clock.iso(one.created),
    }


async def _form(
    request: web.Request,
    *,
    status: int = 200,
    username: str = "",
    note: str = "",
    error: HimaliaError | None = None,
) -> web.Response:
    """`sign_up.html` gets `username, note, longest_note, error` (text), `remedy`, `password_min_length`."""
    response = await page(
        request,
        "sign_up.html",
        status=status,
        username=username,
        note=note,
        longest_note=LONGEST_NOTE,
        error=str(error) if error else "",
        remedy=error.remedy if error else "",
        password_min_length=request.app[SETTINGS].auth.password_min_length,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(int(error.retry_after_s))
    return response
