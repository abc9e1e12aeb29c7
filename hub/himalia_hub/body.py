"""Reading JSON bodies at the edge, with JupyterHub's answers to what is not JSON."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from himalia_hub.errors import BadRequest


async def json_object(request: web.Request, *, needed: bool = False) -> dict[str, Any]:
    """The body as an object; no body is an empty one, unless it is `needed`. BadRequest for anything else."""
    raw = await request.read()
    if not raw.strip():
        if needed:
            raise BadRequest("the request has no body", remedy="send a JSON object")
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("Invalid JSON in body of request") from None
    if not isinstance(body, dict):
        raise BadRequest(f"the body is of type {type(body).__name__}; it must be a JSON object")
    return body
