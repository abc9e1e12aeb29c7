"""Reading the database of a JupyterHub, versions 4 to 6; nothing in it is changed.

Its tables are described by JupyterHub's own `orm.py`. Documents are JSON in text columns, moments are naive UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from himalia_hub.db.engine import sync_url
from himalia_hub.errors import BadRequest

D = TypeVar("D", dict[str, Any], list[Any])
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

NEEDED = ("users", "groups", "user_group_map", "spawners", "api_tokens", "services", "roles")
BUILT_IN_ROLES = frozenset({"user", "admin", "server", "token"})


@dataclass(frozen=True, slots=True)
class TheirToken:
    """A token that a person made. `hashed` is `algorithm:rounds:salt:digest`, `prefix` its first letters."""

    owner: str
    hashed: str
    prefix: str
    note: str
    scopes: list[str]
    created: datetime | None
    expires_at: datetime | None
    last_activity: datetime | None


@dataclass(frozen=True, slots=True)
class TheirServer:
    """A server that somebody has, running or not."""

    owner: str
    name: str
    display_name: str
    user_options: dict[str, Any]
    last_activity: datetime | None


@dataclass(frozen=True, slots=True)
class TheirUser:
    """A person; how they sign in is the business of an authenticator, and no row."""

    name: str
    admin: bool
    created: datetime | None
    last_activity: datetime | None


@dataclass(frozen=True, slots=True)
class TheirGroup:
    """A group and who is in it."""

    name: str
    properties: dict[str, Any]
    members: list[str]


@dataclass(frozen=True, slots=True)
class TheirShare:
    """What a person or a group may do with somebody's server. `scopes` are bare names."""

    owner: str
    server: str
    user: str | None
    group: str | None
    scopes: list[str]
    created: datetime | None
    expires_at: datetime | None

    @property
    def words(self) -> str:
        """What to call it."""
        with_whom = f"group {self.group!r}" if self.user is None else f"{self.user!r}"
        return f"the share of {self.owner}/{self.server} with {with_whom}"


@dataclass(frozen=True, slots=True)
class TheirShareCode:
    """A code for such a share, hashed as a token is."""

    owner: str
    server: str
    scopes: list[str]
    hashed: str
    prefix: str
    created: datetime | None
    expires_at: datetime | None
    exchange_count: int
    last_exchanged: datetime | None

    @property
    def words(self) -> str:
        """What to call it."""
        return f"the share code {self.prefix}… for {self.owner}/{self.server}"


@dataclass(slots=True)
class Theirs:
    """All that can be carried over, and in words what cannot."""

    users: list[TheirUser] = field(default_factory=list)
    groups: list[TheirGroup] = field(default_factory=list)
    servers: list[TheirServer] = field(default_factory=list)
    tokens: list[TheirToken] = field(default_factory=list)
    shares: list[TheirShare] = field(default_factory=list)
    codes: list[TheirShareCode] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def read(
    database: str, *, services: frozenset[str] = frozenset(), roles: frozenset[str] = frozenset()
) -> Theirs:
    """Everything, of one moment. BadRequest when it is no database of a JupyterHub.

    `services` and `roles` came with the configuration, and nothing is said of them.
    """
    with _opened(database) as connection:
        theirs = Theirs()
        people = _people(connection, theirs)
        groups = _groups(connection, theirs, people)
        servers = _servers(connection, theirs, people)
        _tokens(connection, theirs, people)
        _shares(connection, theirs, people, groups, servers)
        _what_is_left(connection, theirs, services, BUILT_IN_ROLES | roles)
        return theirs


@contextmanager
def _opened(database: str) -> Iterator[Connection]:
    url = database if "://" in database else f"sqlite:///{Path(database).absolute()}"
    parsed = sync_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise BadRequest(f"{parsed.database!r} is not there; name JupyterHub's database file or its URL")
    engine = sa.create_engine(parsed, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            missing = set(NEEDED) - set(sa.inspect(connection).get_table_names())
            if missing:
                raise BadRequest(
                    f"{database!r} is no database of a JupyterHub since version 4: it has no table "
                    f"{min(missing)!r}; run `jupyterhub upgrade-db` there first if it is an older one"
                )
            yield connection
    except sa.exc.DBAPIError as error:
        raise BadRequest(f"{database!r} cannot be read: {str(error.orig).splitlines()[0]}") from None
    finally:
        engine.dispose()


def _rows(connection: Connection, table: str) -> Iterator[dict[str, Any]]:
    for row in connection.execute(sa.text(f'SELECT * FROM "{table}"')):  # noqa: S608 - names of this file only
        yield dict(row._mapping)


def _people(connection: Connection, theirs: Theirs) -> dict[int, str]:
    names: dict[int, str] = {}
    for row in _rows(connection, "users"):
        names[row["id"]] = row["name"]
        theirs.users.append(
            TheirUser(row["name"], bool(row["admin"]), _moment(row["created"]), _moment(row["last_activity"]))
        )
        if row.get("encrypted_auth_state"):
            theirs.left.append(
                f"the auth state of {row['name']!r}: it is locked by a key of JupyterHub's environment"
            )
    return names


def _groups(connection: Connection, theirs: Theirs, people: dict[int, str]) -> dict[int, str]:
    names: dict[int, str] = {}
    members: dict[int, list[str]] = {}
    for row in _rows(connection, "user_group_map"):
        if row["user_id"] in people:
            members.setdefault(row["group_id"], []).append(people[row["user_id"]])
    for row in _rows(connection, "groups"):
        names[row["id"]] = row["name"]
        properties = _document(row.get("properties"), dict)
        theirs.groups.append(TheirGroup(row["name"], properties, sorted(members.get(row["id"], []))))
    return names


def _servers(connection: Connection, theirs: Theirs, people: dict[int, str]) -> dict[int, tuple[str, str]]:
    names: dict[int, tuple[str, str]] = {}
    for row in _rows(connection, "spawners"):
        owner = people.get(row["user_id"])
        if owner is None:
            continue
        names[row["id"]] = owner, row["name"] or ""
        options = _document(row.get("user_options"), dict)
        shown = row.get("display_name") or ""
        theirs.servers.append(
            TheirServer(owner, row["name"] or "", shown, options, _moment(row["last_activity"]))
        )
        if row["server_id"] is not None:
            what = f"server {row['name']!r}" if row["name"] else "the server"
            theirs.left.append(f"{what} of {owner!r} runs under JupyterHub: stop it there, start it here")
    return names


def _tokens(connection: Connection, theirs: Theirs, people: dict[int, str]) -> None:
    """Those that people made; what a sign-in or a server was given ends with it, there and here."""
    for row in _rows(connection, "api_tokens"):
        owner = people.get(row["user_id"] or 0)
        if owner is None or row["client_id"] not in (None, "jupyterhub") or row["session_id"]:
            continue
        if (row["note"] or "").startswith("Server at "):
            continue
        theirs.tokens.append(
            TheirToken(
                owner, row["hashed"], row["prefix"], row["note"] or "", _document(row["scopes"], list),
                _moment(row["created"]), _moment(row["expires_at"], LONG_AGO), _moment(row["last_activity"]),
            )
        )  # fmt: skip


def _shares(
    connection: Connection,
    theirs: Theirs,
    people: dict[int, str],
    groups: dict[int, str],
    servers: dict[int, tuple[str, str]],
) -> None:
    """Since version 5. Scopes carry names of owner and server, maybe old ones: a share is of the server in its row."""
    there = {"shares", "share_codes"} & set(sa.inspect(connection).get_table_names())
    for table in sorted(there):
        for row in _rows(connection, table):
            if row["spawner_id"] not in servers:
                continue
            owner, server = servers[row["spawner_id"]]
            wide = _document(row["scopes"], list)
            bare = [str(scope).partition("!")[0] for scope in wide]
            created, over = _moment(row["created_at"]), _moment(row["expires_at"], LONG_AGO)
            if table == "share_codes":
                code = TheirShareCode(
                    owner, server, bare, row["hashed"], row["prefix"], created, over,
                    row["exchange_count"] or 0, _moment(row["last_exchanged_at"]),
                )  # fmt: skip
                theirs.codes.append(code)
            elif row["user_id"] in people or row["group_id"] in groups:
                user, group = people.get(row["user_id"]), groups.get(row["group_id"])
                theirs.shares.append(TheirShare(owner, server, user, group, bare, created, over))


def _what_is_left(
    connection: Connection, theirs: Theirs, services: frozenset[str], roles: frozenset[str]
) -> None:
    for row in _rows(connection, "services"):
        if row["name"] not in services:
            theirs.left.append(
                f"service {row['name']!r}: write it as [[services]] with its command or URL and its roles"
            )
    for row in _rows(connection, "roles"):
        if row["name"] not in roles:
            scopes = ", ".join(map(str, _document(row["scopes"], list)))
            theirs.left.append(f"role {row['name']!r} ({scopes}): write it as [[roles]]")


def _moment(value: Any, otherwise: datetime | None = None) -> datetime | None:
    """SQLite gives text, PostgreSQL a moment; both are UTC without saying so. Other text is `otherwise`."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:  # what no JupyterHub wrote must not keep everybody else from coming over
            return otherwise
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else None


def _document(value: Any, kind: type[D]) -> D:
    """An object or a list; an empty one for what is neither: damaged rights are none."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    return found if isinstance(found, kind) else kind()
