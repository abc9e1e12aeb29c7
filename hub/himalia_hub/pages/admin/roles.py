"""Roles: make and change them, give them to people, groups and services, also for a time, and take them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from aiohttp import web
from pydantic import ValidationError

from himalia_hub import clock
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthorized, NotFound
from himalia_hub.keys import SETTINGS
from himalia_hub.languages import gettext, later
from himalia_hub.notices.schemas import moment
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.pages.tokens import Right, in_words
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.scopes import SCOPES
from himalia_hub.roles import change as roles_of
from himalia_hub.roles.schemas import RoleBody
from himalia_hub.schemas import sentence

DOES = ("put", "delete", "give", "take")
KINDS = {"user": later("People"), "group": later("Groups"), "service": later("Services")}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a role; `until` is None where that does not end by itself."""

    kind: str
    name: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One role. `fixed`: only the configuration can change it."""

    name: str
    description: str
    may: tuple[Right, ...]
    fixed: bool
    holders: tuple[Holder, ...]


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/roles", roles), web.post(prefix + "admin/roles", change)]


@signed_in
async def roles(request: web.Request) -> web.Response:
    """200 all roles with who has them; with `?edit=NAME` the form holds that one. 404 for a name that none has."""
    viewer.must_be(request, "read:roles")
    return await _page(request, {"edit": request.query.get("edit", "")})


@signed_in
async def change(request: web.Request) -> web.Response:
    """303 to the role, or `back` to the group or person that got it; 400, 403 or 409 the page again, saying why not."""
    identity = viewer.must_be(request, "read:roles")
    form = await request.post()
    fields = {key: value for key, value in form.items() if isinstance(value, str)}
    scopes = [str(one) for one in form.getall("scope", [])] + fields.get("scopes", "").replace(
        ",", " "
    ).split()
    name = fields.get("role", "").strip()
    try:
        if not identity.allows("admin:roles"):
            raise NotAuthorized("This needs the right “admin:roles”.")
        await _do(request, name, fields, list(dict.fromkeys(scopes)))
    except HimaliaError as problem:
        return await _page(request, {**fields, "scopes": " ".join(scopes)}, problem)
    there = "roles" if fields["does"] == "delete" else f"roles#role-{quote(name)}"
    if who := fields.get("names", ""):
        there = {"groups": f"groups#group-{quote(who)}", "people": f"people?name={quote(who)}"}.get(
            fields.get("back", ""), there
        )
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin/{there}", status=303)


async def _do(request: web.Request, name: str, fields: Mapping[str, str], scopes: list[str]) -> None:
    does = fields.get("does", "")
    if does not in DOES:
        raise BadRequest(f"{does[:30]!r} cannot be done to a role")
    if does == "put":
        try:
            body = RoleBody(description=fields.get("description", "").strip(), scopes=scopes)
        except ValidationError as error:
            raise BadRequest(sentence(error)) from None
        if not body.scopes:
            raise BadRequest("the role has no rights", remedy="choose one at least")
        is_new = fields.get("edit", "") != name
        await roles_of.put(request, name, body.description, body.scopes, only_new=is_new)
    elif does == "delete":
        if fields.get("sure", "") != name:
            raise BadRequest(f"what was typed is not {name!r}", remedy="type the role's name to confirm")
        await roles_of.delete(request, name)
    else:
        await roles_of.hand(request, name, _holders(fields), give=does == "give", until=_until(fields))


def _holders(fields: Mapping[str, str]) -> dict[str, list[str]]:
    kind = fields.get("kind", "user")
    if kind not in KINDS:
        raise BadRequest(f"{kind[:30]!r} cannot have a role", remedy="user, group or service")
    names = [part.strip() for part in fields.get("names", "").replace(",", "\n").splitlines()]
    found = [name.lower() if kind == "user" else name for name in names if name]
    if not found:
        raise BadRequest("nobody was named", remedy="write a name")
    return {one: found if one == kind else [] for one in KINDS}


def _until(fields: Mapping[str, str]) -> datetime | None:
    until, lasts, unit = (
        moment(fields.get("until") or None, "until"),
        fields.get("lasts", "").strip(),
        fields.get("unit"),
    )
    if lasts:
        if until is not None:
            raise BadRequest("there is a time and a length", remedy="leave one of them empty")
        if not (
            lasts.isascii() and lasts.isdigit() and 0 < int(lasts) < 10_000 and unit in ("hours", "days")
        ):
            raise BadRequest(f"{lasts[:20]!r} is no length", remedy="write 1 to 9999, in hours or days")
        return clock.now() + timedelta(**{str(unit): int(lasts)})
    if until is not None and until <= clock.now():
        raise BadRequest(f"{fields['until'][:40]} is over", remedy="choose a later time, in UTC")
    return until


async def _page(
    request: web.Request, typed: Mapping[str, str], problem: HimaliaError | None = None
) -> web.Response:
    identity = viewer.must_be(request, "read:roles")
    shown = sorted(map(_shown, await roles_of.every(request)), key=lambda one: one.fixed)
    edited = next((one for one in shown if one.name == typed.get("edit") and not one.fixed), None)
    if typed.get("edit") and edited is None and problem is None:
        raise NotFound("There is no such role, or only the configuration can change it.")
    boxes = _boxes(request, identity)
    fresh = edited if problem is None else None  # otherwise what was typed is kept
    chosen = [right.scope for right in fresh.may] if fresh else typed.get("scopes", "").split()
    return await page(
        request,
        "admin_roles.html",
        status=problem.status if problem else 200,
        roles=shown,
        kinds=KINDS,
        edited=edited.name if edited else "",
        does=typed.get("does", ""),
        typed={
            "role": typed.get("role", ""), "description": fresh.description if fresh else typed.get("description", ""),
            "scopes": " ".join(scope for scope in chosen if scope not in {box.scope for box in boxes}),
            **{key: typed.get(key, "") for key in ("kind", "names", "until", "lasts", "unit")},
        },
        ticked=frozenset(chosen),
        boxes=boxes,
        may_change=identity.allows("admin:roles"),
        problem=problem,
    )  # fmt: skip


def _boxes(request: web.Request, identity: Identity) -> list[Right]:
    """The rights over everybody's things that the viewer holds, and so can give."""
    held = [
        Right(name, gettext(scope.description)) for name, scope in SCOPES.items() if identity.allows(name)
    ]
    return held + [
        Right(name, "") for name in dict(request.app[SETTINGS].rules.custom) if identity.allows(name)
    ]


def _shown(model: Mapping[str, Any]) -> Shown:
    holders = (
        Holder(one["kind"], one["name"], one["expires_at"] and datetime.fromisoformat(one["expires_at"]))
        for one in model["members"]
    )
    may = tuple(map(in_words, model["scopes"]))
    return Shown(model["name"], model["description"], may, model["from_config"], tuple(holders))
