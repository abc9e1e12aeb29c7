"""People: add many by pasting, rename, make an administrator, delete."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import first_password, out
from himalia_hub.auth.door import DOOR
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthorized, NotFound
from himalia_hub.groups import store as groups
from himalia_hub.groups.change import may_put_in
from himalia_hub.keys import DB, SETTINGS, SPAWNER
from himalia_hub.languages import gettext, sentence
from himalia_hub.pages.admin import access, viewer
from himalia_hub.pages.cards import cards
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac import rights
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.roles import change as roles_of
from himalia_hub.servers import store as servers
from himalia_hub.usage import store as usage
from himalia_hub.usage.quota import merged
from himalia_hub.users import changes, store
from himalia_hub.users.models import User
from himalia_spawner.base import TellsOfFiles

AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One pasted name: what it would become, or why it cannot."""

    written: str
    name: str
    problem: str = ""


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "admin/people/add", ask),
        web.post(prefix + "admin/people/add", add),
        web.get(prefix + "admin/people", person),
        web.post(prefix + "admin/people", change),
        web.post(prefix + "admin/people/delete", delete),
        web.post(prefix + "admin/people/access", admit),
    ]


def read_names(text: str, there: Collection[str]) -> list[Line]:
    """The pasted names, one a line or with commas between, each judged: in use, twice, or not to be used."""
    seen: set[str] = set()
    lines = []
    for written in (part.strip() for part in text.replace(",", "\n").replace(";", "\n").splitlines()):
        if not written:
            continue
        try:
            name = store.normalise(written)
        except BadRequest as wrong:
            lines.append(Line(written, "", f"{sentence(wrong.message)}: {sentence(wrong.remedy)}"))
            continue
        problem = ""
        if name in seen:
            problem = gettext("is in the list twice")
        elif name in there:
            problem = gettext("exists already")
        lines.append(Line(written, name, problem))
        seen.add(name)
    return lines


@signed_in
async def ask(request: web.Request) -> web.Response:
    """200 a box to paste names into."""
    viewer.must_be(request, "admin:users")
    # Where there is no other way in, who has no password could not come.
    return await _add_page(request, "", [], "", with_links=request.app[DOOR].only_local)


@signed_in
async def add(request: web.Request) -> web.Response:
    """200 the preview, where every name is judged; with `sure` the good ones are added: 303 to the list of them, or 200
    a page with a link for the password of each.
    """
    identity, fields = viewer.must_be(request, "admin:users"), await _fields(request)
    text, group = fields.get("names", ""), fields.get("group", "").strip()
    async with request.app[DB].begin() as db:
        lines = await _judged(db, text)
        good = [line.name for line in lines if not line.problem]
        if not good or len(lines) > AT_MOST or "sure" not in fields:
            made = []
        else:
            made = [User(name=name, admin=False, created=clock.now()) for name in good]
            db.add_all(made)
            await db.flush()
            if group:
                found = await groups.by_name(db, group)
                if not identity.allows("groups" if found else "admin:groups", group=group):
                    raise NotAuthorized("This group is not yours to fill.", remedy="leave its field empty")
                found = found or await groups.create(db, group)
                await may_put_in(request, db, group, made)
                await groups.add(db, found, made)
    with_links = "links" in fields and _may_link(request, identity)
    if not made:
        return await _add_page(request, text, lines, group, with_links=with_links)
    tell(request, change={"after": {"added": good, "group": group, "password_links": with_links}})
    query = f"group:{group}" if group and " " not in group else f'group:"{group}"' if group else ""
    url = f"{request.app[SETTINGS].hub_prefix}admin"
    url = f"{url}?q={quote(query)}" if query else url
    if not with_links:
        return redirect(url, status=303)
    links = [(user.name, first_password.link_for(request, user)) for user in made]
    days = first_password.LASTS.days
    return await page(request, "admin_added.html", links=links, back=url, link_days=days)


def _may_link(request: web.Request, identity: Identity) -> bool:
    return identity.is_whole_admin and request.app[DOOR].has_local


@signed_in
async def person(request: web.Request) -> web.Response:
    """200 one person: what they are called, what they may do, what they have."""
    identity = viewer.must_be(request)
    return await _person_page(request, identity, request.query.get("name", ""))


@signed_in
async def change(request: web.Request) -> web.Response:
    """303 to the changed person; 400 the page again, saying why not."""
    identity, fields = viewer.must_be(request), await _fields(request)
    name, wanted, admin = fields.get("name", ""), fields.get("wanted", "").strip(), "admin" in fields
    try:
        async with request.app[DB].begin() as db:
            user = await _user(db, identity, name)
            before = {"name": user.name, "admin": user.admin}
            if admin != user.admin and not identity.is_whole_admin:
                raise NotAuthorized("only an administrator, with all rights, can make one")
            if admin != user.admin and user.id == identity.user_id:
                raise BadRequest("nobody can take their own rights away", remedy="ask another administrator")
            user.admin = admin
            if wanted and store.normalise(wanted) != user.name:
                await changes.rename(db, user, wanted)
            after = {"name": user.name, "admin": user.admin}
            lost = changes.note_change(db, user, before)
    except HimaliaError as problem:
        return await _person_page(request, identity, name, problem=problem)
    await out.cut(request.app, lost)
    tell(request, target_user=name, change={"before": before, "after": after})
    url = f"{request.app[SETTINGS].hub_prefix}admin/people?name={quote(str(after['name']))}"
    return redirect(url, status=303)


@signed_in
async def admit(request: web.Request) -> web.Response:
    """303 to the person, who is out, in again, or without a second step; 200 the page with a link for their password.

    4xx the page again, saying why not.
    """
    identity, fields = viewer.must_be(request), await _fields(request)
    name, link = fields.get("name", ""), ""
    tell(request, target_user=name)
    try:
        async with request.app[DB].read() as db:
            user = await _user(db, identity, name)
        link = await access.do(request, identity, user, fields.get("does", ""))
    except HimaliaError as problem:
        return await _person_page(request, identity, name, problem=problem)
    if link:
        return await _person_page(request, identity, name, link=link)
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin/people?name={quote(name)}", status=303)


@signed_in
async def delete(request: web.Request) -> web.Response:
    """303 to the list without them, once their name was typed; else the page again, saying why not."""
    identity, fields = viewer.must_be(request), await _fields(request)
    name = fields.get("name", "")
    try:
        if not identity.allows("delete:users", user=name):
            raise NotFound("There is no such person, or they are not yours to delete.")
        if name == identity.name:
            raise BadRequest("nobody can delete their own account", remedy="ask another administrator")
        if fields.get("sure", "").strip().lower() != name:
            raise BadRequest(f"what was typed is not {name!r}", remedy="type the name to confirm")
        await changes.delete(request, identity, name)
    except HimaliaError as problem:
        return await _person_page(request, identity, name, problem=problem)
    tell(request, target_user=name, change={"before": {"name": name}})
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin", status=303)


async def _judged(db: AsyncSession, text: str) -> list[Line]:
    wanted = {line.name for line in read_names(text, ()) if line.name}
    there = set(await db.scalars(sa.select(User.name).where(User.name.in_(list(wanted)[: AT_MOST + 1]))))
    return read_names(text, there)


async def _add_page(
    request: web.Request, text: str, lines: list[Line], group: str, *, with_links: bool = False
) -> web.Response:
    async with request.app[DB].read() as db:
        known, _ = await groups.page_of(db, only=None, offset=0, limit=200)
    return await page(
        request,
        "admin_add.html",
        text=text,
        lines=lines,
        group=group,
        good=sum(not line.problem for line in lines),
        groups=[one.name for one in known],
        at_most=AT_MOST,
        may_link=_may_link(request, viewer.must_be(request)),
        with_links=with_links,
    )


async def _person_page(
    request: web.Request,
    identity: Identity,
    name: str,
    *,
    problem: HimaliaError | None = None,
    link: str = "",
) -> web.Response:
    async with request.app[DB].read() as db:
        user = await _user(db, identity, name)
        theirs = await servers.list_for_user(db, user.id)
        member_of = await groups.of_user(db, user.id)
        quota = await usage.set_for_user(db, user)
        how = await access.shown(request, db, identity, user)
        held = await rights.held(db, user, request.app[SETTINGS].rules, now=clock.now())
    roles = await roles_of.every(request) if identity.allows("admin:roles") else []
    said, spawner = request.app[SETTINGS].quotas, request.app[SPAWNER]
    tells = spawner if isinstance(spawner, TellsOfFiles) else None
    by_account = tells is not None and tells.files_by_account
    return await page(
        request,
        "admin_person.html",
        status=problem.status if problem else 200,
        user=user,
        cards=cards(theirs, user.name, request.app[SETTINGS], member_of),
        member_of=member_of,
        held=held,
        roles=roles_of.to_give(identity, roles),
        quota=quota,
        said=merged(usage.limits_in(said), usage.limits_in(said.users.get(user.name)))._asdict(),
        problem=problem,
        kept=user.name if by_account else user.kept_as or user.name,
        by_account=by_account,
        files_end=tells is not None and tells.files_end_with_person,
        may_delete=identity.allows("delete:users", user=user.name) and user.id != identity.user_id,
        may_promote=identity.is_whole_admin and user.id != identity.user_id,
        link=link,
        **how,
    )


async def _user(db: AsyncSession, identity: Identity, name: str) -> User:
    user = await store.by_name(db, name)
    if user is None or not identity.allows("admin:users", user=name):
        raise NotFound("There is no such person, or they are not yours to change.")
    changes.may_touch(identity, user)
    return user


async def _fields(request: web.Request) -> dict[str, str]:
    post: Any = await request.post()
    return {key: value for key, value in post.items() if isinstance(value, str)}
