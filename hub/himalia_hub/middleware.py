"""Around every handler: request id, log line, errors to answers, who asks, cross-site protection, headers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

import sqlalchemy.exc
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from sqlalchemy.orm.exc import StaleDataError

from himalia_hub import clock
from himalia_hub.audit.record import record_request
from himalia_hub.auth import origin, setup, xsrf
from himalia_hub.auth.cookies import is_secure
from himalia_hub.db.engine import is_full
from himalia_hub.errors import (
    RETRY_AFTER_S,
    BadRequest,
    Conflict,
    HimaliaError,
    NotAuthenticated,
    TooMany,
    Unavailable,
    sentence,
)
from himalia_hub.info import VERSION_HEADERS
from himalia_hub.keys import IDENTITY, REQUEST_ID, SETTINGS
from himalia_hub.languages.choosing import speak_it
from himalia_hub.metrics.requests import count
from himalia_hub.notices.maintenance import UnderMaintenance
from himalia_hub.pages.errors import error_page
from himalia_hub.rbac.guard import Access, access_of, is_api
from himalia_hub.rbac.resolve import resolve
from himalia_hub.rbac.touch import TOUCHES, Touches, touching
from himalia_hub.secrets import mint

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SHOWN_PATH = 200
API_POLICY = "frame-ancestors 'none'; default-src 'none'"
PAGE_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)

log = structlog.get_logger()


class UnknownPathError(HimaliaError):
    """The API has nothing at this path, or nothing for this method."""

    code = "not-found"

    def __init__(self, status: int) -> None:
        super().__init__("")
        self.status = status
        self.code = "not-found" if status == 404 else "method-not-allowed"


class BadHttpError(HimaliaError):
    """aiohttp itself refused the request, such as one with a body beyond the limit."""

    def __init__(self, error: web.HTTPException) -> None:
        super().__init__((error.reason or "").rstrip(".") + ".")
        self.status = error.status
        self.code = "http"


class UnexpectedError(HimaliaError):
    """A bug, or a part that failed in a way nobody thought of. The log has the cause under the request id."""

    code = "internal"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"Something went wrong in the hub. The request id is {request_id}.")


def stack(lead_home: Middleware) -> list[Middleware]:
    """The middlewares, outermost first. `lead_home` keeps the pages to the hub's own host."""
    return [log_request, speak_it, record_request, answer_errors, lead_home, identify, setup_gate()]


def install(app: web.Application) -> None:
    """What goes with `stack()`: headers also on streams, and the writing of activity."""
    app[TOUCHES] = Touches()
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(touching)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """The version that clients of JupyterHub look for, and what browsers must not do with our answers."""
    headers = response.headers
    headers.update(VERSION_HEADERS)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    headers.setdefault("Referrer-Policy", "same-origin")
    if REQUEST_ID in request:
        headers.setdefault("X-Request-Id", request[REQUEST_ID])
    if is_api(request) and response.content_type != "text/html":
        headers.setdefault("Content-Security-Policy", API_POLICY)
        headers.setdefault("Access-Control-Allow-Headers", "accept, content-type, authorization")
    elif response.content_type == "text/html":
        headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    if request.get(IDENTITY) is not None:
        headers.setdefault("Cache-Control", "no-store")
    if is_secure(request):
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")


@web.middleware
async def log_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id and, once answered, its line in the log: never the query, never a header."""
    request[REQUEST_ID] = mint(9)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    began = time.monotonic()
    response = await handler(request)
    count(request, response.status, time.monotonic() - began)
    level = "warning" if response.status >= 500 else "info" if request.method not in xsrf.SAFE else "debug"
    getattr(log, level)(
        "request.done",
        method=request.method,
        path=_shown_path(request),
        status=response.status,
        ms=round((time.monotonic() - began) * 1000, 1),
    )
    return response


def _shown_path(request: web.Request) -> str:
    """The path, without the secret that one of JupyterHub's old addresses has in it."""
    resource = request.match_info.route.resource
    if "secret" in request.match_info and resource is not None:
        return resource.canonical
    return request.path[:SHOWN_PATH]


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """JSON under the API, a page elsewhere, and a traceback in the log for what is our own fault."""
    try:
        response = await handler(request)
    except HimaliaError as error:
        if error.status >= 500:
            log.error("request.failed", code=error.code, cause=str(error)[:1000])
        response = await _answer(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise  # a redirect
        response = await _answer(
            request, UnknownPathError(error.status) if error.status in (404, 405) else BadHttpError(error)
        )
    except sqlalchemy.exc.DataError as error:
        # PostgreSQL keeps no NUL in a text, and no number beyond its column: whoever sent it must send another.
        log.warning("request.not_storable", cause=type(error.orig).__name__)
        response = await _answer(
            request, BadRequest("a value in the request cannot be stored", remedy="no NUL")
        )
    except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.NoResultFound, StaleDataError) as error:
        # Handlers look before they write. Two who did so at the same moment at PostgreSQL: the second meets this, or
        # finds nothing any more.
        log.warning("request.collided", cause=type(getattr(error, "orig", None) or error).__name__)
        response = await _answer(
            request,
            Conflict("somebody else made, changed or removed the same at this moment", remedy="look again"),
        )
    except (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.TimeoutError,
        sqlalchemy.exc.InterfaceError,
    ) as error:
        why = str(getattr(error, "orig", None) or error)
        log.error("request.database_unreachable", error=type(error).__name__, why=why[:200])
        response = await _answer(request, _unavailable(error))
    except Exception as error:  # one of the three places that may: no bug may show a stack to a person
        if isinstance(error, ConnectionResetError) and request.transport is None:
            # A browser that closes its tab while it sends a form is nothing that an administrator can mend.
            log.info("request.broken_off")
            return web.Response(status=400)
        log.exception("request.failed", code="internal")
        response = await _answer(request, UnexpectedError(request[REQUEST_ID]))
    if response.content_type == "text/html" and not response.prepared:
        xsrf.set_cookies(request, response)
    return response


def _unavailable(error: sqlalchemy.exc.SQLAlchemyError) -> Unavailable:
    if is_full(error):
        return Unavailable(
            "The disk of the hub's database is full: nothing new can be begun; what runs goes on.",
            remedy="an administrator must make room",
        )
    return Unavailable("The database cannot be reached just now.")


async def _answer(request: web.Request, error: HimaliaError) -> web.Response:
    access = access_of(request.match_info.handler)
    if is_api(request) and not (access and access.kind == "signed_in"):
        response = json_error(error)
    else:
        # Without a database nobody is known; the page must not ask it again.
        response = await error_page(request, error)
    if isinstance(error, (TooMany, UnderMaintenance)):
        response.headers["Retry-After"] = str(max(round(error.retry_after_s), 1))
    elif error.status == 503:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return response


def json_error(error: HimaliaError) -> web.Response:
    """`{"status", "message", "code"}`; the remedy is part of the message."""
    return web.json_response(
        {"status": error.status, "message": sentence(error) or None, "code": error.code}, status=error.status
    )


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out who asks, refuse what another page made in their name, and go on."""
    _check_path(request)
    access = access_of(request.match_info.handler)
    if is_api(request) and request.match_info.route.method == "*":
        return await _unknown_api_path(request)
    if access is None:
        return await _of_nobody(request, handler)
    request[IDENTITY] = None
    tokens_too = is_api(request) if access.tokens is None else access.tokens
    request[IDENTITY] = await resolve(request, tokens_too=tokens_too)
    await _check_xsrf(request, access)
    identity = request[IDENTITY]
    if identity is not None:
        who = "user" if identity.user_id is not None else "service"
        structlog.contextvars.bind_contextvars(**{who: identity.name})
        if TOUCHES in request.app:
            request.app[TOUCHES].note(identity, clock.now(), origin.address(request))
    return await handler(request)


async def _of_nobody(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Static files need nobody; the page that says that nothing is there is its visitor's, as every page."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status >= 400 and request.method in xsrf.SAFE and not is_api(request):
            request[IDENTITY] = await resolve(request, tokens_too=False)
            await _check_xsrf(request, Access("public"))
        raise


def _check_path(request: web.Request) -> None:
    """BadRequest where a name in the path is not UTF-8: `%FF` and `%25FF` would be the same one."""
    if (
        "%" not in request.path
    ):  # decoded by now: all that is left are percent signs, and bytes that are no text
        return
    try:
        unquote_to_bytes(request.rel_url.raw_path).decode()
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8, percent-encoded") from None


async def _check_xsrf(request: web.Request, access: Access) -> None:
    identity = request[IDENTITY]
    if access.xsrf_by_hand or (identity is not None and identity.token is not None):
        return
    api = is_api(request) and access.kind != "signed_in"
    if identity is None and (api or request.method in xsrf.SAFE):
        return  # there is nothing to misuse; the guard decides
    if not xsrf.needs_check(request):
        return
    if api and not _is_json(request):
        # A form of another site can be posted with cookies; JSON cannot, without being asked first.
        raise NotAuthenticated(
            f"the sign-in cookie counts for JSON only, and this is {request.content_type[:64]!r}",
            remedy="send Content-Type: application/json, or an API token",
        )
    if request.method in xsrf.SAFE and not api:
        # A script that loads a page without proof is a visitor who is not signed in.
        try:
            await xsrf.check(request)
        except xsrf.XsrfFailed:
            request[IDENTITY] = None
        return
    await xsrf.check(request)


def _is_json(request: web.Request) -> bool:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return request.method in xsrf.SAFE or kind in ("", "application/json")


async def _unknown_api_path(request: web.Request) -> web.Response:
    """404, or 405 with what is allowed; OPTIONS on a known path answers 200."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if all(route.method == "*" for route in resource):
            continue
        _, methods = await resource.resolve(request)
        allowed |= methods
    if request.method == "OPTIONS" and allowed:
        return web.Response()
    response = json_error(UnknownPathError(405 if allowed else 404))
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def setup_gate() -> Middleware:
    """Until the first administrator exists, pages answer that the set-up link comes first."""
    done = False

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal done
        if (
            done
            or is_api(request)
            or access_of(request.match_info.handler) is None
            or _open_before_setup(request)
        ):
            return await handler(request)
        if await setup.gate_closed(request):
            raise setup.SetupFirst
        done = True
        return await handler(request)

    return gate


def _open_before_setup(request: web.Request) -> bool:
    prefix = request.app[SETTINGS].hub_prefix
    rest = request.path.removeprefix(prefix)
    first = rest.partition("/")[0]
    return first in ("setup", "static", "health", "language", "logo", "favicon.ico", "error") or (
        rest == "login" and request.method in ("GET", "HEAD")
    )
