"""JSON bodies as pydantic models, with everything that is wrong with one said in a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from himalia_hub.body import json_object
from himalia_hub.errors import BadRequest

M = TypeVar("M", bound=BaseModel)
H = TypeVar("H", bound=Callable[..., object])
SHOWN = 80
ATTRIBUTE = "__himalia_takes__"


class Body(BaseModel, extra="forbid", strict=True, frozen=True):
    """Base of every request body: a key that is not known, and a value of another type, are errors."""


class Anything(BaseModel, extra="allow"):
    """An object; what may be in it stands with the call."""


@dataclass(frozen=True, slots=True)
class Takes:
    """What a handler reads of a request beside its path: the model of the body, and names of query fields."""

    body: type[BaseModel] | None = None
    query: tuple[str, ...] = ()


def takes(body: type[BaseModel] | None = None, *, query: tuple[str, ...] = ()) -> Callable[[H], H]:
    """Says on the line above a handler what it reads; the API's document is made from it."""

    def decorate(handler: H) -> H:
        setattr(handler, ATTRIBUTE, Takes(body, query))
        return handler

    return decorate


def takes_of(handler: object) -> Takes:
    """What a handler declared."""
    found: Takes = getattr(handler, ATTRIBUTE, Takes())
    return found


async def read(request: web.Request, model: type[M], *, needed: bool = False) -> M:
    """The body as `model`, which the handler `takes`; BadRequest names every field that does not fit. No body is an
    empty object, unless it is `needed`.
    """
    if takes_of(request.match_info.handler).body is not model:
        # An error in tests, where warnings are; people's requests must not fail for want of a description.
        warnings.warn(f"{request.path}: @takes({model.__name__}) is missing", stacklevel=2)
    try:
        return model.model_validate(await json_object(request, needed=needed))
    except ValidationError as error:
        raise BadRequest(sentence(error)) from None


def sentence(error: ValidationError) -> str:
    """What is wrong, field by field. Values are left out: a body may carry a password."""
    parts = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part)[:SHOWN] for part in problem["loc"]) or "the body"
        parts.append(f"{where}: {problem['msg'][:200]}")
    return "; ".join(parts)
