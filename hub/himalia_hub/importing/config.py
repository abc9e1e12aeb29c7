"""A `jupyterhub_config.py` as settings of ours, and in words what has no counterpart.

The file is run, as JupyterHub runs it. Values go over; code (hooks, callables, classes of its own) never does: each
piece is named with the place where such a thing belongs here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue, PyFileConfigLoader

from himalia_hub.errors import BadRequest
from himalia_hub.importing import sections

Values = dict[str, Any]
"""Dotted keys of ours and their values."""

SAME = {
    "JupyterHub.base_url": "base_url",
    "JupyterHub.public_url": "public_url",
    "JupyterHub.subdomain_host": "subdomain_host",
    "JupyterHub.ip": "proxy.ip",
    "JupyterHub.port": "proxy.port",
    "JupyterHub.hub_ip": "hub.ip",
    "JupyterHub.hub_port": "hub.port",
    "JupyterHub.hub_connect_url": "hub.connect_url",
    "JupyterHub.cookie_max_age_days": "auth.cookie_max_age_days",
    "JupyterHub.token_expires_in_max_seconds": "auth.token_max_age_s",
    "JupyterHub.oauth_require_pkce": "auth.require_pkce",
    "JupyterHub.concurrent_spawn_limit": "servers.concurrent_start_limit",
    "JupyterHub.active_server_limit": "servers.active_limit",
    "JupyterHub.allow_named_servers": "servers.allow_named",
    "JupyterHub.named_server_limit_per_user": "servers.named_limit_per_user",
    "JupyterHub.cleanup_servers": "servers.stop_on_exit",
    "JupyterHub.proxy_check_interval": "proxy.check_interval_s",
    "ConfigurableHTTPProxy.should_start": "proxy.start",
    "ConfigurableHTTPProxy.api_url": "proxy.api_url",
    "Spawner.default_url": "spawner.default_url",
    "Spawner.notebook_dir": "spawner.notebook_dir",
    "Spawner.args": "spawner.args",
    "Spawner.environment": "spawner.environment",
    "Spawner.mem_limit": "spawner.mem_limit",
    "Spawner.cpu_limit": "spawner.cpu_limit",
    "Spawner.start_timeout": "spawner.start_timeout_s",
    "DockerSpawner.image": "spawner.image",
    "DockerSpawner.network_name": "spawner.docker.network",
}
"""Keys whose value means the same here."""

SPAWNERS = {
    "docker": "docker", "dockerspawner.DockerSpawner": "docker", "swarm": "swarm",
    "dockerspawner.SwarmSpawner": "swarm", "dockerspawner.SystemUserSpawner": "docker",
    "simple": "process", "localprocess": "process", "jupyterhub.spawner.LocalProcessSpawner": "process",
    "jupyterhub.spawner.SimpleLocalProcessSpawner": "process",
}  # fmt: skip

ELSEWHERE = {
    "JupyterHub.db_url": "rows come by `himalia import jupyterhub DATABASE`; ours are named in db.url",
    "JupyterHub.cookie_secret": "people sign in again: the hub makes a secret of its own",
    "JupyterHub.cookie_secret_file": "people sign in again: the hub makes a secret of its own",
    "JupyterHub.authenticator_class": "how people sign in is chosen in [auth]; `himalia user add` makes local accounts",
    "JupyterHub.load_groups": "groups come with the rows, or by the REST API",
    "JupyterHub.template_paths": "templates have other names and blocks here: see how to change the pages",
    "ConfigurableHTTPProxy.auth_token": "a secret: give it as HIMALIA_PROXY__AUTH_TOKEN, or let one be made",
    "Authenticator.admin_users": "administrators come with the rows, or by `himalia user add NAME --admin`",
    "Authenticator.allowed_users": "people come with the rows, or by `himalia user add NAME`",
    "Spawner.pre_spawn_hook": "code: a spawner plug-in of your own is the place",
    "Spawner.post_stop_hook": "code: a spawner plug-in of your own is the place",
    "Spawner.options_form": "a form of its own: [[profiles]] make the start page's form",
    "KubeSpawner.profile_list": "write each as [[profiles]]",
}
"""Where the thing behind a key lives here."""

MODULES = ("JupyterHub", "Spawner", "DockerSpawner", "ConfigurableHTTPProxy", "Authenticator", "KubeSpawner")


@dataclass(slots=True)
class Carried:
    """What goes over, and what does not: the key and the words."""

    values: Values = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def read(file: Path) -> Carried:
    """Run the file and sort what it sets. BadRequest says where it failed."""
    return sort(load(file))


def load(file: Path) -> Config:
    """What the file sets. A module that is missing here is named with its line."""
    if not file.is_file():
        raise BadRequest(f"{str(file)!r} is not there; name the jupyterhub_config.py")
    try:
        return PyFileConfigLoader(file.name, path=str(file.absolute().parent)).load_config()
    except Exception as error:  # it is a program of somebody's own
        at = error.__traceback__
        line = 0
        while at is not None:
            line = at.tb_lineno if at.tb_frame.f_code.co_filename == str(file.absolute()) else line
            at = at.tb_next
        raise BadRequest(
            f"{file}, line {line}: {type(error).__name__}: {error}; install what it needs beside himalia, or take the "
            "line out of a copy"
        ) from None


def sort(config: Config) -> Carried:
    """Each key to its place. Pure."""
    carried = Carried()
    if "allow_named_servers" not in config.get("JupyterHub", {}):
        carried.values["servers.allow_named"] = False  # theirs is off unless said, ours is on
    for key, value in _keys(config):
        if isinstance(value, LazyConfigValue):
            carried.left.append(f"{key}: it adds to a default of JupyterHub's, which is not known here")
        elif key in SPECIAL:
            SPECIAL[key](value, carried)
        elif key in ELSEWHERE:
            carried.left.append(f"{key}: {ELSEWHERE[key]}")
        elif key not in SAME:
            carried.left.append(f"{key}: no counterpart")
        elif not _is_plain(value):
            carried.left.append(f"{key}: code cannot be carried over; {SAME[key]} takes a value")
        else:
            carried.values[SAME[key]] = value
    return carried


def _keys(config: Config) -> Iterator[tuple[str, Any]]:
    for section in sorted(config, key=lambda name: (name not in MODULES, name)):
        for name, value in sorted(config[section].items()):
            yield f"{section}.{name}", value


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _bind_url(value: Any, carried: Carried) -> None:
    parts = urlsplit(str(value))
    carried.values["proxy.ip"] = parts.hostname or "0.0.0.0"
    if parts.port:
        carried.values["proxy.port"] = parts.port
    if parts.path.strip("/"):
        carried.values["base_url"] = parts.path


def _hub_bind_url(value: Any, carried: Carried) -> None:
    parts = urlsplit(str(value))
    carried.values["hub.ip"] = parts.hostname or "127.0.0.1"
    if parts.port:
        carried.values["hub.port"] = parts.port


def _spawner(value: Any, carried: Carried) -> None:
    name = value if isinstance(value, str) else f"{value.__module__}.{value.__qualname__}"
    if name in SPAWNERS:
        carried.values["spawner.kind"] = SPAWNERS[name]
    else:
        carried.left.append(
            f"JupyterHub.spawner_class {name!r}: there are process, docker and swarm, and plug-ins"
        )


def _command(value: Any, carried: Carried) -> None:
    words = [value] if isinstance(value, str) else list(value)
    if words[:1] != ["jupyterhub-singleuser"] or words[1:]:
        carried.values["spawner.command"] = words
    else:
        carried.left.append(
            'Spawner.cmd: our own server is used instead; command = ["jupyterhub-singleuser"] goes back to theirs'
        )


def _volumes(value: Any, carried: Carried) -> None:
    places: dict[str, str] = {}
    for source, target in dict(value).items():
        to = target.get("bind", "") if isinstance(target, dict) else target
        places[str(source).replace("{username}", "{user}").replace("{servername}", "{server}")] = to
    carried.values["spawner.docker.volumes"] = places


def _tls(option: str) -> Callable[[Any, Carried], None]:
    def put(value: Any, carried: Carried) -> None:
        carried.values.setdefault("proxy.args", []).extend([option, str(value)])

    return put


def _section(carry: Callable[[Any, Values, list[str]], None]) -> Callable[[Any, Carried], None]:
    def put(value: Any, carried: Carried) -> None:
        carry(value, carried.values, carried.left)

    return put


def _log_level(value: Any, carried: Carried) -> None:
    name = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "error"}.get(value, str(value).lower())
    carried.values["log.level"] = {"warn": "warning", "critical": "error"}.get(name, name)


def _open_metrics(value: Any, carried: Carried) -> None:
    carried.values["hub.open_metrics"] = not value


SPECIAL: dict[str, Callable[[Any, Carried], None]] = {
    "JupyterHub.bind_url": _bind_url,
    "JupyterHub.hub_bind_url": _hub_bind_url,
    "JupyterHub.spawner_class": _spawner,
    "JupyterHub.ssl_key": _tls("--ssl-key"),
    "JupyterHub.ssl_cert": _tls("--ssl-cert"),
    "JupyterHub.log_level": _log_level,
    "JupyterHub.custom_scopes": _section(sections.custom_scopes),
    "JupyterHub.services": _section(sections.services),
    "JupyterHub.load_roles": _section(sections.roles),
    "JupyterHub.authenticate_prometheus": _open_metrics,
    "Spawner.cmd": _command,
    "DockerSpawner.cmd": _command,
    "DockerSpawner.volumes": _volumes,
}
"""Keys whose value is written otherwise here."""


def as_toml(values: Values) -> str:
    """Our configuration file with these values."""
    tables: dict[str, Values] = {}
    many: list[str] = []
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            many += [_table(f"[[{key}]]", one) for one in value]
            continue
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = value
    single = [_table(f"[{table}]" if table else "", tables[table]) for table in sorted(tables)]
    return "\n".join([*single, *many])


def _table(head: str, values: Values) -> str:
    lines = [head] if head else []
    lines += [f"{name} = {_toml(value)}" for name, value in sorted(values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{json.dumps(str(key))} = {_toml(inner)}" for key, inner in value.items())
            + " }"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML's texts, numbers and truth values are JSON's
