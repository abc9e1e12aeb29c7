"""Client of the hub's API: who holds this token, a token for this code, and which release it is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout

from himalia_singleuser.errors import ApiError, Forbidden
from himalia_singleuser.settings import HubSettings

log = structlog.get_logger(__name__)

CACHE_S = 300.0
STALE_S = 900.0
"""How long a known identity is believed past `CACHE_S` while the hub cannot be reached: users shall not
notice that a hub restarts. A hub that answers is always believed at once."""
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

    def may_enter(self, required: tuple[str, ...]) -> bool:
        """Whether one of the server's access scopes is held, by itself or within a wider one."""
        return any(self._holds(scope) for scope in required)

    def _holds(self, scope: str) -> bool:
        name, _, what = scope.partition("!")
        if scope in self.scopes or name in self.scopes:
            return True
        kind, _, value = what.partition("=")
        return kind == "server" and f"{name}!user={value.partition('/')[0]}" in self.scopes


@dataclass(slots=True)
class _Known:
    user: HubUser
    at: float


@dataclass(slots=True)
class HubClient:
    """One per server. Answers about tokens are cached; questions asked at the same time are asked once."""

    settings: HubSettings
    session: ClientSession
    _known: dict[tuple[str, str], _Known] = field(default_factory=dict)
    _asking: dict[tuple[str, str], asyncio.Task[HubUser | None]] = field(default_factory=dict)

    async def user_of(self, token: str, *, session_id: str, fresh: bool = False) -> HubUser | None:
        """The owner of `token`, None when the hub does not know it; HubUnreachable when it cannot say.

        `fresh` asks the hub even when the answer is known, unless it cannot be reached.
        """
        key = (token, session_id)
        known = self._known.get(key)
        if known and not fresh and time.monotonic() - known.at < CACHE_S:
            return known.user
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(token))
            self._asking[key] = task
            task.add_done_callback(lambda _task: self._asking.pop(key, None))
        try:
            # One visitor who goes away must not cancel the question that others wait for as well.
            user = await asyncio.shield(task)
        except HubUnreachable:
            if known and time.monotonic() - known.at < CACHE_S + STALE_S:
                log.warning("hub.unreachable_identity_kept", user=known.user.name)
                return known.user
            raise
        if user is None:
            self.forget(token)
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[key] = _Known(user, time.monotonic())
        return user

    def forget(self, token: str) -> None:
        """Ask the hub again the next time this token comes."""
        for key in [key for key in self._known if key[0] == token]:
            del self._known[key]

    async def _ask(self, token: str) -> HubUser | None:
        url = f"{self.settings.api_url}/user"
        try:
            async with self.session.get(
                url, headers={"Authorization": f"token {token}"}, timeout=ClientTimeout(20)
            ) as answer:
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
        return HubUser(name, frozenset(scope for scope in scopes if isinstance(scope, str)))

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
