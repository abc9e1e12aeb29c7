"""Who asked for an account, and letting them in or not."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.auth.forms import small_form
from himalia_hub.errors import Conflict, NotFound
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.signups import store
from himalia_hub.signups.handlers import decide

ANSWERS = {"let-in": True, "refuse": False}


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/sign-ups", show), web.post(prefix + "admin/sign-ups", answer)]


@signed_in
async def show(request: web.Request) -> web.Response:
    """200 everybody who waits, the first first."""
    viewer.must_be(request, "admin:users")
    return await _page(request)


@signed_in
async def answer(request: web.Request) -> web.Response:
    """303 to those who still wait; 404, 409 the page with the reason."""
    viewer.must_be(request, "admin:users")
    fields = await small_form(request)
    number, agree = fields.get("id", ""), ANSWERS.get(fields.get("answer", ""))
    try:
        if agree is None or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise NotFound("That is nobody who waits.", remedy="look at the list again")
        await decide(request, int(number), agree=agree)
    except (NotFound, Conflict) as problem:
        return await _page(request, problem)
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin/sign-ups", status=303)


async def _page(request: web.Request, problem: NotFound | Conflict | None = None) -> web.Response:
    async with request.app[DB].read() as db:
        waiting = await store.waiting(db)
    status = problem.status if problem else 200
    return await page(request, "admin_sign_ups.html", status=status, waiting=waiting, problem=problem)
