"""Groups: make, fill, empty and delete them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import sqlalchemy as sa
from aiohttp import web

from himalia_hub.audit.record import tell
from himalia_hub.auth import out
from himalia_hub.errors import BadRequest, HimaliaError, NotFound
from himalia_hub.groups import store
from himalia_hub.groups.change import may_put_in, note_leaving
from himalia_hub.groups.models import Group
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.replicas.models import CutRow
from himalia_hub.roles import change as roles_of
from himalia_hub.usage import store as usage
from himalia_hub.usage.models import Quota

AT_MOST = 500
DOES = {
    "create": "admin:groups",
    "delete": "delete:groups",
    "add": "groups",
    "remove": "groups",
    "manage": "admin:groups",
    "unmanage": "admin:groups",
    "profiles": "admin:groups",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A profile, and whether members may start it by the configuration (`said`) or because it was ticked (`ticked`)."""

    name: str
    title: str
    everybody: bool
    said: bool
    ticked: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One group on the page. `mine`: the viewer may change who is in it. `said` are the limits in the configuration.

    `profiles` are all there are: for everybody, or given to this group by the configuration or here. `roles` are what
    its members have by it, and until when (None: for good), where the viewer may read roles.
    """

    name: str
    members: list[str]
    managers: list[str]
    mine: bool
    quota: Quota | None
    said: dict[str, float | None]
    profiles: list[Given]
    roles: list[tuple[str, datetime | None]]


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/groups", groups), web.post(prefix + "admin/groups", change)]


@signed_in
async def groups(request: web.Request) -> web.Response:
    """200 the groups that the viewer may list, with who is in them."""
    viewer.must_group(request)
    return await _page(request, None)


@signed_in
async def change(request: web.Request) -> web.Response:
    """303 back to the group; 400 the page again, saying why not."""
    identity = viewer.must_group(request)
    form = await request.post()
    fields = {key: value for key, value in form.items() if isinstance(value, str)}
    does, name = fields.get("does", ""), fields.get("group", "").strip()
    names = [part.strip().lower() for part in fields.get("people", "").replace(",", "\n").splitlines()]
    if does == "profiles":
        names = sorted({str(one) for one in form.getall("profile", [])})
    try:
        if does not in DOES:
            raise BadRequest(f"{does[:30]!r} cannot be done to a group")
        if not identity.allows(DOES[does], group=name):
            raise NotFound("There is no such group, or it is not yours to change.")
        await _do(request, does, name, [one for one in names if one], fields.get("sure", ""))
    except HimaliaError as problem:
        return await _page(request, problem)
    tell(request, target=name, change={"after": {does: [one for one in names if one] or name}})
    url = f"{request.app[SETTINGS].hub_prefix}admin/groups"
    return redirect(f"{url}#group-{quote(name)}" if does != "delete" else url, status=303)


async def _do(request: web.Request, does: str, name: str, names: list[str], sure: str) -> None:
    lost: list[CutRow] = []
    async with request.app[DB].begin() as db:
        if does == "create":
            group = await store.create(db, name)
        elif (found := await store.by_name(db, name)) is None:
            raise NotFound(f"there is no group {name[:64]!r}")
        else:
            group = found
        people = await store.people(db, names) if does not in ("profiles", "delete") else []
        if does == "profiles":
            _set_profiles(request, group, names)
        elif does in ("create", "add", "manage"):
            await may_put_in(request, db, group.name, people)
            await store.add(db, group, people)
            if does == "manage":
                await store.set_manager(db, group, people, manager=True)
        elif does == "unmanage":
            await store.set_manager(db, group, people, manager=False)
        elif does == "remove":
            lost = await note_leaving(request, db, group, people)
            await store.remove(db, group, people)
        elif sure != name:
            raise BadRequest(f"what was typed is not {name!r}", remedy="type the group's name to confirm")
        else:
            lost = await note_leaving(request, db, group)
            await db.execute(sa.delete(Group).where(Group.id == group.id))
    await out.cut(request.app, *lost)


def _set_profiles(request: web.Request, group: Group, names: list[str]) -> None:
    """BadRequest names the first that there is not. One that the configuration dropped is dropped here, too."""
    known = {profile.name for profile in request.app[SETTINGS].profiles}
    if unknown := [name for name in names if name not in known]:
        raise BadRequest(f"there is no profile {unknown[0][:64]!r}", remedy="reload the page: it may be gone")
    group.profiles = names


async def _page(request: web.Request, problem: HimaliaError | None) -> web.Response:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let them through
    async with request.app[DB].read() as db:
        found, _ = await store.page_of(db, only=None, offset=0, limit=AT_MOST)
        members = await store.members(db, [group.id for group in found])
        managers = await store.managers_of(db, [group.id for group in found])
        quotas = await usage.set_for_groups(db, found)
    settings = request.app[SETTINGS]
    every = await roles_of.every(request) if identity.allows("read:roles") else []
    return await page(
        request,
        "admin_groups.html",
        status=problem.status if problem else 200,
        groups=[
            Shown(
                group.name,
                members[group.id],
                managers[group.id],
                identity.allows("groups", group=group.name),
                quotas.get(group.id),
                usage.limits_in(settings.quotas.groups.get(group.name))._asdict(),
                [
                    Given(
                        profile.name,
                        profile.title or profile.name,
                        everybody=not profile.groups,
                        said=not profile.groups or group.name in profile.groups,
                        ticked=profile.name in group.profiles,
                    )
                    for profile in settings.profiles
                ],
                roles_of.held_by(every, "group", group.name),
            )
            for group in found
            if identity.allows("list:groups", group=group.name)
        ],
        roles=roles_of.to_give(identity, every),
        may_create=identity.allows("admin:groups"),
        problem=problem,
    )
