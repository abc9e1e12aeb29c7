"""What may be sent about services."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from himalia_hub.schemas import Body
from himalia_hub.services.settings import check_client_id, check_redirect, check_url


class NewService(Body):
    """POST /services/{service}: one that others run. The last four keys are JupyterHub's for one that it runs."""

    name: str | None = None
    admin: bool = False
    url: str = Field("", max_length=512)
    api_token: str | None = Field(None, min_length=8, max_length=128, repr=False)
    info: dict[str, Any] = Field(default_factory=dict)
    display: bool = True
    oauth_client_id: str = Field("", max_length=255)
    oauth_redirect_uri: str = Field("", max_length=1023)
    oauth_client_allowed_scopes: list[str] = Field(default_factory=list, max_length=500)
    oauth_no_confirm: bool = False
    command: list[str] | str | None = None
    cwd: str | None = None
    environment: dict[str, str] | None = None
    user: str | None = None

    _url = field_validator("url")(check_url)
    _redirect = field_validator("oauth_redirect_uri")(check_redirect)
    _client = field_validator("oauth_client_id")(check_client_id)
