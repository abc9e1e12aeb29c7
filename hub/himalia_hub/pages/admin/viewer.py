"""Who looks at the administrators' pages, and at whom they may look."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.errors import NotAuthorized
from himalia_hub.keys import IDENTITY
from himalia_hub.rbac.expand import filters_of
from himalia_hub.rbac.identity import Identity


def must_be(request: web.Request, scope: str = "admin-ui") -> Identity:
    """Who looks; NotAuthorized without the right to open these pages."""
    identity = request[IDENTITY]
    if identity is None or not identity.allows("admin-ui") or not identity.allows(scope):
        raise NotAuthorized("This page is for the people who run the hub.")
    return identity


def must_group(request: web.Request) -> Identity:
    """The same of the page of groups, which is also for who manages one and has no other of these pages."""
    identity: Identity | None = request[IDENTITY]
    if identity is not None and identity.holds("groups"):
        return identity
    return must_be(request)


def listable(identity: Identity) -> frozenset[str] | None:
    """The people whom this viewer may list by name; None is everybody."""
    filters = filters_of(identity.scopes, "list:users")
    if filters is None:
        return None
    return frozenset(
        name
        for kind, value in filters
        for name in (
            [value] if kind == "user" else identity.members.get(value, ()) if kind == "group" else ()
        )
    )
