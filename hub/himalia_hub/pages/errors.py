"""Errors as pages: what happened, what you can do, a number to ask with. Never a stack, no internal names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from himalia_hub import clock
from himalia_hub.errors import HimaliaError, SpawnProblem, TooMany
from himalia_hub.keys import FIGURES
from himalia_hub.languages import later
from himalia_hub.pages.render import page, wants_fragment
from himalia_hub.rbac.guard import public

log = structlog.get_logger()

RETRY_S = 5
REPORT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Story:
    """What a kind of error is called and, where the error itself says nothing, what to do about it."""

    title: str
    remedy: str
    message: str = ""
    retry_s: int | None = None
    plain: bool = False
    """Whether these words go before the error's own, which are for programs."""


BY_CODE = {
    "not-authenticated": Story(later("Please sign in"), later("Sign in, then try again.")),
    "not-authorized": Story(
        later("You may not do this"),
        later("Ask the person who runs this hub for the right, or go back to your home page."),
    ),
    "xsrf": Story(
        later("Please try that again"),
        later("Go back, reload the page and do it again."),
        later("Nothing was done: the page was too old, or somebody else has signed in here since."),
        plain=True,
    ),
    "setup-first": Story(later("This hub is not set up yet"), ""),
    "setup-link-over": Story(later("This link does not work"), ""),
    "password-link-over": Story(later("This link does not work"), ""),
    "over-quota": Story(later("The quota does not allow this"), ""),
    "maintenance": Story(later("Nothing can be started just now"), ""),
    "redirect-loop": Story(later("Your server cannot be reached"), ""),
    "too-many": Story(later("Too much at once"), later("Wait a little, then try again.")),
    "unavailable": Story(
        later("The hub is coming back"),
        later("Nothing is lost. This page tries again by itself."),
        retry_s=RETRY_S,
    ),
}
BY_STATUS = {
    400: Story(later("That did not work"), later("Go back, check what you entered, and try again.")),
    403: Story(later("You may not do this"), later("Go back to your home page.")),
    404: Story(
        later("Not found"),
        later("Check the address, or go on from your home page."),
        later("There is nothing here."),
    ),
    405: Story(
        later("That did not work"),
        later("Go back and use the page's own buttons."),
        later("This page cannot do that."),
    ),
    409: Story(later("Not just now"), later("Wait a moment, then try again.")),
    500: Story(
        later("Something went wrong"),
        later("Try again. If it happens again, tell the person who runs this hub the request number below."),
        later("The hub met a problem of its own."),
    ),
    502: Story(
        later("Your server did not answer"),
        later("Look at its state on your home page."),
        later("It may be restarting."),
    ),
    503: Story(
        later("Your server does not answer"),
        later("It may be starting, busy or stopped. This page tries again; your home page shows its state."),
        later("The hub is fine, but what is behind this address cannot be reached just now."),
        RETRY_S,
    ),
}


def _story(status: int) -> Story:
    return BY_STATUS.get(status) or BY_STATUS[500 if status > 499 else 400]


async def error_page(request: web.Request, error: HimaliaError) -> web.Response:
    """The page of an error, with the error's status."""
    story = BY_CODE.get(error.code) or _story(error.status)
    retry = story.retry_s
    headers = {}
    if isinstance(error, TooMany):
        retry = max(round(error.retry_after_s), 1)
        headers["Retry-After"] = str(retry)
    response = await _page(
        request,
        story,
        status=error.status,
        message=story.message if story.plain else error.message or story.message,
        remedy=story.remedy if story.plain else error.remedy or story.remedy,
        retry_s=retry if request.method in ("GET", "HEAD") else None,
        log_tail=error.log_tail if isinstance(error, SpawnProblem) else (),
        nobody_yet=error.code == "setup-first",
    )
    response.headers.update(headers)
    return response


@public
async def error_for_proxy(request: web.Request) -> web.Response:
    """200 with the page of a status: the proxy fetches it and sends it on with that status."""
    given = request.match_info["code"]
    code = int(given) if given.isascii() and given.isdigit() and 400 <= int(given) <= 599 else 500
    story = _story(code)
    return await _page(
        request,
        story,
        status=200,
        shown=code,
        message=story.message,
        remedy=story.remedy,
        retry_s=story.retry_s,
        log_tail=(),
    )


@public(xsrf_by_hand=True)
async def csp_report(request: web.Request) -> web.Response:
    """204, and a line in the log: a browser refused something that our own policy forbids.

    Browsers send no token of ours with it; it changes nothing, so none is asked for.
    """
    raw = await request.content.read(REPORT_BYTES)
    try:
        body = json.loads(raw).get("csp-report", {})
        directive = str(body.get("effective-directive") or body.get("violated-directive"))[:100]
        blocked = str(body.get("blocked-uri"))[:200].partition("?")[0]
    except (ValueError, AttributeError, RecursionError):
        return web.Response(status=204)
    request.app[FIGURES].csp_reports.inc()
    log.warning("page.csp_report", directive=directive, blocked=blocked)
    return web.Response(status=204)


async def _page(
    request: web.Request,
    story: Story,
    *,
    status: int,
    message: str,
    remedy: str,
    retry_s: int | None,
    log_tail: tuple[str, ...],
    shown: int | None = None,
    nobody_yet: bool = False,
) -> web.Response:
    template = "fragment_problem.html" if wants_fragment(request) else "error.html"
    # Where the proxy shows it, a form of ours has no cookie to prove itself with.
    without: dict[str, Any] = {} if shown is None else {"languages": ()}
    return await page(
        request,
        template,
        status=status,
        code=shown or status,
        title=story.title,
        message=message,
        remedy=remedy,
        retry_s=retry_s,
        log_tail=log_tail,
        when=clock.now(),
        nobody_yet=nobody_yet,
        **without,
    )
