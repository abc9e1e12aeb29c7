"""The routes of the server as addresses that can be asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")
WORDS = re.compile(r"(\w+)(\|\w+)*")
FILLED = {
    "path": "/x.ipynb",
    "rest": "/tree/x",
    "kernel_id": "1-2-3-4-5",
    "session_id": "1-2-3-4-5",
    "format": "html",
}


def filled(path: str, given: Mapping[str, str] = FILLED) -> str:
    """A route's path with something fitting in each place: the first of several words, if it is to be one of these."""

    def fitting(match: re.Match[str]) -> str:
        words = WORDS.fullmatch(match[2] or "")
        return words[1] if words else given.get(match[1], "x")

    return PLACEHOLDER.sub(fitting, path).replace("//", "/").lstrip("/")
