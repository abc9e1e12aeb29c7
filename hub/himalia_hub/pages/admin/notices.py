"""Announcements and maintenance: write, preview, change, take down; begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from aiohttp import web
from pydantic import ValidationError

from himalia_hub import clock
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthorized
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.languages import gettext
from himalia_hub.notices import handlers, maintenance, store
from himalia_hub.notices.notice import LEVELS, LONGEST, Level, Notice
from himalia_hub.notices.schemas import AnnouncementBody, MaintenanceBody, maintenance_from, notice_from
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.schemas import sentence

RIGHTS = ("announcements", "maintenance")
NEEDS = {
    "preview": RIGHTS[0],
    "publish": RIGHTS[0],
    "take down": RIGHTS[0],
    "begin": RIGHTS[1],
    "end": RIGHTS[1],
}
FORM = ("id", "level", "text", "starts", "ends")


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/notices", notices), web.post(prefix + "admin/notices", change)]


@signed_in
async def notices(request: web.Request) -> web.Response:
    """200 what is announced, and forms; with `edit` (an id) the form holds that announcement."""
    identity = _viewer(request)
    number = request.query.get("edit", "")
    typed: Mapping[str, str] = {}
    if number and identity.allows("announcements"):
        async with request.app[DB].read() as db:
            one = await store.get(db, _number(number))
        typed = {
            "id": number, "level": one.level, "text": one.text,
            "starts": _local(one.starts), "ends": _local(one.ends),
        }  # fmt: skip
    return await _page(request, identity, typed=typed)


@signed_in
async def change(request: web.Request) -> web.Response:
    """303 back when something was done; 200 the preview; 400 the page again, saying why not."""
    identity = _viewer(request)
    fields = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    does = fields.get("does", "")
    try:
        if does not in NEEDS:
            raise BadRequest(f"{does[:30]!r} cannot be done here")
        if not identity.allows(NEEDS[does]):
            raise NotAuthorized(f"This needs the right “{NEEDS[does]}”.")
        if does == "preview":
            return await _page(request, identity, typed=fields, preview=_written(fields, identity))
        await _do(request, identity, does, fields)
    except HimaliaError as problem:
        return await _page(request, identity, typed=fields, problem=problem)
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin/notices", status=303)


async def _do(request: web.Request, identity: Identity, does: str, fields: Mapping[str, str]) -> None:
    if does == "publish":
        await handlers.put_one(request, _written(fields, identity))
    elif does == "take down":
        await handlers.take_down_one(request, _number(fields.get("id", "")))
    elif does == "begin":
        try:
            body = MaintenanceBody(text=fields.get("why", ""), ends=fields.get("over") or None)
        except ValidationError as error:
            raise BadRequest(sentence(error)) from None
        await handlers.begin(request, maintenance_from(body, identity.name))
    else:
        await handlers.end(request)


def _written(fields: Mapping[str, str], identity: Identity) -> Notice:
    """The announcement in the form. BadRequest when nobody could read it."""
    try:
        body = AnnouncementBody(
            level=cast("Level", fields.get("level", "info")),
            text=fields.get("text", "").replace("\r\n", "\n"),
            starts=fields.get("starts") or None,
            ends=fields.get("ends") or None,
        )
    except ValidationError as error:
        raise BadRequest(sentence(error)) from None
    return notice_from(body, identity.name, _number(fields["id"]) if fields.get("id") else 0)


def _viewer(request: web.Request) -> Identity:
    identity = viewer.must_be(request)
    if not any(identity.allows(right) for right in RIGHTS):
        raise NotAuthorized("This page is for the people who announce things.")
    return identity


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest(f"{text[:40]!r} is not the number of an announcement")
    return int(text)


def _local(when: datetime | None) -> str:
    """As a browser's field of date and time has it; ours are all in UTC."""
    return "" if when is None else f"{when:%Y-%m-%dT%H:%M}"


def _when(one: Notice, now: datetime) -> str:
    if one.over(now):
        return gettext("over")
    return gettext("shown") if one.holds(now) else gettext("coming")


async def _page(
    request: web.Request,
    identity: Identity,
    *,
    typed: Mapping[str, str],
    preview: Notice | None = None,
    problem: HimaliaError | None = None,
) -> web.Response:
    now = clock.now()
    async with request.app[DB].read() as db:
        listed = await store.every(db)
        lasting = await maintenance.get(db, now=now)
    return await page(
        request,
        "admin_notices.html",
        status=problem.status if problem else 200,
        listed=[(one, _when(one, now)) for one in listed],
        lasting=lasting,
        over=typed.get("over", _local(lasting.ends) if lasting else ""),
        why=typed.get("why", lasting.text if lasting else ""),
        typed={name: typed.get(name, "") for name in FORM},
        preview=preview,
        problem=problem,
        levels=LEVELS,
        longest=LONGEST,
    )
