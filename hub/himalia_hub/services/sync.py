"""From the configuration to rows, at each start: what is no longer there goes, with its tokens."""

from __future__ import annotations

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import out
from himalia_hub.auth.accounts import Ended
from himalia_hub.db.engine import Database
from himalia_hub.errors import ConfigError, Conflict
from himalia_hub.replicas.models import CutRow
from himalia_hub.secrets import Secrets
from himalia_hub.services import store
from himalia_hub.services.models import Service
from himalia_hub.services.settings import CLIENT_PREFIX, ServiceSection
from himalia_hub.services.view import routespec
from himalia_hub.settings import HubSettings
from himalia_hub.tokens import store as tokens

log = structlog.get_logger()

TRIES = 3


async def write_configured(database: Database, settings: HubSettings, secrets: Secrets) -> list[CutRow]:
    """Bring the rows to what `[[services]]` says; what is to be cut for it. ConfigError: what cannot be."""
    for left in reversed(range(TRIES)):
        try:
            async with database.begin() as db:
                return await _write(db, settings, secrets)
        except IntegrityError:  # another replica that starts at this moment was first
            if not left:
                raise ConfigError(
                    "a service of [[services]] has the OAuth client of another one, made over the API"
                ) from None
    raise AssertionError("the last try returns or raises")


async def note_end(db: AsyncSession, settings: HubSettings, row: Service) -> list[CutRow]:
    """End the tokens of a service that is about to be deleted, its own and those that people gave it, and note that
    what they opened is to be cut, and what is open through its route.
    """
    ended = await tokens.end_service(db, row.id, row.oauth_client_id)
    route = routespec(settings, row.name)
    noted = [
        out.note(db, [Ended(tokens=ended)]),
        out.note(db, everybody=True, route=route) if row.url else None,
    ]
    return [one for one in noted if one is not None]


async def _write(db: AsyncSession, settings: HubSettings, secrets: Secrets) -> list[CutRow]:
    noted: list[CutRow] = []
    there = {row.name: row for row in await store.all_of(db)}
    names = {section.name for section in settings.services}
    for row in there.values():
        if row.from_config and row.name not in names:
            log.info("service.removed", name=row.name)
            noted += await note_end(db, settings, row)
            await db.execute(sa.delete(Service).where(Service.id == row.id))
    for section in settings.services:
        row = there.get(section.name) or Service(name=section.name, pid=0)
        was_admin = bool(row.admin)
        _fill(row, section)
        db.add(row)
        await db.flush()
        try:
            secret = token_of(section, row, secrets)
            ended = await tokens.put_service_token(db, service_id=row.id, secret=secret, now=clock.now())
        except Conflict as error:
            raise ConfigError(f"service {row.name!r}: {error}") from None
        losing = [row.id] if was_admin and not row.admin else []
        if lost := out.note(db, [Ended(tokens=ended)], services=losing):
            noted.append(lost)
    return noted


def _fill(row: Service, section: ServiceSection) -> None:
    for field in ("admin", "url", "info", "display", "command", "oauth_redirect_uri", "oauth_no_confirm"):
        setattr(row, field, getattr(section, field))
    row.from_config = True
    row.oauth_client_allowed_scopes = list(section.oauth_client_allowed_scopes)
    client_id = section.oauth_client_id or CLIENT_PREFIX + section.name
    row.oauth_client_id = client_id if section.asks_people else None


def token_of(section: ServiceSection, row: Service, secrets: Secrets) -> str | None:
    """The API token of a configured service: the one given, or for one that the hub runs, derived from its secret."""
    if section.api_token is not None:
        return section.api_token.get_secret_value()
    if section.api_token_file is not None:
        try:
            token = section.api_token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"{section.api_token_file} of service {section.name!r} cannot be read: {error.strerror}"
            ) from None
        if len(token) < 8:
            raise ConfigError(f"{section.api_token_file} holds no token of 8 characters or more")
        return token
    return secrets.service_token(row.id, row.name) if section.command else None
