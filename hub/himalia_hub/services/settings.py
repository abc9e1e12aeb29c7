"""What can be configured about a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from himalia_hub.section import Section

NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
CLIENT_PREFIX = "service-"
SCHEMES = ("http", "https", "http+unix")


def check_url(url: str) -> str:
    """The URL of a service as it is; ValueError when the proxy could not send requests there."""
    parts = urlsplit(url)
    if url and (parts.scheme not in SCHEMES or not parts.netloc or "@" in parts.netloc):
        raise ValueError(f"{url!r} is no address of a service; write it such as 'http://127.0.0.1:9000'")
    return url


def check_redirect(uri: str) -> str:
    """The redirect URI as it is; ValueError when it leads nowhere that a browser may be sent with a code."""
    parts = urlsplit(uri)
    absolute = parts.scheme in ("http", "https") and bool(parts.netloc)
    if uri and (
        parts.fragment or not (absolute or (not parts.scheme and not parts.netloc and uri.startswith("/")))
    ):
        raise ValueError(f"{uri!r} is no redirect URI: an http(s) URL, or a path of this hub's own address")
    return uri


def check_client_id(client_id: str) -> str:
    """The client id as it is; ValueError when it could be taken for that of a server."""
    if client_id and not client_id.startswith(CLIENT_PREFIX):
        raise ValueError(f"{client_id!r}: the OAuth client of a service begins with {CLIENT_PREFIX!r}")
    return client_id


class ServiceSection(Section):
    """[[services]] — a program with rights of its own; with a `command` the hub starts and watches it."""

    name: str = Field(
        pattern=NAME, description="its name in addresses: letters, digits, dots, dashes, underscores"
    )
    url: str = Field(
        "", description="where it listens; people reach it below `services/NAME/`; empty: it serves nobody"
    )
    command: list[str] = Field(
        default_factory=list,
        description="what the hub runs, and runs again when it ends; empty: others run it",
    )
    cwd: Path | None = Field(None, description="folder it runs in; empty: the data folder")
    environment: dict[str, str] = Field(
        default_factory=dict, description="further environment of the command"
    )
    user: str = Field("", description="system user it runs as, where the hub is root; empty: the hub's own")
    api_token: SecretStr | None = Field(
        None, min_length=8, description="its API token, 32 random characters or more; empty: made if managed"
    )
    api_token_file: Path | None = Field(None, description="file with its API token")
    admin: bool = Field(False, description="give it everything an administrator may do")
    display: bool = Field(True, description="show it to people who may open it, when it has a `url`")
    info: dict[str, Any] = Field(default_factory=dict, description="free facts for clients of the API")
    oauth_client_id: str = Field("", description="its name as an OAuth client; empty: `service-NAME`")
    oauth_redirect_uri: str = Field(
        "", description="where people come back after they signed in; empty: `services/NAME/oauth_callback`"
    )
    oauth_client_allowed_scopes: list[str] = Field(
        default_factory=list, description="what it may ask for in the name of who signs in, beside the visit"
    )
    oauth_no_confirm: bool = Field(False, description="do not ask people whether it may know them")

    _url = field_validator("url")(check_url)
    _redirect = field_validator("oauth_redirect_uri")(check_redirect)
    _client = field_validator("oauth_client_id")(check_client_id)

    @model_validator(mode="after")
    def _fits(self) -> ServiceSection:
        if self.api_token and self.api_token_file:
            raise ValueError("api_token and api_token_file are both set; keep one")
        if not self.command and (self.user or self.environment or self.cwd):
            raise ValueError("user, environment and cwd are for a service with a command")
        return self

    @property
    def asks_people(self) -> bool:
        """Whether people sign in to it: it is routed, or says something of OAuth."""
        return bool(
            self.url or self.oauth_redirect_uri or self.oauth_client_id or self.oauth_client_allowed_scopes
        )
