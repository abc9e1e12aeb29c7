"""Services, roles and custom scopes of a `jupyterhub_config.py`, each as a section of ours where it is one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from himalia_hub.rbac.settings import RoleSection
from himalia_hub.services.settings import ServiceSection
from himalia_hub.settings import HubSettings

Values = dict[str, Any]


def services(value: Any, values: Values, left: list[str]) -> None:
    """`JupyterHub.services`. Tokens are secrets, and stay where they are."""
    for service in _mappings(value, "JupyterHub.services", left):
        kept = dict(service)
        if isinstance(kept.get("command"), str):
            kept["command"] = [kept["command"]]
        if kept.pop("api_token", None):
            left.append(
                f"service {kept.get('name')!r}: its api_token is a secret: put it into a file of mode 0600, and name "
                "that in api_token_file"
            )
        _take("services", "service", kept, set(ServiceSection.model_fields), values, left)


def roles(value: Any, values: Values, left: list[str]) -> None:
    """`JupyterHub.load_roles`."""
    for role in _mappings(value, "JupyterHub.load_roles", left):
        _take("roles", "role", dict(role), set(RoleSection.model_fields), values, left)


def custom_scopes(value: Any, values: Values, left: list[str]) -> None:
    """`JupyterHub.custom_scopes`."""
    for name, section in dict(value).items():
        tried = values.get("custom_scopes", {}) | {name: section}
        if why := _refusal({**_parts(values), "custom_scopes": tried}):
            left.append(f"custom scope {name!r}: {why}")
        else:
            values["custom_scopes"] = tried


def names(values: Values, key: str) -> frozenset[str]:
    """What is called so among what was carried."""
    return frozenset(one["name"] for one in values.get(key, ()))


def _mappings(value: Any, key: str, left: list[str]) -> Iterable[Mapping[str, Any]]:
    for one in value:
        if isinstance(one, Mapping):
            yield one
        else:
            left.append(f"{key}: {one!r} is no table of names and values")


def _take(key: str, what: str, one: Values, known: set[str], values: Values, left: list[str]) -> None:
    """Add it if a hub would accept it, without what has no counterpart."""
    for name in sorted(one.keys() - known):
        left.append(f"{what} {one.get('name')!r}: {name} has no counterpart")
        del one[name]
    one = {name: list(given) if isinstance(given, set | tuple) else given for name, given in one.items()}
    one = {name: given for name, given in one.items() if given is not None}
    tried = [*values.get(key, ()), one]
    if why := _refusal({**_parts(values), key: tried}):
        left.append(f"{what} {one.get('name')!r}: {why}")
    else:
        values[key] = tried


def _parts(values: Values) -> Values:
    return {key: values[key] for key in ("services", "roles", "custom_scopes") if key in values}


def _refusal(tried: Values) -> str:
    """Why a hub would not start with these sections; nothing if it would."""
    try:
        HubSettings.model_validate(tried)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][2:])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return ""
