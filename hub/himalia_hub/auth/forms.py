"""Reading the small forms that anybody may send."""

from __future__ import annotations

from aiohttp import web
from multidict import MultiDictProxy

from himalia_hub.errors import BadRequest, HimaliaError

MOST_BYTES = 64 * 1024


class TooLargeError(HimaliaError):
    """The form is far larger than what a person can have typed."""

    status = 413
    code = "too-large"


async def posted(request: web.Request) -> MultiDictProxy[str | bytes | bytearray | web.FileField]:
    """The fields of a posted form; BadRequest for one that is not what its Content-Type says."""
    try:
        fields = await request.post()
        for value in fields.values():
            if isinstance(value, str):
                value.encode()  # a charset such as unicode_escape can write half characters, which nobody can keep
        return fields
    except (
        ValueError,
        LookupError,
        AssertionError,
    ):  # no boundary or a wrong one, no such charset, no such text in it
        raise BadRequest("the form cannot be read", remedy="send it as its Content-Type says") from None


async def small_form(request: web.Request) -> dict[str, str]:
    """The text fields of a posted form; TooLargeError before anything of a huge one is read."""
    if request.content_length is None and request.body_exists:
        raise TooLargeError("A form must say how long it is (Content-Length).")
    if (request.content_length or 0) > MOST_BYTES:
        raise TooLargeError(f"The form has {request.content_length} bytes, {MOST_BYTES} are the most.")
    return {key: value for key, value in (await posted(request)).items() if isinstance(value, str)}
