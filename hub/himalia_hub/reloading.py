"""Reading the configuration again while the hub runs: what can change does, and a bad file changes nothing.

Everything reads its settings when it needs them, from the one object that it was given. That object is filled anew
here, between two awaits, so that nobody ever sees half of a change.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub.audit.record import tell
from himalia_hub.auth import out
from himalia_hub.auth.door import DOOR, make_door
from himalia_hub.auth.vault import VAULT
from himalia_hub.errors import BadRequest, Conflict, HimaliaError
from himalia_hub.groups.models import Group, Membership
from himalia_hub.keys import DB, MEMO, SETTINGS, WORLD
from himalia_hub.pages import render
from himalia_hub.rbac.guard import scoped
from himalia_hub.rbac.models import RoleFromSignIn
from himalia_hub.rbac.rules import Rules
from himalia_hub.rbac.settings import RoleSection
from himalia_hub.replicas import elsewhere
from himalia_hub.roles.store import HeldBy
from himalia_hub.services.models import Service
from himalia_hub.services.sync import write_configured
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User

HOT = frozenset(
    {
        "auth",
        "audit",
        "cull",
        "custom_scopes",
        "pages",
        "profiles",
        "quotas",
        "roles",
        "servers",
        "services",
        "spawner",
    }
)
"""Tables that are read again."""
COLD = frozenset(
    {
        "auth.crypt_keys_file",
        "servers.stop_on_exit",
        "spawner.kind",
        "spawner.concurrent_steps",
        "spawner.process",
        "spawner.docker",
        "spawner.swarm",
    }
)
"""What in those tables needs a restart all the same: something was made with it at the start."""

KEPT_ROLES = "roles.json"
"""In the data folder: the roles of the configuration when they were last read."""

log = structlog.get_logger()


def is_hot(key: str) -> bool:
    """Whether a changed value of this dotted key is in force after a reload."""
    parts = key.split(".")
    return parts[0] in HOT and not any(".".join(parts[:depth]) in COLD for depth in range(1, len(parts) + 1))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Keys whose new values are in force, and those that wait for a restart."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As it is answered."""
        return {"changed": list(self.changed), "needs_restart": list(self.needs_restart)}


@dataclass(slots=True)
class Reloader:
    """Reads what this hub was started with once more; `load` is None where nothing says how (in tests)."""

    load: Callable[[], HubSettings] | None = None
    at_work: bool = field(default=False)

    async def reload(self, app: web.Application) -> Outcome:
        """ConfigError with every problem, and then nothing has changed."""
        if self.load is None:
            raise Conflict("this hub does not know where its configuration came from")
        if self.at_work:
            raise Conflict("the configuration is being read again just now", remedy="look at its answer")
        self.at_work = True
        try:
            return await _adopt(app, self.load())
        finally:
            self.at_work = False


RELOADER: web.AppKey[Reloader] = web.AppKey("reloader")


async def on_hangup(app: web.Application) -> None:
    """At SIGHUP: here and, when the file is good, at the other hubs; every answer stands in the log."""
    if "refused" in await as_asked(app):
        return
    try:
        for url, said in (await elsewhere.reload(app[WORLD])).items():
            log.log(WARNING if "refused" in said else INFO, "config.reloaded_elsewhere", hub=url, **said)
    except (SQLAlchemyError, OSError) as error:
        log.error("config.not_reloaded_elsewhere", cause=str(error)[:2000])


async def as_asked(app: web.Application) -> dict[str, Any]:
    """Because of a signal, or of another hub: `changed` and `needs_restart`, or else `refused` with the reason."""
    try:
        return (await app[RELOADER].reload(app)).as_json()
    except (HimaliaError, SQLAlchemyError, OSError) as error:
        log.error("config.not_reloaded", cause=str(error)[:2000])
        return {"refused": str(error)[:2000]}


async def _adopt(app: web.Application, new: HubSettings) -> Outcome:
    old, world = app[SETTINGS], app[WORLD]
    differ = list(differences(old, new))
    outcome = Outcome(
        tuple(key for key in differ if is_hot(key)), tuple(key for key in differ if not is_hot(key))
    )
    mixed = merged(old, new)
    await asyncio.to_thread(render.check_templates, mixed)
    door = make_door(mixed, world.db, app[VAULT])  # the first things that can fail
    try:
        gone = await write_configured(world.db, mixed, world.secrets)
    except HimaliaError:
        await door.close()
        raise
    rules = old.rules
    old.take_over(mixed)
    await app[DOOR].replace_by(door)
    app[MEMO].forget()
    world.doorbell.ring_all()
    world.pace.changed()
    log.info("config.reloaded", changed=outcome.changed, needs_restart=outcome.needs_restart)
    await out.cut(app, *gone)
    losing = await _who_loses(app, rules, mixed.rules)
    await out.cut_people(app, losing.people, losing.services)
    await asyncio.to_thread(_keep, mixed.data_dir / KEPT_ROLES, mixed.rules)
    return outcome


async def _who_loses(app: web.Application, old: Rules, new: Rules) -> HeldBy:
    """Who had a role of the configuration that let them in somewhere and is another one now, or gone: by name, by a
    group, by a sign-in. The default roles can be redefined, and everybody, or every manager, has those.
    """
    changed = [name for name in {*old.roles, *new.roles} if old.roles.get(name) != new.roles.get(name)]
    lost = {name for name in changed if name != "server" and _lets_in(old, name)}
    if not lost:
        return HeldBy()
    losing = [role for role in old.roles.values() if role.name in lost]
    names = {name for role in losing for name in role.users}
    groups = {name for role in losing for name in role.groups}
    members = sa.select(Membership.user_id).join(Group, Group.id == Membership.group_id)
    signed_in = sa.select(RoleFromSignIn.user_id).where(RoleFromSignIn.role.in_(lost))
    theirs = sa.or_(
        User.name.in_(names),
        User.id.in_(members.where(Group.name.in_(groups))),
        User.id.in_(members.where(Membership.manager) if "manager" in lost else members.where(sa.false())),
        User.id.in_(signed_in),
    )
    everybody = not lost.isdisjoint(("user", "guest", "token"))
    programs = {name for role in losing for name in role.services}
    async with app[DB].read() as db:
        people = await db.scalars(sa.select(User.id).where(sa.true() if everybody else theirs))
        services = await db.scalars(sa.select(Service.id).where(Service.name.in_(programs)))
        return HeldBy(frozenset(people), frozenset(services))


def _lets_in(rules: Rules, role: str) -> bool:
    raw = rules.scopes_of(role) or ()
    # What stands for each one's own, or each one's group, comes to nothing where nobody is named.
    return any(scope == "self" or scope.startswith("access:") for scope in raw) or rules.lets_in(raw)


async def since_last_time(app: web.Application) -> None:
    """Note what is to be cut where the configuration was changed while no hub ran on this folder. What it said of roles
    is kept beside the database, as it is not in it.
    """
    rules, file = app[SETTINGS].rules, app[SETTINGS].data_dir / KEPT_ROLES
    try:
        said = json.loads(file.read_text())
        before = Rules({one["name"]: RoleSection.model_validate(one) for one in said})
    except (OSError, ValueError, TypeError, LookupError):
        before = None
    if before is not None:
        losing = await _who_loses(app, before, rules)
        async with app[DB].begin() as db:
            out.note(db, people=losing.people, services=losing.services)
    await asyncio.to_thread(_keep, file, rules)


def _keep(file: Path, rules: Rules) -> None:
    text = json.dumps([role.model_dump(mode="json") for role in rules.roles.values()], ensure_ascii=False)
    draft = file.with_name(f"{file.name}.new")
    try:
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.replace(file)
    except OSError as error:
        log.warning("config.roles_not_kept", error=type(error).__name__)


def differences(old: BaseModel, new: BaseModel, above: str = "") -> Iterator[str]:
    """Dotted keys whose values differ; tables under free names and lists count as one value. Pure."""
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from differences(before, after, f"{above}{name}.")
        elif before != after:
            yield above + name


def merged(old: HubSettings, new: HubSettings) -> HubSettings:
    """The old settings with the hot values of the new ones, judged as a whole. Pure."""
    values: dict[str, Any] = {}
    for name in HubSettings.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name not in HOT:
            values[name] = before
        elif isinstance(before, BaseModel):
            kept = {
                key: getattr(before, key) for key in type(before).model_fields if not is_hot(f"{name}.{key}")
            }
            values[name] = after.model_copy(update=kept)
        else:
            values[name] = after
    return HubSettings.model_validate(values)


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.post(prefix + "api/config/reload", reload_config)]


@scoped("shutdown")
async def reload_config(request: web.Request) -> web.Response:
    """200 `changed` and `needs_restart`, lists of keys, of the hub that was asked; 400 with every problem, and nothing
    has changed; 409 while it is being read by somebody else.

    `hubs`: what the others on the same database took, by address: `changed` and `needs_restart`, or `refused` with why.
    """
    try:
        outcome = await request.app[RELOADER].reload(request.app)
    except HimaliaError as error:
        if isinstance(error, Conflict):
            raise
        raise BadRequest(str(error), remedy="nothing was changed") from None
    others = await elsewhere.reload(request.app[WORLD])
    tell(request, change={"after": {"changed": list(outcome.changed)}})
    return web.json_response({**outcome.as_json(), "hubs": others})
