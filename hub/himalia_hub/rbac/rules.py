"""What the configuration says of roles and scopes, ready for use. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from himalia_hub.errors import BadRequest, sentence
from himalia_hub.languages import gettext
from himalia_hub.rbac import expand
from himalia_hub.rbac.expand import Custom
from himalia_hub.rbac.roles import DEFAULT_ROLES
from himalia_hub.rbac.scopes import ON_ONE_SERVER, SCOPES
from himalia_hub.rbac.settings import CustomScopeSection, RoleSection, check_custom
from himalia_hub.services.settings import ServiceSection


class Configured(Protocol):
    """The sections of a configuration that name scopes."""

    @property
    def roles(self) -> Sequence[RoleSection]: ...
    @property
    def services(self) -> Sequence[ServiceSection]: ...
    @property
    def custom_scopes(self) -> Mapping[str, CustomScopeSection]: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Configured roles by name, custom scopes with what they include, and their descriptions."""

    roles: Mapping[str, RoleSection] = field(default_factory=dict)
    custom: Custom = ()
    words: Mapping[str, str] = field(default_factory=dict)

    def scopes_of(self, role: str) -> tuple[str, ...] | None:
        """The raw scopes of a configured or default role; None for one that is neither."""
        if role in self.roles:
            return tuple(self.roles[role].scopes)
        return DEFAULT_ROLES.get(role)

    def of_user(self, name: str, groups: Collection[str]) -> Iterator[str]:
        """Names of the configured roles that a person has, by name or by group."""
        for role in self.roles.values():
            if name in role.users or not set(role.groups).isdisjoint(groups):
                yield role.name

    def of_service(self, name: str) -> Iterator[str]:
        """Names of the configured roles that a service has."""
        return (role.name for role in self.roles.values() if name in role.services)

    def of_group(self, name: str) -> Iterator[str]:
        """Names of the configured roles that a group's members have."""
        return (role.name for role in self.roles.values() if name in role.groups)

    def lets_in(self, raw: Collection[str]) -> bool:
        """Whether these raw scopes let anybody in at a server or a service."""
        expanded = expand.expand(tuple(sorted(raw)), "", custom=self.custom)
        return any(scope.startswith("access:") for scope in expanded)

    def describe(self, scope: str) -> str:
        """A scope in the reader's words; a custom one in those of the configuration."""
        name, _, of = scope.partition("!")
        if of.startswith("server=") and name in ON_ONE_SERVER:
            return gettext(ON_ONE_SERVER[name])
        return gettext(SCOPES[name].description) if name in SCOPES else self.words.get(name, name)

    def check(self, scope: str) -> None:
        """BadRequest when this is not a scope that anybody could hold."""
        expand.check(scope, self.custom)


NO_RULES = Rules()


def rules_of(settings: Configured) -> Rules:
    """The rules of a configuration. ValueError names what is wrong in it."""
    names = [role.name for role in settings.roles]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"roles: {', '.join(twice)}: named twice")
    if "admin" in names and next(role for role in settings.roles if role.name == "admin").scopes:
        raise ValueError("roles: the scopes of 'admin' cannot be changed; give people a role of another name")
    for name, section in settings.custom_scopes.items():
        check_custom(name)
        if missing := [sub for sub in section.subscopes if sub not in settings.custom_scopes]:
            raise ValueError(f"custom_scopes.{name}: {missing[0]!r} is no custom scope")
    custom = tuple((name, tuple(section.subscopes)) for name, section in settings.custom_scopes.items())
    words = {name: section.description for name, section in settings.custom_scopes.items()}
    roles = {role.name: role for role in settings.roles}
    if "admin" in roles:
        roles["admin"] = roles["admin"].model_copy(update={"scopes": list(DEFAULT_ROLES["admin"])})
    rules = Rules(roles, custom, words)
    for place, scope in _scopes_in(settings):
        try:
            rules.check(scope)
        except BadRequest as error:
            raise ValueError(f"{place}: {sentence(error)}") from None
    return rules


def _scopes_in(settings: Configured) -> Iterator[tuple[str, str]]:
    for role in settings.roles:
        yield from ((f"roles: {role.name}", scope) for scope in role.scopes)
    for service in settings.services:
        for scope in service.oauth_client_allowed_scopes:
            yield f"services: {service.name}", scope
