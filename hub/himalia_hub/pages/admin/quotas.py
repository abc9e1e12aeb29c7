"""The form that sets the quota of a person or a group; it stands on the pages of both."""

from __future__ import annotations

from urllib.parse import quote

import pydantic
from aiohttp import web

from himalia_hub.audit.record import tell
from himalia_hub.auth.forms import posted
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.groups import store as groups
from himalia_hub.groups.models import Group
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.paths import redirect
from himalia_hub.rbac.guard import signed_in
from himalia_hub.usage import store
from himalia_hub.usage.quota import Limits
from himalia_hub.usage.settings import QuotaLimits
from himalia_hub.users import changes
from himalia_hub.users import store as users
from himalia_hub.users.models import User


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.post(prefix + "admin/quota", set_quota)]


@signed_in
async def set_quota(request: web.Request) -> web.Response:
    """303 back to the person or group, whose next start it counts for; 400 for what is no amount."""
    identity = viewer.must_be(request)
    fields = {key: value for key, value in (await posted(request)).items() if isinstance(value, str)}
    name, of_group = fields.get("name", ""), fields.get("of") == "group"
    limits = limits_of(fields)
    async with request.app[DB].begin() as db:
        of: User | Group | None
        if of_group:
            of = await groups.by_name(db, name) if identity.allows("admin:groups", group=name) else None
        else:
            of = await users.by_name(db, name) if identity.allows("admin:users", user=name) else None
        if of is None:
            raise NotFound("There is nobody of this name, or their quota is not yours to set.")
        if isinstance(of, User):
            changes.may_touch(identity, of)
        await store.set_quota(db, of, limits._asdict() if limits != Limits() else None)
    tell(request, target_user="" if of_group else name, target=name, change={"after": limits._asdict()})
    prefix = request.app[SETTINGS].hub_prefix
    where = f"groups#group-{quote(name)}" if of_group else f"people?name={quote(name)}"
    return redirect(f"{prefix}admin/{where}", status=303)


def limits_of(fields: dict[str, str]) -> Limits:
    """The amounts of the form: empty is as the configuration says, 0 is no limit. BadRequest names a bad one."""
    said = {key: fields[key].strip() for key in Limits._fields if fields.get(key, "").strip()}
    try:
        return store.limits_in(QuotaLimits.model_validate(said))
    except pydantic.ValidationError as wrong:
        key = str(wrong.errors()[0]["loc"][0])
        raise BadRequest(
            f"{said.get(key, '')[:30]!r} is no amount of {key.replace('_', ' ')}",
            remedy="write a number, memory such as 8G; 0 is no limit; leave it empty for what the configuration says",
        ) from wrong
