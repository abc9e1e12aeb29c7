"""A page that is drawn and packed once for all who would see the same, until anything is committed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web
from markupsafe import Markup

from himalia_hub import clock
from himalia_hub.auth.xsrf import masked, xsrf_token
from himalia_hub.keys import IDENTITY, MEMO, SETTINGS
from himalia_hub.languages import spoken
from himalia_hub.notices import board
from himalia_hub.pages.packing import Packed
from himalia_hub.pages.render import as_page, render
from himalia_hub.secrets import mint
from himalia_hub.settings import HubSettings

V = TypeVar("V")

OLD_S = 10
"""A kept page's "3 min ago" is at most so much behind; our script writes it anew every now and then anyway."""
HOLE = mint(24)
"""Stands for the token of forms. Of this process alone, so nothing that people wrote can be taken for it."""


AT, ROWS = mint(24), Markup(mint(24))  # noqa: S704 -- no markup is in it
"""Stand in a frame for the moment that was read, and for all rows."""
FRAMES = 64
"""Of 10 kB each."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows: `rows`, of which most commits change one; the moment `at` which they were read; and all else,
    the `frame`, whose values can be hashed, and after most commits are what they were. `always` never changes.
    """

    rows: Sequence[Markup]
    at: str
    frame: Mapping[str, Hashable]
    always: Mapping[str, object]


class Lately(Generic[V]):
    """The values that were used last, at most so many; all are forgotten when the settings were read anew."""

    def __init__(self, most: int) -> None:
        self._most, self._kept = most, OrderedDict[Hashable, V]()
        self._settings: HubSettings | None = None
        self._readings = 0

    def get(self, settings: HubSettings, key: Hashable) -> V | None:
        """What was kept under these settings, or None."""
        if settings is not self._settings or settings.readings != self._readings:
            self._settings, self._readings, self._kept = settings, settings.readings, OrderedDict()
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: Hashable, value: V) -> V:
        """Keep a value under the settings that were asked with last."""
        self._kept[key] = value
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value


_frames, _doors = Lately[str](FRAMES), Lately[str](FRAMES)


async def page_for_strangers(
    request: web.Request, template: str, seen_by: Hashable, context: Mapping[str, object]
) -> web.Response:
    """A template as `render.page` gives it, drawn once for all who are not signed in: but for the token of its forms it
    follows from the address, the language and `seen_by`. Anew for others, while anything hangs at the board, and where
    a site has templates of its own.
    """
    settings = request.app[SETTINGS]
    announcements = await board.shown_if_readable(request.app)
    if announcements or request.get(IDENTITY) is not None or settings.pages.template_paths:
        text = render(request, template, {**context, "announcements": announcements})
        return as_page(request, text.encode())
    key = template, request.path_qs, spoken().tag, seen_by
    drawn = _doors.get(settings, key)
    if drawn is None:
        drawn = _doors.keep(key, render(request, template, {**context, "xsrf": HOLE}))
    return as_page(request, drawn.replace(HOLE, xsrf_token(request)).encode())


async def kept_page(
    request: web.Request, template: str, seen_by: Hashable, context: Callable[[], Awaitable[Shown]]
) -> web.Response:
    """A template as an HTML answer, as `render.page` gives it, packed where the browser takes that.

    `context()` is asked only where nothing is kept, and follows from rows, the address, the language, the time within
    OLD_S and `seen_by`, which must name all else: who looks, with what rights.
    """
    announcements = tuple(await board.shown_if_readable(request.app))
    settings = request.app[SETTINGS]
    about = template, request.path_qs, spoken().tag, announcements, seen_by
    own = bool(settings.pages.template_paths)  # a site's own may show anything, such as the request's id

    async def draw() -> Packed:
        shown = await context()

        def text(rows: Sequence[Markup], at: str) -> str:
            known = {"announcements": announcements, "xsrf": HOLE, "rows": rows, "rev": at, "at": at}
            return render(request, template, {**shown.always, **shown.frame, **known})

        if own:
            return Packed.of(text(shown.rows, shown.at), HOLE)
        key = about, len(shown.rows), *shown.frame.values()
        frame = _frames.get(settings, key)
        if frame is None:
            holes = [ROWS, *[Markup()] * (len(shown.rows) - 1)] if shown.rows else []
            frame = _frames.keep(key, text(holes, AT))
        return Packed.of(frame.replace(AT, shown.at).replace(ROWS, "".join(shown.rows)), HOLE)

    if own:
        drawn = await draw()
    else:
        moment = int(clock.now().timestamp()) // OLD_S
        drawn = await request.app[MEMO].get((about, moment), draw)
    token = masked(xsrf_token(request))
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return as_page(request, drawn.filled(token))
    response = as_page(request, drawn.filled_and_packed(token))
    response.headers["Content-Encoding"] = "gzip"
    return response
