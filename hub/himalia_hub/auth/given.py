"""What the place where somebody signs in gives them here: groups, roles and a name to be shown by.

Brought into line at each sign-in there: what it says no longer is taken away, what somebody gave by hand stays. A row
that came this way carries the place's realm.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from himalia_hub.auth import out
from himalia_hub.auth.base import Person
from himalia_hub.auth.settings import MethodSection
from himalia_hub.groups.models import Group, Membership
from himalia_hub.groups.names import is_name
from himalia_hub.rbac.models import RoleFromSignIn
from himalia_hub.users.models import User

log = structlog.get_logger()

MOST_GROUPS = 500
"""Of one person; a place that names more is taken at its first ones by name."""
LONGEST_NAME = 255


def bring_into_line(db: Session, section: MethodSection, realm: str, person: Person, user: User) -> None:
    """Groups, roles and shown name of this person as the place says them now; nothing is written where they are so."""
    shown = person.display_name.strip()[:LONGEST_NAME]
    user.display_name = shown if shown and shown.isprintable() else None
    left = _groups(db, groups_here(section, person.groups), realm, user)
    _roles(db, _named(section.roles, person.groups), realm, user)
    if user.has_lost:
        out.note(db, people=[user.id])
        out.note(db, left=[user.id] if left else (), groups=left)


def groups_here(section: MethodSection, there: frozenset[str]) -> set[str]:
    """The names of the groups here that these groups there come to. Pure."""
    wanted = _named(section.groups, there)
    if section.all_groups:
        in_table = {name for names in section.groups.values() for name in names}
        wanted |= {name for name in there - in_table if is_name(name)}
    return set(sorted(wanted)[:MOST_GROUPS])


def _named(table: dict[str, list[str]], there: frozenset[str]) -> set[str]:
    return {here for here, names in table.items() if not there.isdisjoint(names)}


def _groups(db: Session, wanted: set[str], realm: str, user: User) -> set[str]:
    """The names of those that this person is in no more."""
    rows = db.execute(
        sa.select(Group.name, Membership.given_by)
        .join(Membership, Membership.group_id == Group.id)
        .where(Membership.user_id == user.id)
    )
    held = {row.name: row.given_by for row in rows}
    over = {name for name, given_by in held.items() if given_by == realm} - wanted
    if over:
        left = Membership.group_id.in_(sa.select(Group.id).where(Group.name.in_(over)))
        db.execute(sa.delete(Membership).where(Membership.user_id == user.id, left))
    new = wanted - held.keys()
    if new:
        there = {group.name: group for group in db.scalars(sa.select(Group).where(Group.name.in_(new)))}
        made = [Group(name=name, properties={}) for name in sorted(new - there.keys())]
        db.add_all(made)
        db.flush()
        ids = [group.id for group in (*there.values(), *made)]
        db.add_all(Membership(user_id=user.id, group_id=group_id, given_by=realm) for group_id in ids)
    _tell("groups", user, over, new)
    return over


def _roles(db: Session, wanted: set[str], realm: str, user: User) -> None:
    theirs = RoleFromSignIn.user_id == user.id, RoleFromSignIn.realm == realm
    held = set(db.scalars(sa.select(RoleFromSignIn.role).where(*theirs)))
    if user.admin and "admin" not in held:
        wanted = wanted - {"admin"}  # by hand, and so not ours to take away one day
    else:
        user.admin = "admin" in wanted
    over, new = held - wanted, wanted - held
    if over:
        db.execute(sa.delete(RoleFromSignIn).where(*theirs, RoleFromSignIn.role.in_(over)))
    db.add_all(RoleFromSignIn(user_id=user.id, realm=realm, role=name) for name in new)
    _tell("roles", user, over, new)


def _tell(what: str, user: User, over: Iterable[str], new: Iterable[str]) -> None:
    user.has_lost = user.has_lost or bool(over)
    if over or new:
        log.info("login.brought_into_line", user=user.name, what=what, taken=sorted(over), given=sorted(new))
