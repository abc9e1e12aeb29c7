"""Reading single fields of a JSON body, with an answer that names the field that is wrong."""

from __future__ import annotations

from typing import Any

from himalia_singleuser.errors import BadRequest


def text_field(body: dict[str, Any], name: str) -> str:
    """A string field; empty when absent or null."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"Field {name} must be a string, not {type(value).__name__}")
    return value


def needed_text(body: dict[str, Any], name: str) -> str:
    """A string field that must be there."""
    if body.get(name) is None:
        raise BadRequest(f"Missing field in JSON data: {name}")
    return text_field(body, name)


def object_field(body: dict[str, Any], name: str) -> dict[str, Any]:
    """An object field; empty when absent or null."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"Field {name} must be an object, not {type(value).__name__}")
    return value
