"""The story of a launch as server-sent events, in BinderHub's words (its docs: "The BinderHub API").

Read from rows, so any replica can tell it and a reload loses nothing. Every frame has an id that names the launch:
whoever reconnects with `Last-Event-ID` is back at the same launch, and never starts a second one.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.models import MADE, BuildLine, Launch, LaunchEvent, Stage
from himalia_hub.ephemeral.session import image_name
from himalia_hub.errors import HimaliaError, TooMany
from himalia_hub.keys import DB, LAUNCH_BELL, LAUNCH_LISTENERS, LAUNCH_QUEUE, SECRETS, SETTINGS, TOGETHER
from himalia_hub.languages import counted

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
KEEP_ALIVE_S = 15.0
LOOK_S = 1.0
LOOK_IN_QUEUE_S = 3.0
"""Of 200 who wait, each looks at its row: once a second would leave the hub little time to serve anybody."""
PASSED_OVER = timedelta(seconds=1)
"""Whoever may have a free place has it before."""
QUEUED = (Stage.RESOLVING, Stage.FETCHING, Stage.WAITING)
PROGRESS = {
    Stage.RESOLVING: 5,
    Stage.FETCHING: 15,
    Stage.WAITING: 25,
    Stage.BUILDING: 40,
    Stage.LAUNCHING: 80,
    Stage.WARM: 90,
    Stage.READY: 100,
    Stage.KEEPING: 100,
}
"""How far each stage is, in percent: for a bar, no promise."""

Payload = dict[str, Any]
Ready = Callable[[Launch], Awaitable[Payload]]
"""What the `ready` frame says besides its phase."""


@dataclass(slots=True)
class Cursor:
    """How much of the story and of the installer's log was told."""

    event: int = 0
    line: int = 0

    @classmethod
    def read(cls, text: str) -> tuple[str, Cursor]:
        """(key of the launch, cursor) from the id of a frame; ('', start) from anything else."""
        parts = text.split(".")
        if len(parts) == 3 and all(
            part.isascii() and part.isdigit() and len(part) < 19 for part in parts[1:]
        ):
            return parts[0], cls(int(parts[1]), int(parts[2]))
        return "", cls()

    def id(self, launch: Launch) -> str:
        """The id of a frame told now."""
        return f"{launch.key}.{self.event}.{self.line}"


async def tell(
    request: web.Request,
    launch: Launch,
    cursor: Cursor,
    ready: Ready,
    *,
    standing: store.Place | None = None,
    answered: Callable[[], None] = lambda: None,
    hold_s: float = 0,
    words: Callable[[str], str] = str,
) -> web.StreamResponse:
    """200 `text/event-stream` until the launch is ready or has failed.

    `standing`: its place, where that is known already.
    `answered` is called once whoever asks has been told where the launch stands.
    `hold_s`: how long it stays open after `ready`, for clients that take an end for a failure.
    `words`: puts what it tells into a reader's language; programs read it as it is.
    """
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    try:
        telling = _Telling(request.app, response, launch, cursor, words, time.monotonic())
        with request.app[LAUNCH_LISTENERS].listening(launch.id, request):
            was_ready = await _follow(telling, standing, answered, ready)
        if was_ready:
            await _hold(response, hold_s)
        await response.write_eof()
    except ConnectionResetError:
        pass  # whoever listened is gone; the launch goes on without them
    return response


async def refuse(request: web.Request, error: HimaliaError) -> web.Response:
    """200 `text/event-stream` with the one frame that says why nothing was begun.

    A browser's `EventSource` shows its page nothing of an answer with another status.
    """
    words = joined(error.message, error.remedy)
    if isinstance(error, TooMany):
        minutes = math.ceil(error.retry_after_s / 60)
        words += " Try again in a minute." if minutes <= 1 else f" Try again in {minutes} minutes."
    payload = {
        "phase": "failed", "failed": True, "message": words + "\n", "status_code": error.status,
        "at": clock.iso(clock.now()),
    }  # fmt: skip
    return web.Response(headers=HEADERS, text=f"data: {json.dumps(payload)}\n\n")


async def _hold(response: web.StreamResponse, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, LOOK_S))
        await response.write(b":keepalive\n\n")  # raises once nobody listens


@dataclass(frozen=True, slots=True)
class _News:
    launch: Launch
    events: list[LaunchEvent]
    lines: list[BuildLine]
    standing: store.Place | None  # of those alone who wait in the queue, or will


async def _news(app: web.Application, launch_id: int, cursor: Cursor) -> _News | None:
    """What has not been told yet, in one read; None when the launch is forgotten."""

    async def read(db: AsyncSession) -> _News | None:
        launch = await db.get(Launch, launch_id)
        if launch is None:
            return None
        events = await store.story(db, launch.id, cursor.event)
        building = launch.stage is Stage.BUILDING and launch.environment
        lines = await store.log_after(db, launch.environment, cursor.line) if building else []
        return _News(launch, events, lines, None)

    news = await app[DB].read_in_one(read)
    if news is not None and news.launch.stage in QUEUED and not news.launch.seated:
        return replace(news, standing=_told(app, news.launch, await app[LAUNCH_QUEUE].place(launch_id)))
    return news


def _told(app: web.Application, launch: Launch, standing: store.Place) -> store.Place | None:
    return standing if waits(launch, standing, app[SETTINGS].ephemeral.total_limit, now=clock.now()) else None


def waits(launch: Launch, standing: store.Place, places: int, *, now: datetime) -> bool:
    """Whether it is to be told its place in the queue: not who finds one free. Pure.

    Nor who waits in spite of a free place, for a limit of their own, before that is sure.
    """
    passed_over = launch.stage is Stage.WAITING and now - launch.stage_since > PASSED_OVER
    return standing.number > places - standing.running or passed_over


@dataclass(slots=True)
class _Telling:
    """One stream: to whom, of which launch, and what was told."""

    app: web.Application
    response: web.StreamResponse
    launch: Launch
    cursor: Cursor
    words: Callable[[str], str]
    spoke: float = 0.0
    place: int = 0

    async def write(self, *payloads: Payload) -> None:
        """In one piece."""
        if not payloads:
            return
        self.spoke = time.monotonic()
        always = {"launch_id": self.launch.key, "progress": PROGRESS.get(self.launch.stage, 100)}
        frames = (
            f"id: {self.cursor.id(self.launch)}\ndata: {json.dumps(always | payload)}\n\n"
            for payload in payloads
        )
        await self.response.write("".join(frames).encode())

    def opening(self) -> list[Payload]:
        """The first line, at once: whoever is cut off now comes back to this launch."""
        if self.cursor.event:
            return []
        words = self.words(f"Opening {self.launch.label}")
        return [{"phase": "waiting", "message": words + "\n", "at": clock.iso(self.launch.created)}]

    def queued(self, standing: store.Place | None) -> list[Payload]:
        """Its place, when that is another one."""
        if standing is None or standing.number == self.place:
            return []
        words, self.place = self.words, standing.number
        numbers: Payload = {"queue_position": self.place, "place": self.place, "at": clock.iso(clock.now())}
        line = words(
            counted(
                "Number %(place)s in the queue; %(num)s session is running",
                "Number %(place)s in the queue; %(num)s sessions are running",
                standing.running,
                place=self.place,
            )
        )
        if (eta_s := self.app[LAUNCH_QUEUE].eta_s(standing)) is not None:
            minutes, numbers["eta_s"] = math.ceil(eta_s / 60), round(eta_s)
            said = f"That takes about {minutes} minutes" if minutes > 1 else "That takes about a minute"
            if self.app[LAUNCH_QUEUE].by_older:
                said = counted(
                    "By how long sessions of earlier days took, that is about %(num)s minute",
                    "By how long sessions of earlier days took, that is about %(num)s minutes",
                    max(minutes, 1),
                )
            line += ". " + words(said)
        return [{"phase": "waiting", "message": line + "\n", **numbers}]

    async def catch_up(self, news: _News) -> None:
        """What happened, what the installer wrote, and the place."""
        self.launch = news.launch
        for event in news.events:
            self.cursor.event = event.id
            built = {"imageName": image_of(self.app, self.launch)} if event.phase == "built" else {}
            message = self.words(event.message) + "\n"
            await self.write({"phase": event.phase, "message": message, "at": clock.iso(event.at)} | built)
        for line in news.lines:
            self.cursor.line = line.id
            said = {"phase": "building", "message": line.text + "\n", "at": clock.iso(clock.now())}
            await self.write(said)
        await self.write(*self.queued(news.standing))

    async def end(self, ready: Ready) -> bool | None:
        """The last frame, if the launch has come to its end; whether that is `ready`, None if it goes on."""
        launch = self.launch
        if launch.stage is Stage.READY:
            await self.write({"phase": "ready", **await ready(launch)})
            return True
        if launch.build_only and launch.ended_because == MADE:
            name = image_of(self.app, launch)
            await self.write({"phase": "ready", "message": f"{launch.label}: {MADE}\n", "imageName": name})
            return True
        if launch.failure is not None or launch.stage in (Stage.ENDING, Stage.ENDED):
            message = ended(launch, self.words) + "\n"
            await self.write({"phase": "failed", "failed": True, "message": message})
            return False
        return None

    async def stay(self) -> None:
        """Say something when nothing was said for long."""
        if time.monotonic() - self.spoke > KEEP_ALIVE_S:
            await self.response.write(b":keepalive\n\n")
            self.spoke = time.monotonic()


async def _follow(
    telling: _Telling, standing: store.Place | None, answered: Callable[[], None], ready: Ready
) -> bool:
    """Tell it to its end; whether that was `ready`."""
    app, launch = telling.app, telling.launch
    with app[LAUNCH_BELL].watch(launch.id) as watch:
        told = standing is not None and _told(app, launch, standing) is not None
        await telling.write(*telling.opening(), *telling.queued(standing if told else None))
        if standing is not None:
            answered()
        if told:
            await watch.wait(LOOK_IN_QUEUE_S)
        while True:
            news = await _news(app, launch.id, telling.cursor)
            if news is None:
                return False
            await telling.catch_up(news)
            answered()
            if (was_ready := await telling.end(ready)) is not None:
                return was_ready
            await telling.stay()
            if app[TOGETHER].leaving.is_set():
                return False  # whoever comes back with `Last-Event-ID` is told the rest by another hub
            await watch.wait(LOOK_IN_QUEUE_S if news.standing is not None else LOOK_S)


def image_of(app: web.Application, launch: Launch) -> str:
    """What BinderHub's clients read as the image: the engine's name of it, else one that tells environments apart."""
    if app[SETTINGS].spawner.kind == "docker":
        return image_name(app[SECRETS].hub_id, launch.environment)
    return f"himalia/{launch.environment[:12]}"


def ended(launch: Launch, words: Callable[[str], str] = str) -> str:
    """Why there is no session, or none any more, in one or two sentences."""
    if launch.failure is not None:
        return joined(words(launch.failure["message"]), words(launch.failure["remedy"]))
    if not launch.ended_because:
        return words("The session is over.")
    return words(f"The session is over: {words(launch.ended_because)}.")


def joined(message: str, remedy: str) -> str:
    """What happened and what to do: two sentences, or one where the second goes on. Pages show each by itself."""
    if not remedy:
        return message
    if message.endswith((".", "!", "?")):
        return f"{message} {remedy[0].upper()}{remedy[1:]}"
    return f"{message}{'; ' if remedy[0].islower() else '. '}{remedy}"
