"""Client of the hub's API: who holds this token, a token for this code, and which release it is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout

from himalia_singleuser.errors import ApiError, Forbidden
from himalia_singleuser.settings import HubSettings

log = structlog.get_logger(__name__)

CHECK_S = 3.0
"""How long what the hub said of a token is believed. Whoever is signed out, suspended or no longer a guest is so here
with the next request after it, and loses their WebSockets."""
PATIENCE_S = 2.0
"""How long a known visitor waits for a hub that is slow to say it again; its answer counts when it comes."""
KEPT_S = 1200.0
"""How long a known identity is believed while the hub cannot be reached: users shall not notice that a hub restarts. A
hub that answers is always believed at once."""
VISIT_S = 600.0
"""How often the hub is told who it is that asks for a visitor: it keeps an audit log of visits."""
MOST_KNOWN = 2000


class HubUnreachable(ApiError):
    """The hub does not answer, or answers with an error of its own."""

    status = 502
    default_message = "The hub does not answer; try again in a moment"


@dataclass(frozen=True, slots=True)
class HubUser:
    """What the hub says of a token's owner."""

    name: str
    scopes: frozenset[str] = frozenset()
    shown: str = ""
    """How they are called in words, where the hub knows it."""

    def may_enter(self, required: tuple[str, ...]) -> bool:
        """Whether one of the server's access scopes is held, by itself or within a wider one."""
        return any(self._holds(scope) for scope in required)

    def _holds(self, scope: str) -> bool:
        name, _, what = scope.partition("!")
        if scope in self.scopes or name in self.scopes:
            return True
        kind, _, value = what.partition("=")
        return kind == "server" and f"{name}!user={value.partition('/')[0]}" in self.scopes


Key = tuple[str, str]
"""A token and the browser session that it came with."""


@dataclass(slots=True)
class _Known:
    """What the hub said last, when that was, when it was last asked, and when it was told of the visit."""

    user: HubUser
    said: float
    asked: float
    told: float


@dataclass(slots=True)
class HubClient:
    """One per server. What the hub says of a token is kept for a moment; asked at the same time, it is asked once."""

    settings: HubSettings
    session: ClientSession
    _known: dict[Key, _Known] = field(default_factory=dict)
    _asking: dict[Key, asyncio.Task[HubUser | None]] = field(default_factory=dict)

    async def user_of(self, token: str, *, session_id: str, fresh: bool = False) -> HubUser | None:
        """The owner of `token`, None when the hub does not know it; HubUnreachable when it cannot say.

        `fresh` asks the hub even when the answer is known, unless it cannot be reached.
        """
        key = (token, session_id)
        known = self._known.get(key)
        now = time.monotonic()
        if known and not fresh and now - known.asked < CHECK_S and now - known.said < KEPT_S:
            return known.user
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._learn(key))
            self._asking[key] = task
            task.add_done_callback(self._asked)
        # One visitor who goes away must not cancel the question that others wait for as well.
        waiting = asyncio.shield(task)
        try:
            async with asyncio.timeout(PATIENCE_S if known else None):
                return await waiting
        except (HubUnreachable, TimeoutError):
            if known is None or now - known.said >= KEPT_S:
                raise HubUnreachable from None
            known.asked = time.monotonic()
            return known.user

    async def may_stay(self, token: str, *, session_id: str, ask: bool) -> bool:
        """Whether who opened a WebSocket may keep it; by what is remembered, or with `ask` by what the hub says now.

        A hub that cannot be reached throws nobody out.
        """
        known = self._known.get((token, session_id))
        try:
            user = known.user if known and not ask else await self.user_of(token, session_id=session_id)
        except HubUnreachable:
            return True
        return user is not None and user.may_enter(self.settings.access_scopes)

    def forget(self, token: str) -> None:
        """Ask the hub again the next time this token comes."""
        for key in [key for key in self._known if key[0] == token]:
            del self._known[key]

    async def _learn(self, key: Key) -> HubUser | None:
        """Ask, and remember the answer, whether or not anybody still waits for it."""
        known, now = self._known.get(key), time.monotonic()
        told = known.told if known and now - known.told < VISIT_S else now
        user = await self._ask(key[0], as_visit=told == now)
        if user is None:
            self.forget(key[0])
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        now = time.monotonic()
        self._known[key] = _Known(user, now, now, told)
        return user

    def _asked(self, task: asyncio.Task[HubUser | None]) -> None:
        self._asking = {key: asking for key, asking in self._asking.items() if asking is not task}
        if not task.cancelled():
            task.exception()  # looked at, for nobody may be waiting any more

    async def _ask(self, token: str, *, as_visit: bool) -> HubUser | None:
        url, headers = f"{self.settings.api_url}/user", {"Authorization": f"token {token}"}
        headers |= {"X-Himalia-Server-Token": self.settings.api_token} if as_visit else {}
        try:
            async with self.session.get(url, headers=headers, timeout=ClientTimeout(20)) as answer:
                if answer.status in {401, 403, 404}:
                    return None
                if answer.status >= 500:
                    log.warning("hub.failed", status=answer.status, call="user")
                    raise HubUnreachable
                if answer.status >= 400:
                    log.warning("hub.refused", status=answer.status, call="user")
                    raise ApiError("The hub refused to say who this is")
                model = await answer.json()
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            log.warning("hub.unreachable", call="user", error=type(error).__name__)
            raise HubUnreachable from None
        name, scopes = model.get("name"), model.get("scopes") or ()
        if not isinstance(name, str) or not name:
            return None
        told = model.get("user_info")
        shown = told.get("display_name") if isinstance(told, dict) else None
        return HubUser(
            name,
            frozenset(scope for scope in scopes if isinstance(scope, str)),
            shown if isinstance(shown, str) else "",
        )

    async def token_for_code(self, code: str, *, redirect_uri: str, verifier: str) -> str:
        """Redeem an authorization code; Forbidden when the hub does not take it."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.settings.client_id,
            "client_secret": self.settings.api_token,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        url = f"{self.settings.api_url}/oauth2/token"
        try:
            async with self.session.post(url, data=form, timeout=ClientTimeout(20)) as answer:
                if answer.status >= 500:
                    raise HubUnreachable
                body = await answer.json(content_type=None)
                token = body.get("access_token") if answer.status == 200 else None
        except (ClientError, TimeoutError, OSError, ValueError, AttributeError) as error:
            log.warning("hub.unreachable", call="token", error=type(error).__name__)
            raise HubUnreachable from None
        if not isinstance(token, str):
            log.warning("hub.code_refused", status=answer.status)
            raise Forbidden("The hub did not accept this login; open the server from the hub again")
        return token

    async def version(self) -> str:
        """The hub's release, from the header of its API root; HubUnreachable when there is no answer."""
        try:
            async with self.session.get(self.settings.api_url, timeout=ClientTimeout(10)) as answer:
                answer.raise_for_status()
                return answer.headers.get("X-JupyterHub-Version", "")
        except (ClientError, TimeoutError, OSError) as error:
            raise HubUnreachable(f"The hub at {self.settings.api_url} does not answer: {error}") from None

    async def stop_time(self) -> dict[str, Any] | None:
        """When the hub stops this server: `{stops_at, in_s, why, can_keep_alive}`; None from a hub without."""
        found = await self._call("GET", f"{self._server_url}/stop-time")
        return found if isinstance(found, dict) else None

    async def keep_alive(self) -> dict[str, Any] | None:
        """Put that off; the new stop time, as above."""
        found = await self._call("POST", f"{self._server_url}/keep-alive")
        return found if isinstance(found, dict) else None

    async def announcements(self) -> list[dict[str, Any]]:
        """What the hub says to everybody just now: `{id, level, text, …}`; nothing from a hub without."""
        found = await self._call("GET", f"{self.settings.api_url}/announcements")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def _server_url(self) -> str:
        user, name = quote(self.settings.user, safe="@~"), quote(self.settings.server_name, safe="@~")
        return f"{self.settings.api_url}/users/{user}/" + (f"servers/{name}" if name else "server")

    async def _call(self, method: str, url: str) -> Any:
        """The JSON of an answer with this server's token; None when it is refused, HubUnreachable without an answer."""
        headers = {"Authorization": f"token {self.settings.api_token}"}
        try:
            async with self.session.request(
                method, url, headers=headers, timeout=ClientTimeout(10)
            ) as answer:
                if answer.status >= 500:
                    raise HubUnreachable
                return await answer.json() if answer.status == 200 else None
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            log.warning("hub.unreachable", call=url.rpartition("/")[2], error=type(error).__name__)
            raise HubUnreachable from None

    async def report_activity(self, last: str) -> bool:
        """Tell when somebody last worked here; False when the hub did not take it."""
        name = self.settings.server_name
        body = {"servers": {name: {"last_activity": last}}, "last_activity": last}
        headers = {"Authorization": f"token {self.settings.api_token}"}
        try:
            async with self.session.post(
                self.settings.activity_url, json=body, headers=headers, timeout=ClientTimeout(20)
            ) as answer:
                if answer.status >= 400:
                    log.warning("hub.activity_refused", status=answer.status)
                return answer.status < 400
        except (ClientError, TimeoutError, OSError) as error:
            log.warning("hub.unreachable", call="activity", error=type(error).__name__)
            return False
