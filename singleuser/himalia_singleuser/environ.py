"""Values of environment variables; each says by its name what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping


class SettingsError(Exception):
    """The start is refused: the message names the value and what would be right."""


def descriptor(environ: Mapping[str, str], name: str) -> int | None:
    """The number of a descriptor that was left open; None when unset."""
    value = environ.get(name, "")
    if not value:
        return None
    if not value.isdecimal():
        raise SettingsError(f"{name} is {value!r}: it must be the number of an open descriptor")
    return int(value)


def mode(environ: Mapping[str, str], name: str) -> int:
    """The mode of a socket in three octal digits; 0o700 when unset."""
    value = environ.get(name) or "700"
    if not re.fullmatch("[0-7]{3}", value):
        raise SettingsError(f"{name} is {value!r}: it must be three octal digits, such as 666")
    return int(value, 8)


def json_list(name: str, text: str) -> list[str]:
    """A list of strings."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{name} is {text!r}: it must be a JSON list of strings")
    return value


def json_object(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """An object; keys in lower case, values as texts."""
    text = environ.get(name) or "{}"
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise SettingsError(f"{name} is {text!r}: it must be a JSON object")
    return {str(key).lower(): str(item) for key, item in value.items()}


def switch(environ: Mapping[str, str], name: str) -> bool:
    """0 or 1; 0 when unset."""
    text = environ.get(name, "")
    if text not in {"", "0", "1"}:
        raise SettingsError(f"{name} is {text!r}: it must be 0 or 1")
    return text == "1"


def number(environ: Mapping[str, str], name: str, default: float) -> float:
    """A number of seconds."""
    text = environ.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: it must be a number of seconds") from None
