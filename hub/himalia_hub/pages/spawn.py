"""Starting a server by an address or a form; both lead to its progress page."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.auth.forms import posted
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages import wish
from himalia_hub.pages.cards import card, never_started, tail_of
from himalia_hub.pages.options import RESERVED, options_from_query
from himalia_hub.pages.paths import redirect, safe_next, with_next
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.servers import store
from himalia_hub.servers.view import pending, ready, server_url


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    table: list[web.RouteDef] = []
    for path in ("spawn", "spawn/{user}", "spawn/{user}/{server}"):
        table += [web.get(prefix + path, spawn, allow_head=False), web.post(prefix + path, spawn_form)]
    return table


@signed_in
async def spawn(request: web.Request) -> web.Response:
    """302 to the server when it runs; the form when there is a choice; else start it and 302 to its progress."""
    username, name = target(request)
    settings, after = request.app[SETTINGS], safe_next(request)
    progress = with_next(settings.hub_prefix + "spawn-pending/" + tail_of(username, name), after)
    async with request.app[DB].read() as db:
        server = await store.find(db, username, name)
        member_of = await groups.of_name(db, username)
    if server is not None and ready(server):
        return redirect(after or server_url(settings, username, name))
    if server is not None and pending(server) is not None:
        return redirect(progress)
    options = options_from_query(request.query)
    shown = (
        card(server, username, settings, member_of)
        if server
        else never_started(username, settings, member_of)
    )
    if not _is_a_visit(request) or (shown.offers and options is None):
        return await page(request, "not_running.html", card=shown, after=after)
    await wish.start(request, username, name, dict(options) if options else None)
    return redirect(progress)


@signed_in
async def spawn_form(request: web.Request) -> web.Response:
    """Start it with the form's fields as options; 303 to its progress.

    JupyterHub answers 400 when it runs or starts already. Here a second press of the button is the same wish.
    """
    username, name = target(request)
    settings, after = request.app[SETTINGS], safe_next(request)
    fields = await posted(request)
    options = {
        key: [value for value in fields.getall(key) if isinstance(value, str)]
        for key in dict.fromkeys(fields)
        if key not in RESERVED
    }
    safe_mode = fields.get("_safe_mode") == "1"
    server = await wish.start(request, username, name, dict(options) or None, safe_mode=safe_mode)
    if ready(server):
        return redirect(after or server_url(settings, username, name), status=303)
    return redirect(
        with_next(settings.hub_prefix + "spawn-pending/" + tail_of(username, name), after), status=303
    )


def target(request: web.Request, right: str = "servers") -> tuple[str, str]:
    """Whose server and which one the address names; NotFound when the visitor may not know of it."""
    identity = request[IDENTITY]
    assert identity is not None
    username = request.match_info.get("user", identity.name)
    name = request.match_info.get("server", "").rstrip("/")
    if not identity.allows(right, user=username, server=name):
        raise NotFound("There is no such server, or it is not yours to see.")
    if "/" in name:
        raise BadRequest("That is not the name of a server.")
    return username, name


def _is_a_visit(request: web.Request) -> bool:
    """A person opens the page: not a picture, a frame or a look ahead that somebody else's page causes."""
    headers = request.headers
    return (
        headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and headers.get("Sec-Fetch-Dest", "document") == "document"
        and not headers.get("Sec-Purpose", "").startswith("prefetch")
    )
