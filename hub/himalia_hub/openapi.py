"""The API's own description (OpenAPI 3.1), made from the route table and from what each handler says of itself.

There is no second list to keep: who may call is in `@scoped`, what is read in `@takes`, and the docstring names every
status that the handler answers beside those that follow from both.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from himalia_hub.info import JUPYTERHUB_VERSION
from himalia_hub.keys import SETTINGS
from himalia_hub.paging import LARGEST_OFFSET, MAX_LIMIT
from himalia_hub.rbac.guard import Access, access_of, public
from himalia_hub.schemas import Takes, takes_of
from himalia_hub.users.listing import SORT_KEYS, STATES

Json = dict[str, Any]

FILE = "api/openapi.json"
STATUS = re.compile(r"(?<![\w.])[2-5]\d\d(?![\w.]\w)")
PARAMETER = re.compile(r"\{(\w+)[^}]*\}")
SCHEMAS = "#/components/schemas/{model}"
RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}
"""RFC 9110's names, which Python has since 3.13: the description is the same with each version."""
TEXT: Json = {"type": "string"}
QUERY: dict[str, Json] = {
    "offset": {"type": "integer", "minimum": 0, "maximum": LARGEST_OFFSET},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    "state": {"enum": list(STATES)},
    "sort": {"enum": [sign + key for key in SORT_KEYS for sign in ("", "-")]},
    "include_stopped_servers": {"enum": ["0", "1"]},
    "format": {"enum": ["json", "csv"]},
    "kind": {"enum": ["access", "change"]},
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
}
"""The schemas of fields of a query that are not just text."""


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + FILE, get_document)]


@public
async def get_document(request: web.Request) -> web.Response:
    """200 this description, for everybody."""
    prefix = request.app[SETTINGS].hub_prefix
    table = (
        (route.method, route.resource.canonical, route.handler)
        for route in request.app.router.routes()
        if route.resource is not None
    )
    return web.json_response(document(table, prefix))


def document(table: Iterable[tuple[str, str, object]], prefix: str) -> Json:
    """The description of those of the routes (method, path, handler) that are the API's."""
    paths: dict[str, Json] = {}
    bodies: dict[str, type[BaseModel]] = {}
    root = prefix + "api"
    for method, path, handler in table:
        access = access_of(handler)
        if access is None or method in ("*", "HEAD") or not (path == root or path.startswith(root + "/")):
            continue
        below, taken = path.removeprefix(root) or "/", takes_of(handler)
        paths.setdefault(below, {})[method.lower()] = _operation(method, below, handler, access, taken)
        if taken.body is not None:
            bodies[taken.body.__name__] = taken.body
    _, definitions = models_json_schema(
        [(bodies[name], "validation") for name in sorted(bodies)], ref_template=SCHEMAS
    )
    error = {
        "type": "object",
        "required": ["status", "message"],
        "properties": {
            "status": {"type": "integer"}, "message": {"type": ["string", "null"]}, "code": TEXT,
        },
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Himalia",
            "version": JUPYTERHUB_VERSION,
            "description": "JupyterHub's REST API. `version` is that of the API; each answer says it in a header.",
        },
        "servers": [{"url": root}],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "schemas": definitions.get("$defs", {}) | {"Error": error},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`token` is understood as well"}
            },
        },
    }


def _operation(method: str, path: str, handler: object, access: Access, taken: Takes) -> Json:
    words = " ".join((inspect.getdoc(handler) or "").split())
    named = PARAMETER.findall(path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in named]
    parameters += [{"name": name, "in": "query", "schema": QUERY.get(name, TEXT)} for name in taken.query]
    operation: Json = {
        "operationId": re.sub(
            r"\W+", "_", f"{method.lower()}{path.rstrip('}')}{'default' if path.endswith('/') else ''}"
        ),
        "summary": words.partition(". ")[0],
        "description": words,
        "tags": [path.split("/")[1] or "hub"],
        "parameters": parameters,
        "responses": {
            str(status): _answer(status)
            for status in sorted(_statuses(words, access, taken, named=bool(named)))
        },
    }
    if taken.body is not None:
        schema = {"$ref": SCHEMAS.format(model=taken.body.__name__)}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    if access.kind == "scoped":
        operation |= {"security": [{"token": []}], "x-scopes-any-of": list(access.scopes)}
    return operation


def _statuses(words: str, access: Access, taken: Takes, *, named: bool) -> set[int]:
    """What the docstring says, and what follows from who may call and what is read."""
    found = {int(status) for status in STATUS.findall(words)}
    if access.kind == "scoped":
        found |= {403, 404} if named else {403}
    if taken != Takes() or named:
        found.add(400)
    if taken.body is not None:
        found.add(413)
    return found | {503}


def _answer(status: int) -> Json:
    answer: Json = {"description": RENAMED.get(status) or HTTPStatus(status).phrase}
    if status >= 400:
        answer["content"] = {"application/json": {"schema": {"$ref": SCHEMAS.format(model="Error")}}}
    return answer


def page(described: Json) -> str:
    """The same as a page of the documentation: every call, who may, and what comes of it."""
    lines = [
        "# REST API",
        "",
        "Written by `make reference` from the route table. The hub serves it as `/hub/api/openapi.json` (OpenAPI 3.1);",
        "here it is as a [file](openapi.json). Paths are below `/hub/api`. A path that ends in a slash, where the name",
        "of a server would follow, means the default one. Every call answers 503 while the database cannot be reached.",
        "",
    ]
    tag = ""
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != tag:
                lines += [""] if tag else []
                tag = operation["tags"][0]
                lines += [f"## {tag}", "", "| Call | Any of these scopes | What it does |", "|---|---|---|"]
            scopes = ", ".join(f"`{scope}`" for scope in operation.get("x-scopes-any-of", ())) or "–"
            words = operation["description"].replace("|", "\\|")
            lines.append(f"| `{method.upper()} {path}` | {scopes} | {words} |")
    return "\n".join(lines) + "\n"
