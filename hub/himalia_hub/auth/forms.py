"""Reading the small forms that anybody may send."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.errors import HimaliaError

MOST_BYTES = 64 * 1024


class TooLargeError(HimaliaError):
    """The form is far larger than what a person can have typed."""

    status = 413
    code = "too-large"


async def small_form(request: web.Request) -> dict[str, str]:
    """The text fields of a posted form; TooLargeError before anything of a huge one is read."""
    if request.content_length is None and request.body_exists:
        raise TooLargeError("A form must say how long it is (Content-Length).")
    if (request.content_length or 0) > MOST_BYTES:
        raise TooLargeError(f"The form has {request.content_length} bytes, {MOST_BYTES} are the most.")
    return {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
