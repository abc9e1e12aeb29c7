"""What can be configured: one frozen section per TOML table; `himalia config` reads its texts from here."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from himalia_hub.auth.settings import AuthSection
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.pages.settings import PagesSection
from himalia_hub.rbac.rules import Rules, rules_of
from himalia_hub.rbac.settings import CustomScopeSection, RoleSection
from himalia_hub.section import Section
from himalia_hub.servers.settings import CullSection, ServersSection
from himalia_hub.services.settings import ServiceSection
from himalia_hub.usage.settings import QuotasSection
from himalia_spawner.limits import cpu_count, memory_bytes


def address_of(text: str) -> tuple[str, int]:
    """`"10.0.0.1:80"` or `"[::1]:80"` as address and port; ValueError names what is wrong."""
    host, _, port = text.rpartition(":")
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:
        raise ValueError(f"{text!r} is no IP:PORT; write it such as '172.17.0.1:8081'") from None
    if not 0 < number < 65536:
        raise ValueError(f"{text!r}: a port is between 1 and 65535")
    return str(found), number


def local_url(ip: str, port: int) -> str:
    """What listens on this address, as this machine reaches it."""
    host = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


ORIGIN = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")


def check_web_address(url: str) -> str:
    """The URL as it is; ValueError when it is none that a browser or an HTTP client could follow."""
    if url and not re.match(r"https?://[^/\s]+", url):
        raise ValueError(f"{url!r} must begin with http:// or https://, such as https://hub.example.org")
    return url


class HubSection(Section):
    """[hub] — where the hub itself listens; people reach it through the proxy."""

    ip: str = Field("127.0.0.1", description="address the hub listens on")
    port: int = Field(
        8081,
        ge=0,
        le=65535,
        description="port the hub listens on; 0 takes a free one, which running servers do not find after a restart",
    )
    also_listen: list[str] = Field(
        default_factory=list,
        description="further addresses to listen on, `IP:PORT`, such as a container network's gateway",
    )
    connect_url: str = Field(
        "",
        description="how proxy and servers reach the hub, such as `http://10.0.0.1:8081`; empty: ip and port",
    )
    api_url: str = Field(
        "",
        description="how servers reach the hub's API where it differs from `connect_url`; with several hubs, an "
        "address that leads to any of them, such as the proxy's; empty: connect_url",
    )
    open_metrics: bool = Field(False, description="show `/metrics` to everybody who reaches the hub")
    secret_file: Path | None = Field(
        None, description="file with the hub's secret; empty: `secret` in the data folder"
    )

    _urls = field_validator("connect_url", "api_url")(check_web_address)

    @field_validator("also_listen")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        for one in value:
            address_of(one)
        return value


class ProxySection(Section):
    """[proxy] — the routing process in front of everything."""

    ip: str = Field("127.0.0.1", description="public address; `0.0.0.0` opens the hub to the network")
    port: int = Field(8000, ge=1, le=65535, description="public port")
    start: bool = Field(True, description="start the proxy and watch it; off for a proxy that others run")
    command: list[str] = Field(
        default_factory=list,
        description="program to start instead of our proxy, such as `configurable-http-proxy`; same options",
    )
    args: list[str] = Field(default_factory=list, description="further arguments for the proxy")
    api_ip: str = Field("127.0.0.1", description="address of the proxy's REST API")
    api_port: int = Field(
        0, ge=0, le=65535, description="port of the proxy's REST API; 0: the public port + 1"
    )
    api_url: str = Field(
        "", description="the REST API of a proxy that others run; empty: api_ip and api_port"
    )
    auth_token: SecretStr | None = Field(
        None, description="token of the REST API; empty: made and kept in the data folder"
    )
    auth_token_file: Path | None = Field(None, description="file with the token of the REST API")
    check_interval_s: float = Field(
        5, gt=0, description="how often the routing table is compared with the rows"
    )

    _url = field_validator("api_url")(check_web_address)


class DbSection(Section):
    """[db] — where the rows live."""

    url: SecretStr | None = Field(
        None, description="`postgresql://user:password@host/name`; empty: SQLite in the data folder"
    )


class StartSection(Section):
    """What a server gets, wherever it is said: for all, for a profile, for a group or for one person."""

    image: str = Field("", description="container image, for spawners that have images; empty: the default")
    environment: dict[str, str] = Field(default_factory=dict, description="further environment of the server")
    mem_limit: str | float | None = Field(
        None, description="memory the server and all it starts may use, such as `2G`; empty: no limit"
    )
    cpu_limit: str | float | None = Field(
        None, description="CPUs the server and all it starts may use, such as `0.5` or `2`; empty: no limit"
    )
    pids_limit: int | None = Field(
        None, ge=16, description="processes and threads the server may have; empty: no limit"
    )
    disk_limit: str | float | None = Field(
        None, description="size of the home, such as `10G`, where the spawner can limit it; empty: no limit"
    )

    @field_validator("mem_limit", "disk_limit")
    @classmethod
    def _amount(cls, value: str | float | None) -> str | float | None:
        if value is not None:
            memory_bytes(value)
        return value

    @field_validator("cpu_limit")
    @classmethod
    def _cpus(cls, value: str | float | None) -> str | float | None:
        if value is not None:
            cpu_count(value)
        return value


class ProfileSection(StartSection):
    """[[profiles]] — one thing that people may choose to start."""

    name: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="its name in addresses and requests: a-z, 0-9 and dashes",
    )
    title: str = Field("", description="its name on pages; empty: the name")
    description: str = Field("", description="one sentence for the person who chooses")
    default: bool = Field(False, description="offered first; without one, the first of the list is")
    groups: list[str] = Field(
        default_factory=list, description="groups whose members may choose it; empty: everybody"
    )
    command: list[str] = Field(default_factory=list, description="what to run instead of `spawner.command`")
    args: list[str] = Field(default_factory=list, description="arguments after those of `spawner.args`")


class SpawnerSection(StartSection):
    """[spawner] — how single-user servers are started."""

    kind: str = Field("process", description="name of a spawner plug-in")
    command: list[str] = Field(
        default_factory=list,
        description="what to run; empty: the project's own server; `[\"jupyterhub-singleuser\"]`: JupyterHub's",
    )
    args: list[str] = Field(default_factory=list, description="further arguments for the command")
    groups: dict[str, StartSection] = Field(
        default_factory=dict, description="by group name: what its members get instead, profile or not"
    )
    users: dict[str, StartSection] = Field(
        default_factory=dict, description="by user name: what this person gets instead, profile or not"
    )
    default_url: str = Field("", description="page a server opens on, such as `/lab`")
    notebook_dir: str = Field("", description="folder a server shows; empty: its person's home")
    start_timeout_s: float = Field(60, gt=0, description="from start until the server answers")
    stop_grace_s: float | None = Field(
        None, ge=0, description="cap on the time before SIGKILL; empty: the plug-in's own"
    )
    concurrent_steps: int = Field(16, ge=1, le=1000, description="servers that are worked on at once")
    process: dict[str, Any] = Field(
        default_factory=dict, description="settings of the process spawner, see its own table"
    )
    docker: dict[str, Any] = Field(
        default_factory=dict, description="settings of the Docker spawner, see its own table"
    )
    swarm: dict[str, Any] = Field(
        default_factory=dict, description="settings of the Swarm spawner, see its own table"
    )


class AuditSection(Section):
    """[audit] — the record of who did what."""

    keep_days: float = Field(365, ge=0, description="how long its rows are kept; 0: for ever")


class LogSection(Section):
    """[log] — what is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least important level written"
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console in a terminal, else JSON"
    )


class HubSettings(Section):
    """The whole configuration."""

    data_dir: Path = Field(
        Path("himalia-data"), description="folder for the database, secret, logs and homes"
    )
    base_url: str = Field("/", description="path below which everything lives, with a slash at both ends")
    public_url: str = Field(
        "", description="how people reach the hub from outside, such as `https://hub.example.org`"
    )
    subdomain_host: str = Field(
        "",
        description="such as `https://hub.example.org`: everybody's servers, and every service, at a host of their own "
        "below it, which needs DNS and a certificate for `*.hub.example.org`; empty: all at the hub's host",
    )
    hub: HubSection = Field(default_factory=HubSection)
    proxy: ProxySection = Field(default_factory=ProxySection)
    db: DbSection = Field(default_factory=DbSection)
    auth: AuthSection = Field(default_factory=AuthSection)
    spawner: SpawnerSection = Field(default_factory=SpawnerSection)
    servers: ServersSection = Field(default_factory=ServersSection)
    profiles: list[ProfileSection] = Field(
        default_factory=list, description="what people may choose from when they start a server"
    )
    services: list[ServiceSection] = Field(
        default_factory=list, description="programs with rights of their own, some started by the hub"
    )
    roles: list[RoleSection] = Field(
        default_factory=list, description="named lists of scopes, and who has them"
    )
    custom_scopes: dict[str, CustomScopeSection] = Field(
        default_factory=dict,
        description="by name, such as `custom:grades:read`: scopes that services understand",
    )
    cull: CullSection = Field(default_factory=CullSection)
    quotas: QuotasSection = Field(default_factory=QuotasSection)
    audit: AuditSection = Field(default_factory=AuditSection)
    ephemeral: EphemeralSection = Field(default_factory=EphemeralSection)
    pages: PagesSection = Field(default_factory=PagesSection)
    log: LogSection = Field(default_factory=LogSection)

    _rules: Rules = PrivateAttr()
    _readings: int = PrivateAttr(0)
    _url = field_validator("public_url")(check_web_address)

    @field_validator("profiles")
    @classmethod
    def _distinct(cls, value: list[ProfileSection]) -> list[ProfileSection]:
        names = [profile.name for profile in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: named twice; every profile needs a name of its own")
        if len(first := [profile.name for profile in value if profile.default]) > 1:
            raise ValueError(f"{', '.join(first)}: all marked as the default; mark one")
        return value

    @field_validator("services")
    @classmethod
    def _services_differ(cls, value: list[ServiceSection]) -> list[ServiceSection]:
        names = [service.name for service in value]
        clients = [service.oauth_client_id or f"service-{service.name}" for service in value]
        if twice := sorted({one for every in (names, clients) for one in every if every.count(one) > 1}):
            raise ValueError(f"{', '.join(twice)}: named twice; every service needs a name of its own")
        return value

    @model_validator(mode="after")
    def _rules_hold(self) -> HubSettings:
        self._rules = rules_of(self)
        return self

    @model_validator(mode="after")
    def _profiles_exist(self) -> HubSettings:
        names = {profile.name for profile in self.profiles}
        if unknown := sorted(set(self.cull.profiles) - names):
            raise ValueError(
                f"cull.profiles.{unknown[0]}: there is no such profile; name one of [[profiles]]"
            )
        return self

    @field_validator("subdomain_host")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        value = value.rstrip("/").lower()
        if value and not ORIGIN.fullmatch(value):
            raise ValueError(f"{value!r} must be scheme and host name alone, such as https://hub.example.org")
        if value and re.search(r"//[0-9.]+(:|$)", value):
            raise ValueError(f"{value!r} is an address: there are no names below one")
        return value

    @model_validator(mode="before")
    @classmethod
    def _public_at_its_host(cls, raw: Any) -> Any:
        """Who names the host for subdomains need not name it twice."""
        host = raw.get("subdomain_host") if isinstance(raw, dict) else None
        return raw if not host or raw.get("public_url") else {**raw, "public_url": host}

    @model_validator(mode="after")
    def _one_host(self) -> HubSettings:
        public = self.public_url.rstrip("/").lower()
        if self.subdomain_host and public != self.subdomain_host:
            raise ValueError(
                f"public_url is {self.public_url!r} and subdomain_host {self.subdomain_host!r}; leave public_url out"
            )
        return self

    @property
    def site(self) -> str:
        """`public_url` without a slash at its end; for want of it, where the proxy listens."""
        host = "127.0.0.1" if self.proxy.ip in ("", "0.0.0.0", "*") else self.proxy.ip
        host = f"[{host}]" if ":" in host else host
        return self.public_url.rstrip("/") or f"http://{host}:{self.proxy.port}"

    @field_validator("base_url")
    @classmethod
    def _slashes(cls, value: str) -> str:
        return "/" + value.strip("/") + "/" if value.strip("/") else "/"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def take_over(self, other: HubSettings) -> None:
        """Become equal to `other`, for all who hold this object. Only a reload may (`reloading.py`)."""
        self.__dict__.update(other.__dict__)
        self._rules = other._rules
        self._readings += 1

    @property
    def readings(self) -> int:
        """How often it was read again. What was made of settings, or of files that they name, is then made anew."""
        return self._readings

    @property
    def rules(self) -> Rules:
        """Roles and custom scopes, ready for use."""
        return self._rules

    @property
    def hub_prefix(self) -> str:
        """`{H}` of the contracts: the path of the hub's pages, with a slash at both ends."""
        return self.base_url + "hub/"

    @property
    def db_url(self) -> str:
        """The database URL in force."""
        return (
            self.db.url.get_secret_value() if self.db.url else f"sqlite:///{self.data_dir / 'himalia.sqlite'}"
        )

    @property
    def proxy_api_port(self) -> int:
        """Port of the REST API of a proxy that we start."""
        return self.proxy.api_port or self.proxy.port + 1

    @property
    def proxy_api_url(self) -> str:
        """Base URL of the proxy's REST API."""
        return self.proxy.api_url or f"http://{self.proxy.api_ip}:{self.proxy_api_port}"
