"""What can be configured about roles and scopes."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from himalia_hub.section import Section

ROLE_NAME = r"^[a-z][a-z0-9\-_~.]{1,253}[a-z0-9]$"
CUSTOM_NAME = r"custom:[a-z0-9][a-z0-9_\-*:]+[a-z0-9_*]"


class RoleSection(Section):
    """[[roles]] — a named list of scopes and who has it; `user`, `server`, `token` and `manager` can be redefined."""

    name: str = Field(pattern=ROLE_NAME, description="its name: a-z, 0-9 and `-_~.`, 3 characters or more")
    description: str = Field("", description="what it is for, in words")
    scopes: list[str] = Field(default_factory=list, description="what it allows")
    users: list[str] = Field(default_factory=list, description="user names of people who have it")
    services: list[str] = Field(default_factory=list, description="names of services that have it")
    groups: list[str] = Field(default_factory=list, description="names of groups whose members have it")


class CustomScopeSection(Section):
    """[custom_scopes.NAME] — a scope that means something to a service, and nothing to the hub."""

    description: str = Field(min_length=1, description="what it allows, in words")
    subscopes: list[str] = Field(default_factory=list, description="custom scopes that come with it")

    @field_validator("subscopes")
    @classmethod
    def _custom(cls, value: list[str]) -> list[str]:
        for name in value:
            check_custom(name)
        return value


def check_custom(name: str) -> None:
    """ValueError when this cannot be the name of a custom scope."""
    if not re.fullmatch(CUSTOM_NAME, name):
        raise ValueError(f"{name!r}: a custom scope is called such as 'custom:grades:read'")
