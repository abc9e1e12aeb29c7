"""What happens around every handler: errors become answers, slashes are mended, the access mark is obeyed."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, json_answer, page, wants_json
from himalia_singleuser.auth.guard import Stranger, admit
from himalia_singleuser.auth.origin import allowed_origin
from himalia_singleuser.auth_marks import PUBLIC, access_of
from himalia_singleuser.errors import ApiError, BadRequest, Forbidden
from himalia_singleuser.keys import ACTIVITY, IDENTITY, SETTINGS

log = structlog.get_logger(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

UNTRACKED = ("api/status", "api/resolvePath", "api/himalia/status", "metrics")

CORS_HEADERS = {
    "Access-Control-Allow-Headers": "accept, content-type, authorization, x-xsrftoken",
    "Access-Control-Allow-Methods": "GET, PUT, POST, PATCH, DELETE, OPTIONS",
}


@web.middleware
async def errors(request: web.Request, handler: Next) -> web.StreamResponse:
    """Every exception becomes an answer that says what was wrong; a traceback goes to the log only."""
    try:
        return await handler(request)
    except Stranger as error:
        answer = _refusal(request, error)
        for change in error.cookies:
            change(answer)
        return answer
    except ApiError as error:
        return _refusal(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        # aiohttp's own text is the status line, except where it knows more: what a WebSocket handshake lacks.
        said = error.text or ""
        message = error.reason if said.startswith(f"{error.status}: ") else said
        return _refusal(request, ApiError(message, status=error.status), error.headers)
    except (ConnectionResetError, TimeoutError):
        raise
    except RecursionError:
        # Wherever JSON of the request, or of the file it names, is read, written or merged.
        log.warning("request.too_deep", method=request.method, path=request.path)
        return _refusal(request, BadRequest("The JSON is nested too deeply: a few hundred levels are taken"))
    except Exception:
        log.exception("request.failed", method=request.method, path=request.path)
        return _refusal(request, ApiError("Unhandled error", extra={"traceback": ""}))


def _refusal(request: web.Request, error: ApiError, headers: object = None) -> web.Response:
    extra: dict[str, str] = {}
    if allow := getattr(headers, "get", lambda _name: None)(hdrs.ALLOW):
        extra[hdrs.ALLOW] = allow
    known = request.match_info.http_exception is None
    if (known and wants_json(request)) or error.status == 405:
        answer = json_answer(error.body(), status=error.status, headers=extra)
        if error.reason and error.reason.isascii() and error.reason.isprintable():
            answer.set_status(error.status, error.reason)
        return answer
    home = html.escape(base_of(request))
    body = f'<p>{html.escape(error.message)}</p><p><a href="{home}">Back to the start</a></p>'
    return page(f"{error.status}: {_title(error.status)}", body, status=error.status, headers=extra)


def _title(status: int) -> str:
    titles = {400: "Bad request", 403: "Not allowed", 404: "Not found", 502: "The hub does not answer"}
    return titles.get(status, "Something went wrong" if status >= 500 else "That did not work")


@web.middleware
async def slashes(request: web.Request, handler: Next) -> web.StreamResponse:
    """A path with slashes too many leads to the one without them."""
    if request.match_info.http_exception is None:
        return await handler(request)
    raw = request.rel_url.raw_path
    base = base_of(request)
    # Leading slashes are collapsed as well, so that `//host/` can never become another site.
    mended = "/" + "/".join(part for part in raw.replace("\\", "%5C").split("/") if part)
    if request.path + "/" == request.app[SETTINGS].base_url:
        mended = base
    if mended == raw or request.method not in {"GET", "HEAD", "POST", "PUT"}:
        return await handler(request)
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    status = 302 if request.method in {"GET", "HEAD"} else 307
    return web.Response(status=status, headers={hdrs.LOCATION: mended + query})


@web.middleware
async def access(request: web.Request, handler: Next) -> web.StreamResponse:
    """The mark on the handler decides who passes; a handler without a mark lets nobody pass."""
    if request.match_info.http_exception is not None:
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(headers=CORS_HEADERS)
        return await handler(request)
    mark = access_of(request.match_info.handler)
    if mark == PUBLIC:
        return await handler(request)
    if mark is None:
        raise Forbidden(f"The route {request.path!r} does not say who may use it")
    admission = await admit(request)
    if admission.answer is not None:
        return admission.answer
    request[IDENTITY] = admission.identity
    _track(request)
    answer = await handler(request)
    if not answer.prepared:
        for change in admission.cookies:
            change(answer)
    return answer


def _track(request: web.Request) -> None:
    if request.query.get("no_track_activity") == "1":
        return
    path = request.path.removeprefix(request.app[SETTINGS].base_url)
    if wants_json(request) and path not in UNTRACKED:
        request.app[ACTIVITY].touch()


@web.middleware
async def etags(request: web.Request, handler: Next) -> web.StreamResponse:
    """What a GET makes carries the hash of its bytes; whoever already has these bytes gets 304."""
    answer = await handler(request)
    if (
        request.method != hdrs.METH_GET
        or not isinstance(answer, web.Response)
        or answer.status != 200
        or answer.content_type not in {"application/json", "text/css"}
        or not isinstance(answer.body, bytes)
        or hdrs.ETAG in answer.headers
    ):
        return answer
    tag = f'"{hashlib.sha1(answer.body, usedforsecurity=False).hexdigest()}"'
    answer.headers[hdrs.ETAG] = tag
    if request.headers.get(hdrs.IF_NONE_MATCH) != tag:
        return answer
    unchanged = web.Response(status=304, headers={hdrs.ETAG: tag})
    unchanged.cookies.update(answer.cookies)
    return unchanged


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal on_response_prepare: what every answer carries, streams and refusals included."""
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if "Content-Security-Policy" not in headers:
        headers["Content-Security-Policy"] = content_policy(request)
    if origin := allowed_origin(request):
        headers["Access-Control-Allow-Origin"] = origin
        headers.setdefault(hdrs.VARY, "Origin")
    headers.popall(hdrs.SERVER, None)
    if request.app[SETTINGS].hub is not None:
        headers["X-JupyterHub-Version"] = HUB_PROTOCOL_VERSION


HUB_PROTOCOL_VERSION = "6.1.1"
"""The JupyterHub release whose single-user contract this server keeps."""


def content_policy(request: web.Request, *, sandbox: bool = False) -> str:
    """Behind a hub nobody may frame us; alone only our own pages may."""
    ancestors = "'none'" if request.app[SETTINGS].hub else "'self'"
    if sandbox:
        ancestors = "'self'"
    policy = f"frame-ancestors {ancestors}; report-uri {base_of(request)}api/security/csp-report"
    if sandbox:
        return policy + "; sandbox allow-scripts"
    return policy + "; default-src 'none'" if wants_json(request) else policy


MIDDLEWARES = (errors, etags, slashes, access)
