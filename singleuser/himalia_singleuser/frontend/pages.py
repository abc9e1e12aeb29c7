"""The wheels' own page templates. Jinja is imported with the first page, not at start."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from himalia_singleuser.auth import xsrf
from himalia_singleuser.errors import ApiError, BadRequest
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.keys import IDENTITY


@lru_cache(maxsize=8)
def template(file: Path) -> Any:
    """A compiled template; an error that names the file when its wheel is not installed."""
    from jinja2 import Environment

    try:
        return Environment(autoescape=True).from_string(file.read_text("utf-8"))
    except OSError:
        message = f"The front end is not installed beside this server: {file} is missing"
        raise ApiError(message, status=500) from None


def expect_notebook(request: web.Request, path: str) -> None:
    """A page that shows this file or folder is opened: a notebook beside it may be next."""
    kernels = request.app[KERNELS]
    with suppress(BadRequest):
        kernels.spare.page_opened(kernels.folder_of(path))


def send_page(request: web.Request, text: str) -> web.Response:
    """A rendered page, with the value that its scripts need for changes."""
    answer = web.Response(text=text, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})
    answer.enable_compression()
    xsrf.give(request, answer, request[IDENTITY].username)
    return answer
