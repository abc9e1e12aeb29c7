"""From who somebody is elsewhere to an account here: the same rules for every way to sign in.

An identity is (realm, subject). A name, an e-mail address or anything else that a person can choose never ties
anybody to an account that exists; deny is the default, and two rules together never let in more than each alone.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from himalia_hub.auth import given
from himalia_hub.auth.base import Person, Traits
from himalia_hub.auth.models import ExternalIdentity
from himalia_hub.auth.settings import MethodSection
from himalia_hub.auth.vault import Vault
from himalia_hub.db.base import insert_of, insert_unless_there
from himalia_hub.db.prepared import Prepared, attached, columns_of
from himalia_hub.errors import BadRequest, NotAuthorized
from himalia_hub.users import store as users
from himalia_hub.users.models import User

LONGEST_SUBJECT = 255

KNOWN = Prepared(
    sa.select(ExternalIdentity.id, *columns_of(User))
    .join_from(ExternalIdentity, User, User.id == ExternalIdentity.user_id)
    .where(
        ExternalIdentity.realm == sa.bindparam("realm"), ExternalIdentity.subject == sa.bindparam("subject")
    )
)
_NAMED = Prepared(sa.select(*columns_of(User)).where(User.name == sa.bindparam("name")))
_MADE = Prepared(
    functools.partial(insert_unless_there, User, whole=True), given=("name", "created", "last_activity")
)
_TIE = Prepared(insert_of(ExternalIdentity), given=("realm", "subject", "user_id", "created", "state"))
_TIES = cast("sa.Table", ExternalIdentity.__table__)
_KEEP = Prepared(
    sa.update(_TIES).where(_TIES.c.id == sa.bindparam("tie")).values(state=sa.bindparam("to_state"))
)


class NotAdmitted(NotAuthorized):
    """Who they are is proven, but this hub does not let them in."""

    code = "not-admitted"


def wanted_name(section: MethodSection, person: Person) -> str:
    """The user name a newcomer gets: by the table of names (subject first), else prefix and name. Pure."""
    mapped = section.names.get(person.subject) or section.names.get(person.name)
    try:
        return users.normalise(mapped if mapped is not None else section.prefix + person.name)
    except BadRequest as error:
        raise NotAdmitted(f"You cannot come in: {error}.", remedy="ask an administrator for a name") from None


def admit(
    db: Session,
    section: MethodSection,
    traits: Traits,
    realm: str,
    person: Person,
    *,
    vault: Vault | None = None,
    now: datetime,
) -> User:
    """The account of this person, made or tied at their first visit. NotAdmitted says why not.

    What the way gave to keep (auth_state) takes the place of what was kept before, encrypted by the `vault`.
    """
    if person.account is not None:
        user = db.get(User, person.account, with_for_update={"key_share": True})
        if user is None:
            raise NotAdmitted("Your account was just deleted.")
        if person.hashed is not None and user.password_hash != person.hashed:
            raise NotAdmitted("Your password was just changed.", remedy="sign in with the new one")
    else:
        if not person.subject or len(person.subject) > LONGEST_SUBJECT:
            raise NotAdmitted("You cannot come in: your identifier there is empty or too long.")
        state = vault.lock(dict(person.state)) if vault is not None and person.state is not None else None
        found = KNOWN.row(db, {"realm": realm, "subject": person.subject})
        if found is None:
            user = _newcomer(db, section, traits, person, now=now)
            tie = {"realm": realm, "subject": person.subject, "user_id": user.id, "created": now}
            _TIE.run(db, {**tie, "state": state})
        else:
            user = attached(db, User, found[1:])
            if vault is not None:
                _KEEP.run(db, {"tie": found[0], "to_state": state})
    if user.suspended is not None:
        raise NotAdmitted("This account is suspended.", remedy="ask an administrator")
    if traits.vouches and traits.tells:
        given.bring_into_line(db, section, realm, person, user)
    if traits.vouches and user.name in section.admin_users:
        user.admin = True
    if user.admin and not traits.vouches:
        raise NotAdmitted("An administrator cannot sign in this way.")
    return user


def _newcomer(db: Session, section: MethodSection, traits: Traits, person: Person, *, now: datetime) -> User:
    name = wanted_name(section, person)
    if section.allow_all or name in section.allowed_users or name in section.admin_users:
        made = _MADE.row(db, {"name": name, "created": now, "last_activity": now})
        if made is not None:
            return attached(db, User, made)
    row = _NAMED.row(db, {"name": name})
    if row is None:
        raise NotAdmitted(f"This hub does not know {name!r}.", remedy="ask an administrator to let you in")
    there = attached(db, User, row)
    if section.claim_accounts and traits.claims and _is_nobodys(db, there):
        return there
    raise NotAdmitted(
        f"The name {name!r} belongs to another account here.", remedy="ask an administrator for another name"
    )


def _is_nobodys(db: Session, user: User) -> bool:
    """Whether an account was made beforehand and nobody could ever sign in to it: no password, no identity."""
    tied = sa.select(ExternalIdentity.id).where(ExternalIdentity.user_id == user.id).limit(1)
    return user.password_hash is None and db.scalar(tied) is None
