"""What can be configured about accounts and the ways to sign in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from himalia_hub.groups.names import is_name
from himalia_hub.rbac.roles import DEFAULT_ROLES
from himalia_hub.section import Section


class MethodSection(BaseModel, extra="allow", frozen=True):
    """[auth.methods.NAME] — one way to sign in; keys besides these are its kind's own."""

    kind: str = Field(description="name of a plug-in, such as `local` or `oidc`")
    title: str = Field("", description="its name on the sign-in page; empty: its name here")
    prefix: str = Field(
        "",
        pattern=r"^[a-z0-9._@-]*$",
        description="put before names that come from there, so that two places' people cannot be confused",
    )
    names: dict[str, str] = Field(
        default_factory=dict,
        description="user names of certain people instead, by their identifier there or by their name there",
    )
    allow_all: bool = Field(False, description="let in everybody who can sign in there")
    allowed_users: list[str] = Field(
        default_factory=list, description="user names that may come in for the first time"
    )
    admin_users: list[str] = Field(
        default_factory=list, description="user names that may come in and are administrators"
    )
    claim_accounts: bool = Field(
        False,
        description="an account that was made beforehand, and has no password, becomes that of the first who has "
        "its name there; only where nobody can choose their own name",
    )
    groups_from: str = Field(
        "",
        max_length=200,
        description="what names people's groups there: a claim (`oidc`), an attribute such as `memberOf` (`ldap`)",
    )
    groups: dict[str, list[str]] = Field(
        default_factory=dict,
        description="by group of this hub: groups there, one of which puts people into it, as long as they are in it",
    )
    all_groups: bool = Field(
        False,
        description="put people into groups of the same name for all their other groups there, made here when they "
        "are not; only where names of all groups that you give rights to are safe with that place",
    )
    roles: dict[str, list[str]] = Field(
        default_factory=dict,
        description="by role of this hub, or `admin`: groups there, one of which gives it to people, as long as they "
        "are in it",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.groups or self.roles or self.all_groups) and not self.groups_from:
            raise ValueError(
                "groups, all_groups and roles need groups_from: what names people's groups there"
            )
        if bad := sorted(name for name in self.groups if not is_name(name)):
            raise ValueError(f"groups: {bad[0][:80]!r} cannot be a group's name")
        if bad := sorted((DEFAULT_ROLES.keys() - {"admin"}) & self.roles.keys()):
            raise ValueError(f"roles: {bad[0]!r} is no role that a sign-in can give; give one of your own")
        return self


class AuthSection(Section):
    """[auth] — accounts and sign-in."""

    cookie_max_age_days: float = Field(14, gt=0, description="how long a browser stays signed in")
    token_max_age_s: int = Field(
        0,
        ge=0,
        description="seconds that an API token may be good for, and is when it says nothing; 0: no limit",
    )
    require_pkce: bool = Field(
        False, description="sign nobody in to a server or service that proves no PKCE challenge"
    )
    password_min_length: int = Field(8, ge=1, le=1024, description="characters a new password needs")
    sign_up: bool = Field(
        False,
        description="let strangers ask for one of the hub's own accounts, by a page; an administrator decides",
    )
    secure_cookies: bool | None = Field(
        None, description="mark cookies Secure; empty: when the visitor came by https"
    )
    crypt_keys_file: Path | None = Field(
        None,
        description="file with keys for what is kept encrypted, one a line: the first encrypts, all decrypt; empty: "
        "a key made from the hub's secret",
    )
    methods: dict[str, MethodSection] = Field(
        default_factory=dict,
        description="ways to sign in, by name, in the order of the page; empty: the hub's own accounts",
    )

    @field_validator("methods")
    @classmethod
    def _names(cls, value: dict[str, MethodSection]) -> dict[str, MethodSection]:
        for name in value:
            if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name) is None:
                raise ValueError(f"{name!r}: the name of a way to sign in is a-z, 0-9 and dashes, at most 32")
        if len(local := [name for name, section in value.items() if section.kind == "local"]) > 1:
            raise ValueError(f"{', '.join(local)}: the hub's own accounts exist once; keep one of them")
        return value
