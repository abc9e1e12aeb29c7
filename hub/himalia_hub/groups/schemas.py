"""What may be sent about groups."""

from __future__ import annotations

from pydantic import Field

from himalia_hub.schemas import Body


class NewGroups(Body):
    """POST /groups."""

    groups: list[str] = Field(min_length=1, max_length=10_000)
    users: list[str] = Field(default_factory=list)


class NewGroup(Body):
    """POST /groups/{group}: the name stands in the path; clients may repeat it. Roles are not set here."""

    name: str | None = None
    roles: list[str] = Field(default_factory=list, max_length=0)
    users: list[str] = Field(default_factory=list)


class People(Body):
    """POST and DELETE /groups/{group}/users."""

    users: list[str]
