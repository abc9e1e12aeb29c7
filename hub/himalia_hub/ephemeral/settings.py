"""What can be configured about throw-away sessions."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from himalia_hub.ephemeral.sources import PROVIDERS
from himalia_hub.section import Section

GITHUB_API = "https://api.github.com"


def _compiled(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


class RepositoryRule(BaseModel, extra="forbid", frozen=True):
    """[[ephemeral.repositories]] — other limits for repositories that fit an expression."""

    match: str
    builder: Literal["own", "either", "repo2docker"] | None = None
    limit: int | None = Field(None, ge=0)
    hourly_limit: int | None = Field(None, ge=0)
    build_limit: int | None = Field(None, ge=0)
    pool_min: int | None = Field(None, ge=0)
    pool_max: int | None = Field(None, ge=0)
    mem_limit: str | float | None = None
    cpu_limit: str | float | None = None

    @field_validator("match")
    @classmethod
    def _expression(cls, value: str) -> str:
        return _compiled(value)


class EphemeralSection(Section):
    """[ephemeral] — throw-away sessions from a link to a repository."""

    open_to: Literal["nobody", "people", "everybody"] = Field(
        "nobody",
        description="who may open a link: `nobody` switches it off, `people` are those who are signed in, "
        "`everybody` needs no account",
    )
    trusted_network: bool = Field(
        False,
        description="let sessions run under the hub's own account where they cannot get one of their own; their code "
        "can then read everything that the hub can",
    )
    dir: Path | None = Field(
        None,
        description="folder for repositories, environments and sessions; accounts of sessions must be able to pass "
        "through it; absent means a folder under /var/lib for root, else `ephemeral` in the data folder",
    )
    providers: list[str] = Field(
        default_factory=lambda: list(PROVIDERS), description="kinds of links that are accepted"
    )
    hosts: dict[str, str] = Field(
        default_factory=dict,
        description='address of a provider instead of the public one, such as `gl = "https://gitlab.example.org"`',
    )
    private_hosts: list[str] = Field(
        default_factory=list,
        description="names, addresses and networks that may be fetched from although they are not public",
    )
    allowed: list[str] = Field(
        default_factory=list,
        description="expressions of which a spec such as `gh/owner/repository` must match one; empty: any",
    )
    banned: list[str] = Field(
        default_factory=list, description="expressions of which a spec must match none; asked first"
    )
    secret_gists: bool = Field(
        False,
        description="open gists that nobody lists, too; without it the first link to each asks `gist_api`, which "
        "GitHub allows an address without an account 60 times an hour",
    )
    gist_api: str = Field(
        GITHUB_API, description="where it is asked whether a gist is public; of the same site as `hosts.gist`"
    )
    ban_networks: dict[str, str] = Field(
        default_factory=dict,
        description='addresses and networks that may open no links, with words for people: `"203.0.113.0/24" = "…"`; '
        "of IPv6 a whole /64 counts as one visitor",
    )
    tell_client_address: bool = Field(
        False,
        description="give a session of who has no account their address as `BINDER_CLIENT_IP` (of IPv6 the /64)",
    )
    index_url: str = Field(
        "", description="index that environments are installed from; empty: uv's own default"
    )
    python: str = Field(
        "", description="interpreter of environments that name none, such as `3.12`; empty: the hub's own"
    )
    total_limit: int = Field(20, ge=1, description="sessions at once; more wait in a queue")
    repository_limit: int = Field(0, ge=0, description="sessions of one repository at once; 0: no limit")
    repository_hourly_limit: int = Field(
        0, ge=0, description="how often one repository may be opened within an hour; 0: no limit"
    )
    repositories: list[RepositoryRule] = Field(
        default_factory=list,
        description="other limits for some: tables with `match`, an expression like those of `allowed`, and "
        "`limit` (its sessions at once), `hourly_limit`, `build_limit`, `pool_min` and `pool_max` (warm sessions of "
        "one link), `mem_limit`, `cpu_limit`, `builder`; the first that fits counts",
    )
    visitor_limit: int = Field(3, ge=0, description="sessions of one person or address at once; 0: no limit")
    visitor_hourly_limit: int = Field(
        100, ge=0, description="links that one person or address may open within an hour; 0: no limit"
    )
    pool_max: int = Field(
        0,
        ge=0,
        description="sessions that are kept warm before anybody opens them, beside `total_limit`; 0: none",
    )
    pool_min: int = Field(
        0,
        ge=0,
        description="sessions kept warm for each link that was opened in the last week, while there is room",
    )
    pool_window_s: float = Field(
        3600,
        gt=0,
        description="as many are kept warm for a link as were opened in this time, while there is room",
    )
    build_limit: int = Field(2, ge=1, description="environments that are made at once")
    repository_build_limit: int = Field(
        1, ge=0, description="environments of one repository that are made at once; 0: no limit of its own"
    )
    build_only: bool = Field(
        False,
        description="let programs have an environment made without a session: `/build/…?build_only=true`, as BinderHub "
        "does in its API-only mode",
    )
    queue_limit: int = Field(200, ge=0, description="links that may wait; further ones are refused")
    nobody_waits_s: float = Field(
        60,
        ge=0,
        description="give up a link's place in the queue when nobody has followed it for this long; 0: never",
    )
    idle_s: float = Field(600, gt=0, description="end a session that nobody has used for this long")
    max_age_s: float = Field(6 * 3600, gt=0, description="end a session after this long, used or not")
    extend_s: float = Field(
        3600, ge=0, description="how long a session goes on, at least, once somebody asked to keep it alive"
    )
    longest_s: float = Field(
        12 * 3600,
        ge=0,
        description="how old a session may get by being kept alive; less than max_age_s: no older",
    )
    download_max_bytes: int = Field(
        2_000_000_000, gt=0, description="size of the files that can be taken out of a session"
    )
    session_max_bytes: int = Field(
        5_000_000_000,
        ge=0,
        description="room that the files of a running session may take; one with more is ended; 0: no limit",
    )
    repository_max_bytes: int = Field(
        500_000_000, ge=1_000_000, description="size of a repository's files, at most"
    )
    repository_max_files: int = Field(50_000, gt=0, description="number of a repository's files, at most")
    environment_max_bytes: int = Field(4_000_000_000, gt=0, description="size of one environment, at most")
    builder: Literal["own", "either", "repo2docker"] = Field(
        "own",
        description="who builds images where sessions are containers: the hub (`own`), `repo2docker`, or `either`: "
        "repo2docker where a repository asks for what only that can build (conda, R, Julia, Nix, `postBuild`, `start`)",
    )
    repo2docker_command: str = Field(
        "jupyter-repo2docker",
        min_length=1,
        description="the program, by name or path; it may live in a virtualenv of its own",
    )
    repo2docker_options: list[str] = Field(
        default_factory=list,
        description="further arguments of it, such as `--Repo2Docker.base_image=…`; another list makes other images",
    )
    base_image: str = Field(
        "", description="image that sessions in containers are built from; empty: that of the Docker spawner"
    )
    allowed_bases: list[str] = Field(
        default_factory=list,
        description="patterns such as `docker.io/jupyter/*`: a repository's Dockerfile may start from no other image; "
        "empty: any, also one that lies on the engine alone",
    )
    build_mem_limit: str | float | None = Field(
        "2G", description="memory of a command that builds an image; empty: no limit"
    )
    build_cpu_limit: str | float | None = Field(
        2, description="CPUs of a command that builds an image; empty: no limit"
    )
    keep_unused_s: float = Field(
        7 * 86400,
        gt=0,
        description="how long a repository or an environment that nobody uses is kept; less when the disk is full",
    )
    fetch_timeout_s: float = Field(120, gt=0, description="how long one repository may take to come")
    build_timeout_s: float = Field(900, gt=0, description="how long one environment may take to be made")
    mem_limit: str | float | None = Field("2G", description="memory of one session; empty: no limit")
    cpu_limit: str | float | None = Field(2, description="CPUs of one session; empty: no limit")
    pids_limit: int | None = Field(512, ge=16, description="processes and threads of one session")

    @field_validator("providers")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        if unknown := sorted(set(value) - set(PROVIDERS)):
            raise ValueError(f"{', '.join(unknown)}: unknown; there are {', '.join(PROVIDERS)}")
        return value

    @field_validator("allowed", "banned")
    @classmethod
    def _expressions(cls, value: list[str]) -> list[str]:
        for text in value:
            _compiled(text)
        return value

    @field_validator("ban_networks")
    @classmethod
    def _networks(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value:
            ip_network(text, strict=False)  # its ValueError names the text
        return value

    @model_validator(mode="after")
    def _one_site_of_gists(self) -> Self:
        if "gist" in self.hosts and not self.secret_gists and self.gist_api == GITHUB_API:
            raise ValueError(
                "hosts.gist is a site of its own: set gist_api to its API, such as https://HOST/api/v3, or "
                "secret_gists = true"
            )
        return self

    @property
    def on(self) -> bool:
        """Whether links are opened at all."""
        return self.open_to != "nobody"

    def banned_network(self, address: str) -> str | None:
        """The words of the ban that holds for this address or network; None when there is none."""
        visitor = ip_network(address, strict=False)
        for text, why in self.ban_networks.items():
            banned = ip_network(text, strict=False)
            if banned.version == visitor.version and banned.overlaps(visitor):
                return why
        return None

    def admits(self, provider: str, spec: str) -> bool:
        """Whether this site opens the repository, by `banned` and `allowed`."""
        name = f"{provider}/{spec}"

        def one_of(expressions: list[str]) -> bool:
            return any(re.search(text, name, re.IGNORECASE) for text in expressions)

        return not one_of(self.banned) and (not self.allowed or one_of(self.allowed))

    def rule(self, provider: str, spec: str) -> RepositoryRule:
        """What holds for this repository: the first of `repositories` that fits, else one with the section's limits."""
        name = f"{provider}/{spec}"
        found = next((one for one in self.repositories if re.search(one.match, name, re.IGNORECASE)), None)
        return RepositoryRule(
            match=found.match if found else "",
            builder=(found.builder if found else None) or self.builder,
            limit=self.repository_limit if found is None or found.limit is None else found.limit,
            hourly_limit=self.repository_hourly_limit
            if found is None or found.hourly_limit is None
            else found.hourly_limit,
            build_limit=self.repository_build_limit
            if found is None or found.build_limit is None
            else found.build_limit,
            pool_min=found.pool_min if found else None,
            pool_max=found.pool_max if found else None,
            mem_limit=(found.mem_limit if found else None) or self.mem_limit,
            cpu_limit=(found.cpu_limit if found else None) or self.cpu_limit,
        )
