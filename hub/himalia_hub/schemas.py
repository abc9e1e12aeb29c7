"""JSON bodies as pydantic models, with everything that is wrong with one said in a sentence."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from himalia_hub.body import json_object
from himalia_hub.errors import BadRequest

M = TypeVar("M", bound=BaseModel)
SHOWN = 80


class Body(BaseModel, extra="forbid", strict=True, frozen=True):
    """Base of every request body: a key that is not known, and a value of another type, are errors."""


async def read(request: web.Request, model: type[M]) -> M:
    """The body as `model`; BadRequest names every field that does not fit."""
    try:
        return model.model_validate(await json_object(request))
    except ValidationError as error:
        raise BadRequest(sentence(error)) from None


def sentence(error: ValidationError) -> str:
    """What is wrong, field by field. Values are left out: a body may carry a password."""
    parts = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part)[:SHOWN] for part in problem["loc"]) or "the body"
        parts.append(f"{where}: {problem['msg'][:200]}")
    return "; ".join(parts)
