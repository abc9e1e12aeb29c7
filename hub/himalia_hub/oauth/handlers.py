"""The OAuth provider's two addresses: one for the visitor's browser, one for the server."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import ACCESS, tell
from himalia_hub.auth.forms import posted, small_form
from himalia_hub.errors import BadRequest, NotAuthorized
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.oauth import store
from himalia_hub.oauth.provider import (
    Client,
    Refusal,
    ServerClient,
    ServiceClient,
    Wish,
    answer_url,
    read_wish,
    verifier_fits,
)
from himalia_hub.pages.render import page
from himalia_hub.rbac import expand
from himalia_hub.rbac.guard import public, signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.rules import Rules
from himalia_hub.tokens import store as tokens

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "api/oauth2/authorize", authorize),
        web.post(prefix + "api/oauth2/authorize", confirm),
        web.post(prefix + "api/oauth2/token", exchange),
    ]


@signed_in
async def authorize(request: web.Request) -> web.Response:
    """302 back to the server or service with a code, or 200 the question whether it may know the visitor; 302 to the
    sign-in page first. 400 for a client or address that is not known, 403 for who may not go there.
    """
    client, wish, identity = await _read(request)
    if isinstance(wish, Refusal):
        return _refuse(client, wish)
    async with request.app[DB].read() as db:
        known = await store.has_token(db, client, wish.scopes, identity.person, now=clock.now())
    if known or not client.asks(identity.name):
        return await _grant(request, client, wish, list(wish.scopes))
    return await _question(request, client, wish)


async def _question(request: web.Request, client: Client, wish: Wish) -> web.Response:
    """The page with `client_user, client_server` or `client_service`, and `scopes` (name, description)."""
    shown = [
        {"name": scope, "description": request.app[SETTINGS].rules.describe(scope)} for scope in wish.scopes
    ]
    server = client if isinstance(client, ServerClient) else None
    response = await page(
        request,
        "oauth.html",
        scopes=shown,
        client_user=server.username if server else "",
        client_server=server.server_name if server else "",
        client_service="" if isinstance(client, ServerClient) else client.service_name,
    )
    back = urlsplit(client.redirect_uri)
    if back.netloc:
        # A browser holds the answer to a form, a redirect to the service's own address, to `form-action` too.
        policy = response.headers["Content-Security-Policy"]
        there = f"form-action 'self' {back.scheme}://{back.netloc}"
        response.headers["Content-Security-Policy"] = policy.replace("form-action 'self'", there)
    return response


@signed_in
async def confirm(request: web.Request) -> web.Response:
    """302 back to the server with a code for the visit, and the scopes that the visitor agreed to. 400 for a client,
    address or scope that was not asked for, 403 without a sign-in or the right to go there.
    """
    client, wish, _ = await _read(request)
    if isinstance(wish, Refusal):
        return _refuse(client, wish)
    agreed = [str(scope) for scope in (await posted(request)).getall("scopes", [])]
    foreign = sorted(set(agreed) - set(wish.scopes) - {"identify"})
    if foreign:
        raise BadRequest(f"the scope {foreign[0]!r} was not asked for")
    # Who sends the form comes in, whatever it names beside: in JupyterHub a client's token always has its access scope.
    agreed.append(client.access_scope)
    return await _grant(request, client, wish, [scope for scope in wish.scopes if scope in agreed])


async def _read(request: web.Request) -> tuple[Client, Wish | Refusal, Identity]:
    """Client, wish and visitor. A wrong client or redirect URI gets no redirect: it may be an attacker's."""
    identity = request[IDENTITY]
    assert identity is not None  # signed_in
    query = request.query
    async with request.app[DB].read() as db:
        found = await store.clients(db, query.get("client_id", ""), request.app[SETTINGS])
    if not found:
        raise BadRequest(
            "This server or service is not known here.", remedy="It may have been stopped; start it again."
        )
    wanted = query.get("redirect_uri")
    right = [client for client in found if wanted is None or client.redirect_uri == wanted]
    if len(right) != 1:
        raise BadRequest("The redirect_uri is not the one of this server or service.")
    client = right[0]
    _may_visit(identity, client)
    settings = request.app[SETTINGS]
    wish = read_wish(
        query,
        client,
        visitor=identity.name,
        require_pkce=settings.auth.require_pkce,
        rules=settings.rules,
    )
    return client, _within(identity, wish, settings.rules), identity


def _may_visit(identity: Identity, client: Client) -> None:
    if isinstance(client, ServiceClient):
        if not identity.allows("access:services", service=client.service_name):
            raise NotAuthorized(f"You may not open the service {client.service_name}.")
    elif not identity.allows("access:servers", user=client.username, server=client.server_name):
        raise NotAuthorized(f"You may not open the server of {client.username}.")


def _within(identity: Identity, wish: Wish | Refusal, rules: Rules) -> Wish | Refusal:
    """The wish without what its visitor could not give: a token would carry it for nothing."""
    if isinstance(wish, Refusal):
        return wish

    def is_theirs(scope: str) -> bool:
        named = expand.expand((scope,), identity.name, custom=rules.custom)
        return scope == "inherit" or bool(expand.intersect(named, identity.scopes, identity.members))

    return replace(wish, scopes=tuple(filter(is_theirs, wish.scopes)))


async def _grant(request: web.Request, client: Client, wish: Wish, scopes: list[str]) -> web.Response:
    identity = request[IDENTITY]
    assert identity is not None
    if isinstance(client, ServerClient) and identity.name != client.username:
        tell(request, kind=ACCESS, target_user=client.username, target=client.server_name)
    async with request.app[DB].begin() as db:
        code = await store.put_code(
            db,
            client,
            wish,
            scopes,
            user_id=identity.person,
            session_id=identity.session_id,
            now=clock.now(),
        )
    return _redirect(answer_url(client.redirect_uri, code=code, state=wish.state))


def _refuse(client: Client, refusal: Refusal) -> web.Response:
    return _redirect(
        answer_url(
            client.redirect_uri,
            error=refusal.error,
            error_description=refusal.description,
            state=refusal.state,
        )
    )


def _redirect(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})


@public
async def exchange(request: web.Request) -> web.Response:
    """200 `{access_token, token_type, expires_in, scope}` for a code; 400 or 401 `{error}`."""
    form = await small_form(request)
    if form.get("grant_type") != "authorization_code":
        return _error("unsupported_grant_type")
    code = form.get("code")
    if not code:
        return _error("invalid_request", "Missing code parameter.")
    client_id, secret = _client_credentials(request, form)
    settings, now = request.app[SETTINGS], clock.now()
    async with request.app[DB].begin() as db:
        # Which server it is that asks, its secret says: the id alone can mean two.
        found = await store.clients(db, client_id, settings, secret=secret)
        if len(found) != 1:
            return _error("invalid_client", status=401)
        taken = await store.take_code(db, found[0], code, now=now)
        if taken is None:
            return _error("invalid_grant")
        # From here on the code is used up, whatever follows: returning commits.
        if form.get("redirect_uri") != taken.redirect_uri:
            return _error("invalid_request", "Mismatching redirect URI.")
        if not verifier_fits(taken.code_challenge, taken.code_challenge_method, form.get("code_verifier")):
            return _error("invalid_grant", "Code verifier mismatch.")
        lasts = timedelta(days=settings.auth.cookie_max_age_days)
        if taken.session_id is not None:  # nothing that came with a sign-in outlives it
            lasts = min(lasts, await store.left_of(db, taken.session_id, now=now))
        _, token = await tokens.issue(
            db,
            taken.user_id,
            now=now,
            scopes=taken.scopes,
            note=f"Sign-in at {taken.redirect_uri.removesuffix('oauth_callback')}",
            expires_in=lasts,
            client_id=client_id,
            session_id=taken.session_id,
        )
    log.info("oauth.token_issued", client=client_id, user_id=taken.user_id)
    return web.json_response(
        {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(lasts.total_seconds()),
            "scope": " ".join((*taken.scopes, *expand.IDENTIFY)),
        },
        headers={"Cache-Control": "no-store"},
    )


def _client_credentials(request: web.Request, form: dict[str, str]) -> tuple[str, str]:
    """Id and secret from the form, or from HTTP Basic."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except ValueError:  # neither base64 nor text, or bytes that are no ASCII
            return "", ""
        return user, password
    return form.get("client_id", ""), form.get("client_secret", "")


def _error(error: str, description: str = "", *, status: int = 400) -> web.Response:
    body = {"error": error} | ({"error_description": description} if description else {})
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})
