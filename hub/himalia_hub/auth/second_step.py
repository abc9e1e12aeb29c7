"""The page between a right password and the sign-in, for accounts with a second step.

What was proven so far travels in the form, signed, for five minutes: nothing is kept here for who never comes back.
A changed password makes it worthless.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from aiohttp import web

from himalia_hub.auth import begin, origin, second, tickets, xsrf
from himalia_hub.auth.forms import small_form
from himalia_hub.auth.vault import VAULT
from himalia_hub.errors import HimaliaError, NotAuthenticated, TooMany
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public
from himalia_hub.secrets import hash_token
from himalia_hub.users.models import User

LASTS = timedelta(minutes=5)
PURPOSE = "second-step"

log = structlog.get_logger()


class StepIsOver(NotAuthenticated):
    """The second step came too late, or its form belongs to an older password."""

    code = "second-step-over"

    def __init__(self) -> None:
        super().__init__("This took too long.", remedy="Sign in again.")


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.post(prefix + "login/code", second_step)]


async def ask(request: web.Request, user: User, *, error: HimaliaError | None = None) -> web.Response:
    """The page that asks for the code; `second_step.html` gets `action, ticket, error` (text), `wait_s`."""
    query = request.rel_url.raw_query_string
    wait = int(error.retry_after_s) if isinstance(error, TooMany) else 0
    response = await page(
        request,
        "second_step.html",
        status=error.status if error else 200,
        action=request.app[SETTINGS].hub_prefix + "login/code" + (f"?{query}" if query else ""),
        ticket=tickets.give(request.app, PURPOSE, user, _print_of, lasts=LASTS),
        error=str(error) if error else "",
        wait_s=wait,
    )
    if wait:
        response.headers["Retry-After"] = str(wait)
    return response


@public(xsrf_by_hand=True)
async def second_step(request: web.Request) -> web.Response:
    """302 onwards with cookies; 403 the form again, 429 while a back-off is on."""
    form = await small_form(request)
    await xsrf.check(request)
    user = await tickets.bearer(request.app, PURPOSE, form.get("ticket", ""), _print_of)
    if user is None:
        raise StepIsOver
    return await finish(request, user, form.get("otp", ""), begin.destination(request))


async def finish(request: web.Request, user: User, code: str, location: str) -> web.Response:
    """Check the code and sign in, or ask again."""
    address = origin.address(request)
    try:
        await second.check(request.app[DB], request.app[VAULT], user.id, code[:64], address=address)
    except (second.WrongCode, TooMany) as error:
        log.info("login.refused", reason=error.code, user=user.name, address=address)
        return await ask(request, user, error=error)
    return await begin.sign_in(request, user, location)


def _print_of(user: User) -> str:
    return hash_token(user.password_hash or "")[:16]
