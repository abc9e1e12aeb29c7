"""`himalia config reload`: have the hub of this data folder read its configuration again, and show its answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import aiohttp
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from himalia_hub import clock
from himalia_hub.cli.common import open_database
from himalia_hub.errors import ConfigError, NotFound, Unavailable
from himalia_hub.folder import Running, shown, where_it_runs
from himalia_hub.settings import HubSettings, local_url
from himalia_hub.tokens import store as tokens
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

ANSWER_S = 60.0


async def reload(settings: HubSettings) -> str:
    """What the hub says, in lines. ConfigError when it refuses the file, Unavailable when none runs.

    It is asked as its first administrator, by a token that is gone afterwards: who may read the data folder may
    make one anyway (`himalia token`).
    """
    running = where_it_runs(settings.data_dir)
    async with open_database(_on_its_database(settings, running)) as database:
        async with database.begin() as db:
            admins = sa.select(User.id).where(User.admin, User.suspended.is_(None))
            user_id = await db.scalar(admins.order_by(User.id).limit(1))
            if user_id is None:
                raise NotFound("this hub has no administrator", remedy="himalia user add NAME --admin")
            lasts = timedelta(seconds=2 * ANSWER_S)
            token, secret = await tokens.issue(
                db,
                user_id,
                now=clock.now(),
                scopes=["shutdown"],
                note="himalia config reload",
                expires_in=lasts,
            )
        try:
            return _said(await _ask(settings, running, secret))
        finally:
            async with database.begin() as db:
                await db.execute(sa.delete(ApiToken).where(ApiToken.id == token.id))


def _on_its_database(settings: HubSettings, running: Running | None) -> HubSettings:
    """The settings with the database that the hub works on, where the file has another one by now: a token in that one
    is nobody's. ConfigError where its password is not known any more.
    """
    its = running.database if running else ""
    if not its or its == shown(settings.db_url):
        return settings
    if make_url(its).password is not None:
        raise ConfigError(
            f"the hub runs on {its}, and db.url is another one now",
            remedy="that one counts after a restart: restart the hub, or put db.url back and ask again",
        )
    db = settings.db.model_copy(update={"url": SecretStr(its)})
    return settings.model_copy(update={"db": db})


async def _ask(settings: HubSettings, running: Running | None, secret: str) -> dict[str, Any]:
    # The file may have another address by now. A hub that shares this one's rows from another folder has no lock here.
    at = running.hub if running else local_url(settings.hub.ip, settings.hub.port) + settings.hub_prefix
    url = f"{at}api/config/reload"
    headers = {"Authorization": f"token {secret}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S), headers=headers) as session,
            session.post(url) as answer,
        ):
            said = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(
            f"no hub answers at {url} ({type(error).__name__}); is it running, and was its address changed in the file?"
        ) from None
    if answer.status != 200:
        raise ConfigError(str(said.get("message") if isinstance(said, dict) else said))
    return dict(said)


def _said(answer: dict[str, Any]) -> str:
    lines = _of_one(answer)
    for url, said in answer.get("hubs", {}).items():
        lines += [f"{url}: {line}" for line in _of_one(said)]
    return "\n".join(lines)


def _of_one(said: dict[str, Any]) -> list[str]:
    if "refused" in said:
        return [f"changed nothing: {said['refused']}"]
    lines = [f"in force now: {', '.join(said['changed']) or 'nothing was changed'}"]
    if said["needs_restart"]:
        lines.append(f"after a restart: {', '.join(said['needs_restart'])}")
    return lines
