"""What may be sent about the proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from himalia_hub.schemas import Body


class OtherProxy(Body):
    """PATCH /proxy: where another proxy's API is, and its token."""

    api_url: str | None = Field(None, max_length=1024)
    auth_token: str | None = Field(None, min_length=1, max_length=1024, repr=False)

    @field_validator("api_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                right = parts.scheme in ("http", "https", "http+unix") and parts.netloc and parts.port != 0
            except ValueError:
                right = False
            if not right:
                raise ValueError("must be such as http://127.0.0.1:8001 or http+unix://%2Fpath")
        return value
