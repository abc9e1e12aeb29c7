"""The algebra of scopes: parse, expand, intersect, cover. Pure: no database, no clock.

An expanded scope is a text such as `read:users!user=ann`; a set of them says everything somebody may do.
A filter narrows: `!user=ann` covers ann and her servers, `!server=ann/x` one server. A `!group=` filter is
kept as it is; who is in a group is for the caller to say (`members`), because only the database knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from himalia_hub.errors import BadRequest
from himalia_hub.meant import nearest
from himalia_hub.rbac.scopes import FILTERS, META, SCOPES, SELF

IDENTIFY = ("read:users:name!user", "read:users:groups!user")
"""What comes with every token of a person: it may say whose it is."""

Members = Mapping[str, Collection[str]]
NO_GROUPS: Members = {}
Custom = tuple[tuple[str, tuple[str, ...]], ...]
"""Custom scopes of the configuration, each with the custom scopes that come with it."""


def split(scope: str) -> tuple[str, str, str]:
    """`name!kind=value` in its three parts; kind and value are empty where absent."""
    name, _, rest = scope.partition("!")
    kind, _, value = rest.partition("=")
    return name, kind, value


def check(scope: str, custom: Custom = ()) -> None:
    """BadRequest when this is not a scope that anybody could hold."""
    name, kind, value = split(scope)
    if name in META and name != "identify":
        if "!" in scope:
            raise BadRequest(f"the scope {name!r} takes no filter, but got {scope!r}")
        return
    if name not in SCOPES and name != "identify" and name not in dict(custom):
        near = nearest(name[:100], [*SCOPES, *dict(custom)], 1, 0.7)
        remedy = (
            f"did you mean {near[0]!r}?" if near else "scopes are called as JupyterHub's, such as read:users"
        )
        raise BadRequest(f"unknown scope {name!r}", remedy=remedy)
    if "!" in scope and (kind not in FILTERS or ("=" in scope.partition("!")[2] and not value)):
        raise BadRequest(
            f"unknown filter in {scope!r}", remedy="!user=, !group=, !server= or !service= with a name"
        )
    if kind == "server" and value and "/" not in value:
        raise BadRequest(f"the filter in {scope!r} must be !server=USER/SERVER")


@lru_cache(maxsize=512)
def subscopes(name: str, custom: Custom = ()) -> frozenset[str]:
    """The scope itself and everything that it includes, at any depth. Empty for an unknown name."""
    includes = {scope: data.includes for scope, data in SCOPES.items()} | dict(custom)
    found: set[str] = set()
    ahead = [name] if name in includes else []
    while ahead:
        scope = ahead.pop()
        found.add(scope)
        ahead += [child for child in includes.get(scope, ()) if child not in found]
    return frozenset(found)


@lru_cache(maxsize=4096)
def expand(
    scopes: tuple[str, ...],
    owner: str,
    server: str | None = None,
    *,
    service: str = "",
    custom: Custom = (),
) -> frozenset[str]:
    """What raw scopes come to for their owner, a person's name, or "" for a service.

    `server` ("ann/" or "ann/x") and `service` are what short filters of these kinds stand for.
    `self` and short filters are filled in, the hierarchy is walked. What is unknown, or a short filter with
    nothing to stand for, gives nothing: a stored scope that has lost its meaning must never widen a right.
    `inherit` is not expanded here: see `of_token`.
    """
    found: set[str] = set()
    for scope in scopes:
        if scope == "self":
            found |= expand(tuple(f"{name}!user={owner}" for name in SELF), owner)  # nothing for ""
            continue
        name, kind, value = split(scope)
        if "!" in scope and "=" not in scope:
            value = {"user": owner, "server": server or "", "service": service}.get(kind, "")
        if "!" in scope and (kind not in FILTERS or not value):
            continue
        tail = f"!{kind}={value}" if kind else ""
        names = subscopes(name, custom)
        if kind == "server":
            # One server's filter says nothing about the person's own data (JupyterHub's rule).
            names = frozenset(n for n in names if not n.startswith("read:users"))
        found.update(n + tail for n in names)
    return reduce(found)


def reduce(scopes: Collection[str]) -> frozenset[str]:
    """The same rights without what another member covers already."""
    found = frozenset(scopes)
    return frozenset(s for s in found if "!" not in s or not _covered_by_wider(s, found))


def _covered_by_wider(scope: str, scopes: frozenset[str]) -> bool:
    name, kind, value = split(scope)
    if name in scopes:
        return True
    return kind == "server" and f"{name}!user={value.partition('/')[0]}" in scopes


def of_token(
    raw: tuple[str, ...],
    owner: str,
    owner_scopes: frozenset[str],
    server: str | None = None,
    *,
    members: Members = NO_GROUPS,
    custom: Custom = (),
) -> frozenset[str]:
    """What a token may do: its own scopes and to read its owner's name and groups, but never more than its owner may do
    at this moment.
    """
    if "inherit" in raw:
        return owner_scopes
    named = expand((*raw, *IDENTIFY), owner, server, custom=custom)
    return intersect(named, owner_scopes, members)


def intersect(left: frozenset[str], right: frozenset[str], members: Members = NO_GROUPS) -> frozenset[str]:
    """What both allow."""
    both: set[str] = set()
    by_name: dict[str, list[str]] = {}
    for scope in right:
        by_name.setdefault(split(scope)[0], []).append(scope)
    for scope in left:
        for other in by_name.get(split(scope)[0], ()):
            both |= _narrower(scope, other, members)
    return reduce(both)


def _narrower(left: str, right: str, members: Members) -> set[str]:
    """The overlap of two scopes of the same name."""
    if covers({left}, right, members):
        return {right}
    if covers({right}, left, members):
        return {left}
    name, left_kind, left_value = split(left)
    _, right_kind, right_value = split(right)
    if left_kind == right_kind == "group":  # two groups overlap in the people who are in both
        shared = set(members.get(left_value, ())) & set(members.get(right_value, ()))
        return {f"{name}!user={user}" for user in shared}
    return set()


def covers(held: Collection[str], wanted: str, members: Members = NO_GROUPS) -> bool:
    """Whether one expanded scope is allowed by those held."""
    name, kind, value = split(wanted)
    if name in held or wanted in held:
        return True
    user = value if kind == "user" else value.partition("/")[0] if kind == "server" else None
    if user is None:
        return False
    if f"{name}!user={user}" in held:
        return True
    return any(user in people and f"{name}!group={group}" in held for group, people in members.items())


def covers_all(held: Collection[str], wanted: Collection[str], members: Members = NO_GROUPS) -> bool:
    """Whether everything wanted is allowed by what is held."""
    return all(covers(held, scope, members) for scope in wanted)


def filters_of(held: Collection[str], name: str) -> set[tuple[str, str]] | None:
    """The filters (kind, value) under which a scope is held; None when it is held without any."""
    if name in held:
        return None
    return {(kind, value) for n, kind, value in map(split, held) if n == name}
