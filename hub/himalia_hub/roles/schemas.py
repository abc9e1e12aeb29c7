"""What may be sent about roles."""

from __future__ import annotations

from pydantic import Field

from himalia_hub.schemas import Body

LONGEST_S = 10 * 366 * 86400


class RoleBody(Body):
    """PUT /roles/{role}: everything it is."""

    description: str = Field("", max_length=1000)
    scopes: list[str] = Field(max_length=500)


class Holders(Body):
    """POST and DELETE /roles/{role}/members: who gets it, or loses it; `expires_in` seconds counts when it is given."""

    users: list[str] = Field(default_factory=list, max_length=1000)
    groups: list[str] = Field(default_factory=list, max_length=1000)
    services: list[str] = Field(default_factory=list, max_length=1000)
    expires_in: int | None = Field(None, ge=1, le=LONGEST_S)
