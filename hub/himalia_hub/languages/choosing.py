"""Which of the offered languages a request gets: the one chosen on a page, else what the browser asks for."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta

from aiohttp import web

from himalia_hub.auth import next_url, origin
from himalia_hub.auth.cookies import put
from himalia_hub.auth.forms import posted
from himalia_hub.errors import BadRequest
from himalia_hub.keys import SETTINGS
from himalia_hub.languages import speak
from himalia_hub.languages.catalogue import Language, load_all
from himalia_hub.rbac.guard import public
from himalia_hub.settings import HubSettings

COOKIE = "himalia-language"
A_YEAR = timedelta(days=365)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.post(prefix + "language", choose)]


def offered(settings: HubSettings) -> tuple[Language, ...]:
    """The languages of this hub; the first one is for people who ask for none of them."""
    return load_all(tuple(settings.pages.languages), tuple(settings.pages.translation_paths))


@web.middleware
async def speak_it(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything inside is drawn in the reader's language."""
    languages = offered(request.app[SETTINGS])
    chosen = request.cookies.get(COOKIE, "")
    speak(
        next((one for one in languages if one.tag == chosen), None)
        or best(languages, request.headers.get("Accept-Language", "")[:1000])
    )
    return await handler(request)


@functools.lru_cache(maxsize=256)
def best(languages: tuple[Language, ...], accepted: str) -> Language:
    """What `Accept-Language` likes most (RFC 9110 §12.5.4, RFC 4647 §3.4 lookup): `de-AT` takes `de`."""
    by_tag = {one.tag.lower(): one for one in languages}
    for wanted in _by_weight(accepted):
        while wanted:
            if wanted in by_tag:
                return by_tag[wanted]
            wanted = wanted.rpartition("-")[0]  # noqa: PLW2901 -- de-CH-1996, de-CH, de
    return languages[0]


def _by_weight(accepted: str) -> list[str]:
    ranges = []
    for part in accepted.split(","):
        tag, _, parameter = part.partition(";")
        name, _, value = parameter.partition("=")
        try:
            weight = float(value) if name.strip().lower() == "q" else 1.0
        except ValueError:
            weight = 0.0
        if tag.strip() and weight > 0:
            ranges.append((-weight, tag.strip().lower()))
    return [tag for _, tag in sorted(ranges, key=lambda one: one[0])]


@public
async def choose(request: web.Request) -> web.Response:
    """303 back to the page, in the chosen language from now on; 400 for one that is not offered."""
    form = await posted(request)
    settings = request.app[SETTINGS]
    tag = str(form.get("language", ""))
    if tag not in settings.pages.languages:
        raise BadRequest(
            f"{tag[:64]!r} is none of this hub's languages",
            remedy=f"one of {', '.join(settings.pages.languages)}",
        )
    back = next_url.safe_next(
        str(form.get("next", "")),
        own_hosts=origin.own_hosts(request),
        base_url=settings.base_url,
        default=settings.hub_prefix,
    )
    response = web.Response(status=303, headers={"Location": back, "Cache-Control": "no-store"})
    # JupyterLab's pages below the same address have a few sentences of ours: they follow it.
    put(request, response, COOKIE, tag, path=settings.base_url, age=A_YEAR, script_may_read=True)
    return response
