"""Reading JSON bodies at the edge, with JupyterHub's answers to what is not JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from aiohttp import web

from himalia_hub.errors import BadRequest

HALF = re.compile(rb"\\u[dD][89a-fA-F]")


async def json_object(request: web.Request, *, needed: bool = False) -> dict[str, Any]:
    """The body as an object; no body is an empty one, unless it is `needed`. BadRequest for anything else."""
    raw = await request.read()
    if not raw.strip():
        if needed:
            raise BadRequest("the request has no body", remedy="send a JSON object")
        return {}
    try:
        body = json.loads(raw, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise BadRequest("Invalid JSON in body of request") from None
    if body is None and not needed:  # what JavaScript makes of no body
        return {}
    if HALF.search(raw):
        _check_characters(body)
    if not isinstance(body, dict):
        raise BadRequest(f"the body is of type {type(body).__name__}; it must be a JSON object")
    return body


def _no_number(word: str) -> Any:
    """Python reads NaN and Infinity, which are no JSON: nobody else could read an answer that has them."""
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number


def _check_characters(body: Any) -> None:
    """JSON can write half of a character that takes two, such as d800 alone; no database can keep it."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("a text in the body has half a character (a lone surrogate)") from None
