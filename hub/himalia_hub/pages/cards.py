"""From a server's row to what a page shows of it. Templates see these, never rows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from himalia_hub import clock
from himalia_hub.languages import gettext, later
from himalia_hub.measures.models import ServerUse
from himalia_hub.profiles.choice import chosen, offered
from himalia_hub.servers.cull import Ending, ending_of
from himalia_hub.servers.models import Server
from himalia_hub.servers.store import kept_until
from himalia_hub.servers.view import phase_word, quoted, server_url
from himalia_hub.settings import HubSettings, ProfileSection
from himalia_hub.usage.hours import UsedUp
from himalia_hub.usage.quota import size

WORDS = {
    "stopped": later("Stopped"),
    "starting": later("Starting"),
    "ready": later("Running"),
    "stopping": later("Stopping"),
    "failed": later("Failed"),
    "unknown": later("Checking"),
}
"""What people read for each state; the icon and the colour come from the state's own name."""

UNNAMED = later("My server")
"""What a person's default server is called."""

STALE = timedelta(minutes=3)
"""A measure is written at least once a minute while somebody measures."""

NO_ROOM = ("No space left on device", "Disk quota exceeded")
"""How the system says ENOSPC and EDQUOT."""

MOVING = frozenset({"starting", "stopping", "unknown"})
"""States that end by themselves: pages that show one refresh until it does."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last start or life of a server ended."""

    cause: str
    message: str
    log_tail: tuple[str, ...]
    at: datetime | None
    kept_until: datetime | None = None
    """Until when its kernels wait for the next start."""

    @property
    def home_full(self) -> bool:
        """Its last words say that there was no room for files."""
        words = (self.message, *self.log_tail)
        return any(sign in line for line in words for sign in NO_ROOM)


@dataclass(frozen=True, slots=True)
class Offer:
    """A profile that the owner may choose for the next start; `chosen` is the one a start takes unasked."""

    name: str
    title: str
    description: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What a running server uses, in words; None is unknown."""

    memory: str | None = None
    cpu: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """One server as pages show it. `tail` is `user` or `user/name`, quoted: what follows a page's path."""

    owner: str
    name: str
    title: str
    state: str
    word: str
    since: datetime | None
    started: datetime | None
    last_activity: datetime | None
    url: str
    tail: str
    failure: Failure | None
    profile: str = ""
    offers: tuple[Offer, ...] = ()
    ending: Ending | None = None
    reason: str = ""
    safe_mode: bool = False
    use: Use = Use()

    @property
    def moving(self) -> bool:
        """Between two states."""
        return self.state in MOVING

    @property
    def can_open(self) -> bool:
        """Requests reach it."""
        return self.state == "ready"

    @property
    def can_start(self) -> bool:
        """A start is possible and would change something."""
        return self.state in ("stopped", "failed")

    @property
    def can_stop(self) -> bool:
        """A stop is possible and would change something; for a starting one it is called cancel."""
        return self.state in ("ready", "starting", "unknown") or self.kernels_wait

    @property
    def kernels_wait(self) -> bool:
        """It crashed, and the next start takes its kernels back."""
        return self.failure is not None and self.failure.kept_until is not None


def own(title: str) -> str:
    """The title of a card in the reader's language: people's own names stay as they are."""
    return gettext(title) if title == UNNAMED else title


def tail_of(username: str, name: str) -> str:
    """`user` or `user/name`, quoted: what follows `spawn/` and `spawn-pending/`."""
    return quoted(username) + (f"/{quoted(name)}" if name else "")


def use_of(measured: ServerUse | None) -> Use:
    """What was measured, in words; a figure that nobody has renewed for long is unknown."""
    if measured is None or clock.now() - measured.at > STALE:
        return Use()
    memory, cpus = measured.memory, measured.cpus
    return Use(None if memory is None else size(memory), None if cpus is None else f"{cpus:.0%}")


def card(
    server: Server,
    username: str,
    settings: HubSettings,
    groups: Collection[str] = (),
    reason: str = "",
    use: ServerUse | None = None,
    used_up: Sequence[UsedUp] = (),
) -> Card:
    """One server. `groups` are its owner's, for the profiles to choose from; `reason` is why the hub stopped it.

    `used_up` is what of the owner's hours will be, from `usage.hours`.
    """
    state = phase_word(server)
    profile = chosen(settings, groups, server.user_options)
    return Card(
        owner=username,
        name=server.name,
        title=server.display_name or server.name or UNNAMED,
        state=state,
        word=WORDS[state],
        since=server.phase_since,
        started=server.started if state == "ready" else None,
        last_activity=server.last_activity,
        url=server_url(settings, username, server.name),
        tail=tail_of(username, server.name),
        failure=failure_of(server.failure) if state == "failed" else None,
        profile=(profile.title or profile.name) if profile else "",
        offers=_offers(settings, groups, profile),
        ending=ending_of(server, username, groups, settings, used_up),
        reason=reason if state == "stopped" else "",
        safe_mode=server.safe_mode and state in ("starting", "ready", "unknown"),
        use=use_of(use),
    )


def _offers(
    settings: HubSettings, groups: Collection[str], profile: ProfileSection | None
) -> tuple[Offer, ...]:
    """What there is to choose from; nothing when there is no choice."""
    mine = offered(settings, groups)
    if len(mine) < 2:
        return ()
    return tuple(Offer(p.name, p.title or p.name, p.description, p is profile) for p in mine)


def never_started(username: str, settings: HubSettings, groups: Collection[str] = ()) -> Card:
    """The default server of a person who has not started it yet: there is no row."""
    profile = chosen(settings, groups, {})
    return Card(
        owner=username,
        name="",
        title=UNNAMED,
        state="stopped",
        word=WORDS["stopped"],
        since=None,
        started=None,
        last_activity=None,
        url=server_url(settings, username, ""),
        tail=tail_of(username, ""),
        failure=None,
        profile=(profile.title or profile.name) if profile else "",
        offers=_offers(settings, groups, profile),
    )


def cards(
    servers: Iterable[Server],
    username: str,
    settings: HubSettings,
    groups: Collection[str] = (),
    reasons: Mapping[int, str] | None = None,
    uses: Mapping[int, ServerUse] | None = None,
    used_up: Sequence[UsedUp] = (),
) -> list[Card]:
    """All of a person's servers, the default one first whether or not it was ever started."""
    why, used = reasons or {}, uses or {}
    shown = [
        card(server, username, settings, groups, why.get(server.id, ""), used.get(server.id), used_up)
        for server in servers
        if not _going(server)
    ]
    if not shown or shown[0].name:
        shown.insert(0, never_started(username, settings, groups))
    return shown


def failure_of(stored: dict[str, Any] | None) -> Failure | None:
    """What the loop recorded, with nothing missing."""
    if not stored:
        return None
    return Failure(
        cause=str(stored.get("cause") or "failed"),
        message=str(stored.get("message") or "no reason was recorded"),
        log_tail=tuple(str(line) for line in stored.get("log_tail") or ()),
        at=_moment(stored.get("at")),
        kept_until=kept_until(stored, now=clock.now()),
    )


def _moment(text: object) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when if when.tzinfo else None


def revision(shown: Iterable[Card]) -> str:
    """Changes whenever a state does; tests and our script compare it."""
    text = "\n".join(f"{one.owner}/{one.name}:{one.state}:{one.since}:{one.kernels_wait}" for one in shown)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _going(server: Server) -> bool:
    return server.doomed and phase_word(server) in ("stopped", "failed")
