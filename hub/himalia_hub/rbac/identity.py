"""Who asks, with everything they may do; made from a token or a sign-in. Which one a request brings: resolve.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.rbac import expand, rights, roles
from himalia_hub.rbac.expand import Members
from himalia_hub.rbac.rights import Rights
from himalia_hub.rbac.rules import Rules
from himalia_hub.secrets import hash_token
from himalia_hub.services.models import Service
from himalia_hub.tokens import store as tokens
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login, User


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and with what. `scopes` are expanded; exactly one of `token` and `login` is set.

    `scopes` are worked out anew whenever a row has changed, so that a right taken away is gone at once. A service has a
    `service_id` in place of a `user_id`, and a token always. `members` says who is in the groups that filters name;
    `until`, when the first of the rights is over by itself.
    """

    user_id: int | None
    name: str
    admin: bool
    scopes: frozenset[str]
    token: ApiToken | None = None
    login: Login | None = None
    service_id: int | None = None
    members: Members = field(default_factory=lambda: expand.NO_GROUPS)
    roles: tuple[str, ...] = ()
    until: datetime | None = None

    def allows(
        self,
        scope: str,
        *,
        user: str | None = None,
        server: str | None = None,
        group: str | None = None,
        service: str | None = None,
    ) -> bool:
        """Whether it is allowed: on everything, or on this group, service, person, or person's server (by name)."""
        if scope in self.scopes or (group is not None and f"{scope}!group={group}" in self.scopes):
            return True
        if service is not None and f"{scope}!service={service}" in self.scopes:
            return True
        if user is None:
            return False
        if server is not None and f"{scope}!server={user}/{server}" in self.scopes:
            return True
        return expand.covers(self.scopes, f"{scope}!user={user}", self.members)

    def covers(self, wanted: Collection[str]) -> bool:
        """Whether everything wanted (expanded scopes) may be done: nobody gives away what they do not hold."""
        return expand.covers_all(self.scopes, wanted, self.members)

    def may_give(self, wanted: Collection[str]) -> bool:
        """Whether these rights may be given to others: those one holds, and any by who could make an administrator.

        An administrator holds no custom scopes, which mean something to services only, and yet decides who does.
        """
        return self.is_whole_admin or self.covers(wanted)

    def holds(self, scope: str) -> bool:
        """Whether the right is held at all, on whatever."""
        return expand.filters_of(self.scopes, scope) != set()

    @property
    def is_whole_admin(self) -> bool:
        """Whether everything an administrator may do is allowed: only then may one be made or changed."""
        return expand.covers_all(self.scopes, expand.expand(roles.ADMIN, ""))

    @property
    def identify_scopes(self) -> frozenset[str]:
        """What every credential may read of its own owner, listed or not."""
        if self.service_id is not None:
            return frozenset({f"read:services:name!service={self.name}"})
        return frozenset({f"read:users:name!user={self.name}", f"read:users:groups!user={self.name}"})

    @property
    def person_name(self) -> str:
        """What `!user` stands for: the person's name, nothing for a service."""
        return "" if self.service_id is not None else self.name

    @property
    def person(self) -> int:
        """The row of the person who asks; only where no service can: behind a sign-in."""
        assert self.user_id is not None, "a service where only people can come"
        return self.user_id

    @property
    def ends(self) -> datetime | None:
        """When the credential, or a right that comes with it, is over, if nobody ends it before."""
        credential = self.token.expires_at if self.token else self.login.expires_at if self.login else None
        return min((end for end in (credential, self.until) if end is not None), default=None)

    @property
    def credential(self) -> str:
        """A name for what was shown, for things that are kept by who may see them."""
        return f"token {self.token.id}" if self.token else f"login {self.login.id if self.login else ''}"

    @property
    def session_id(self) -> str | None:
        """The browser sign-in this credential belongs to."""
        return self.login.session_id if self.login else self.token.session_id if self.token else None


async def from_token(db: AsyncSession, secret: str, rules: Rules, *, now: datetime) -> Identity | None:
    """Who holds this token; None when it is unknown or expired."""
    found = await tokens.find_by_secret(db, secret, now=now)
    if found is None:
        return None
    token, owner, server = found
    if isinstance(owner, Service):
        theirs = await rights.of_service(db, owner, rules, now=now)
        return _by_token(token, owner, await _with_groups(db, theirs, token, rules), rules)
    theirs = await rights.of_user(db, owner, rules, now=now)
    theirs = await _with_groups(db, theirs, token, rules)
    return _by_token(token, owner, theirs, rules, None if server is None else f"{owner.name}/{server}")


async def _with_groups(db: AsyncSession, theirs: Rights, token: ApiToken, rules: Rules) -> Rights:
    """The owner's rights, with who is in the groups that the token is narrowed to: its owner's may name none."""
    further = await rights.members_in(db, token_scopes(token, rules))
    return replace(theirs, members={**further, **theirs.members}) if further else theirs


def _by_token(
    token: ApiToken, owner: User | Service, theirs: Rights, rules: Rules, server: str | None = None
) -> Identity:
    service_id = owner.id if isinstance(owner, Service) else None
    scopes = expand.of_token(
        token_scopes(token, rules),
        "" if service_id else owner.name,
        theirs.scopes,
        server,
        members=theirs.members,
        custom=rules.custom,
    )
    return Identity(
        None if service_id else owner.id,
        owner.name,
        owner.admin,
        scopes,
        token=token,
        service_id=service_id,
        members=theirs.members,
        roles=theirs.roles,
        until=theirs.until,
    )


def token_scopes(token: ApiToken, rules: Rules) -> tuple[str, ...]:
    """The raw scopes of a token. A server's own follows the `server` role, whatever it was when the server began."""
    return (rules.scopes_of("server") or ()) if token.server_id is not None else tuple(token.scopes)


async def from_login(db: AsyncSession, secret: str, rules: Rules, *, now: datetime) -> Identity | None:
    """Who signed in with this cookie; None when signed out or over."""
    hashed = hash_token(secret)
    return (await from_logins(db, [hashed], rules, now=now)).get(hashed)


async def from_logins(
    db: AsyncSession, hashes: Collection[str], rules: Rules, *, now: datetime
) -> dict[str, Identity]:
    """Who signed in with each of these cookies, by the hash of its secret; who is signed out is left out.

    As many queries for a hundred as for one.
    """
    found = await db.execute(
        sa.select(Login, User)
        .join(User, User.id == Login.user_id)
        .where(Login.hashed.in_(hashes), Login.expires_at > now, User.suspended.is_(None))
    )
    rows = found.all()
    if not rows:
        return {}
    people = list({user.id: user for _, user in rows}.values())
    theirs = await rights.of_users(db, people, rules, now=now)
    return {login.hashed: of_person(user, theirs[user.id], login=login) for login, user in rows}


def of_person(user: User, theirs: Rights, *, login: Login | None = None) -> Identity:
    """A person with all their rights."""
    return Identity(
        user.id,
        user.name,
        user.admin,
        theirs.scopes,
        login=login,
        members=theirs.members,
        roles=theirs.roles,
        until=theirs.until,
    )
