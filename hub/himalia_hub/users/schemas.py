"""What may be sent about people."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from himalia_hub.schemas import Body


class NewUsers(Body):
    """POST /users."""

    usernames: list[str] = Field(min_length=1, max_length=10_000)
    admin: bool = False


class UserChange(Body):
    """PATCH /users/{user}. Groups and roles are known names that are not set here."""

    name: str | None = None
    admin: bool | None = None
    groups: list[str] | None = None
    roles: list[str] | None = None
    auth_state: dict[str, Any] | None = None


class NewUser(UserChange):
    """POST /users/{user}: the name stands in the path; clients may repeat it. Of the rest only `admin` is set here."""
