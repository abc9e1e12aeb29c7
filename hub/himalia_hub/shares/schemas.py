"""What may be sent about shares and share codes."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from himalia_hub.schemas import Body

MINUTE_S, DAY_S, YEAR_S = 60, 86_400, 31_536_000


class ShareChange(Body):
    """PATCH /shares/{user}/{server}: from whom to take what; without `scopes`, everything."""

    user: str | None = Field(None, min_length=1, max_length=255)
    group: str | None = Field(None, min_length=1, max_length=255)
    scopes: list[str] | None = Field(None, max_length=100)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.user is None) == (self.group is None):
            raise ValueError("say exactly one of `user` and `group`")
        return self


class NewShare(ShareChange):
    """POST /shares/{user}/{server}: with whom to share what; without `scopes`, `access:servers`."""

    expires_in: int | None = Field(None, ge=MINUTE_S, le=YEAR_S)
    """Seconds; JupyterHub knows no end of a share."""


class NewShareCode(Body):
    """POST /share-codes/{user}/{server}."""

    scopes: list[str] | None = Field(None, max_length=100)
    expires_in: int = Field(DAY_S, ge=MINUTE_S, le=YEAR_S)
