"""What may be sent about tokens."""

from __future__ import annotations

from pydantic import Field

from himalia_hub.schemas import Body

LONGEST_S = 100 * 366 * 86400


class Credentials(Body):
    """A name and password, for a caller who has no token yet."""

    username: str = Field(max_length=1024)
    password: str = Field(max_length=4096, repr=False)
    method: str = Field("", max_length=32)
    """Which way to sign in, by its name in the configuration; empty: the first that asks for a password."""
    otp: str = Field("", max_length=64, repr=False)
    """The code of the second step, for accounts that have one."""


class NewToken(Body):
    """POST /users/{user}/tokens."""

    note: str | None = Field(None, max_length=1000)
    expires_in: int | None = Field(None, ge=1, le=LONGEST_S)
    scopes: list[str] | None = Field(None, max_length=500)
    roles: list[str] | None = Field(None, max_length=100)
    auth: Credentials | None = None
