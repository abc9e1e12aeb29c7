"""Everybody and their servers, for those who run the hub: look, search, start, stop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from aiohttp import web

from himalia_hub.errors import BadRequest, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages import wish
from himalia_hub.pages.cards import Card, cards, revision
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.people import find_people
from himalia_hub.pages.render import page, wants_fragment
from himalia_hub.rbac.guard import signed_in
from himalia_hub.servers import store

PAGE_SIZE = 50
LONGEST_QUERY = 255


@dataclass(frozen=True, slots=True)
class Person:
    """A row of the list."""

    name: str
    admin: bool
    last_activity: datetime | None
    cards: list[Card]


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "admin", admin),
        web.post(prefix + "admin/start", start),
        web.post(prefix + "admin/stop", stop),
    ]


@signed_in
async def admin(request: web.Request) -> web.Response:
    """200 one page of the list; `q` filters by name, `page` counts from 1. Our script gets only the table."""
    _must_be_admin(request)
    needle, number = _where(request.query.get("q", ""), request.query.get("page", "1"))
    settings = request.app[SETTINGS]
    async with request.app[DB].read() as db:
        total, users = await find_people(db, needle, offset=(number - 1) * PAGE_SIZE, limit=PAGE_SIZE)
        rows = await store.list_for_users(db, [user.id for user in users])
    people = [
        Person(user.name, user.admin, user.last_activity, cards(rows[user.id], user.name, settings))
        for user in users
    ]
    shown = [card for person in people for card in person.cards]
    return await page(
        request,
        "fragment_people.html" if wants_fragment(request) else "admin.html",
        people=people,
        total=total,
        needle=needle,
        number=number,
        pages=max(-(-total // PAGE_SIZE), 1),
        first=(number - 1) * PAGE_SIZE + 1,
        rev=revision(shown),
        live=any(card.moving for card in shown),
        link=lambda to: "?" + urlencode(_query(needle, to)) if _query(needle, to) else "?",
    )


@signed_in
async def start(request: web.Request) -> web.Response:
    """Wish somebody's server running; 303 back to the same page of the list."""
    username, name, back = await _form(request, "start:servers")
    await wish.start(request, username, name, None)
    return redirect(back, status=303)


@signed_in
async def stop(request: web.Request) -> web.Response:
    """Wish somebody's server stopped; 303 back to the same page of the list."""
    username, name, back = await _form(request, "delete:servers")
    await wish.stop(request, username, name)
    return redirect(back, status=303)


def _must_be_admin(request: web.Request) -> None:
    identity = request[IDENTITY]
    if identity is None or not identity.allows("admin-ui"):
        raise NotAuthorized("This page is for the people who run the hub.")


async def _form(request: web.Request, right: str) -> tuple[str, str, str]:
    _must_be_admin(request)
    identity = request[IDENTITY]
    assert identity is not None
    fields = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    username, name = fields.get("user", ""), fields.get("server", "")
    if not username:
        raise BadRequest("The form names no person.")
    if not identity.allows(right, user=username, server=name):
        raise NotFound("There is no such server, or it is not yours to change.")
    query = _query(*_where(fields.get("q", ""), fields.get("page", "1")))
    url = request.app[SETTINGS].hub_prefix + "admin"
    return username, name, f"{url}?{urlencode(query)}" if query else url


def _where(needle: str, number: str) -> tuple[str, int]:
    valid = number.isascii() and number.isdigit() and len(number) < 7
    return needle.strip()[:LONGEST_QUERY], max(int(number), 1) if valid else 1


def _query(needle: str, number: int) -> dict[str, str | int]:
    query: dict[str, str | int] = {"q": needle} if needle else {}
    return query | ({"page": number} if number > 1 else {})
