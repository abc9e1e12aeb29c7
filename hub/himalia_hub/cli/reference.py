"""The reference pages, written from the code so that they cannot drift from it."""

from __future__ import annotations

import argparse
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from himalia_hub.auth.registry import OURS
from himalia_hub.auth.registry import find_plugin as find_way
from himalia_hub.auth.settings import MethodSection
from himalia_hub.config import section_of
from himalia_hub.rbac.settings import CustomScopeSection, RoleSection
from himalia_hub.reloading import is_hot
from himalia_hub.services.settings import ServiceSection
from himalia_hub.settings import HubSettings, ProfileSection
from himalia_spawner.registry import find_plugin

CONFIGURATION_HEAD = """\
# Configuration

<!-- Written by `make reference` from the settings themselves; a test fails when it is out of date. -->

One TOML file, then the environment, then flags; the later wins.

| Place | Example |
|---|---|
| file | `port = 9000` below `[proxy]`, in `himalia.toml` in the data folder or in the `--config` file |
| environment | `HIMALIA_PROXY__PORT=9000` (two underscores between table and key) |
| flag | `--proxy.port 9000`, before or after the verb |

A key that does not exist is an error. `himalia config check` tells every problem at once, with its place;
`himalia config show` prints what is in force and where it comes from; `himalia config schema` is JSON Schema,
for editors.

In the environment and in flags a list is words (`--spawner.command "a b"`) or JSON; a table is JSON or one
key at a time (`HIMALIA_SPAWNER__ENVIRONMENT__LANG=C.UTF-8`). A relative path in a file starts at its folder.
`HIMALIA_CONFIG` names the file when `--config` does not.

The last column says whether a running hub takes a new value over when it
[reads its configuration again](../howto/change-the-configuration.md); all others need a restart.
"""

CLI_HEAD = """\
# Command line

<!-- Written by `make reference` from the parser itself; a test fails when it is out of date. -->

Every verb understands `--data DIR`, `--config FILE` and every setting as `--section.key VALUE`, before or
after the verb. Exit codes: 0 done, 1 refused or failed (one sentence on standard error), 2 wrong usage.
"""


def configuration_page() -> str:
    """docs/reference/configuration.md."""
    parts = [CONFIGURATION_HEAD, _table("At the top of the file", "", HubSettings)]
    for name, info in HubSettings.model_fields.items():
        section = section_of(info)
        if section is not None:
            parts.append(_table(f"[{name}]", _doc(section), section))
    parts.append(_table("[[profiles]]", _doc(ProfileSection), ProfileSection))
    parts.append(_table("[auth.methods.NAME]", _doc(MethodSection), MethodSection))
    for kind in sorted(OURS):
        way = find_way(kind).settings
        parts.append(_table(f'[auth.methods.NAME], kind = "{kind}"', _doc(way), way))
    parts.append(_table("[[roles]]", _doc(RoleSection), RoleSection))
    parts.append(_table("[custom_scopes.NAME]", _doc(CustomScopeSection), CustomScopeSection))
    parts.append(_table("[[services]]", _doc(ServiceSection), ServiceSection))
    for kind in ("process", "docker", "swarm"):
        plugin = find_plugin(kind).settings
        parts.append(_table(f"[spawner.{kind}]", _doc(plugin), plugin))
    return "\n".join(parts)


def cli_page(parser: argparse.ArgumentParser) -> str:
    """docs/reference/cli.md."""
    parts = [CLI_HEAD]
    for verb, sub in _verbs(parser):
        parts.append(f"## himalia {verb}\n\n{_sentence(sub.description or '')}\n")
        parts += [
            f"`himalia {verb} {action}` — {_sentence(inner.description or '')}\n\n{_options(inner)}".rstrip()
            + "\n"
            for action, inner in _verbs(sub)
        ]
        if options := _options(sub):
            parts.append(options + "\n")
    return "\n".join(parts)


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _options(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.dest in ("help", "data", "config"):
            continue
        name = action.option_strings[0] if action.option_strings else str(action.metavar)
        value = (
            f" {action.metavar or action.dest.upper()}" if action.option_strings and action.nargs != 0 else ""
        )
        rows.append(f"| `{name}{value}` | {action.help or ''} |")
    return "\n".join(["| Argument | Meaning |", "|---|---|", *rows]) if rows else ""


def _table(title: str, text: str, model: type[BaseModel]) -> str:
    key = title.partition(",")[0].strip("[]").removesuffix(".NAME") + "." if title.startswith("[") else ""
    rows = [
        f"| `{name}` | {_kind(info.annotation)} | {_default(info)} | {_sentence(info.description or '')} "
        f"| {'yes' if is_hot(key + name) else ''} |"
        for name, info in model.model_fields.items()
        if section_of(info) is None
    ]
    head = [
        f"## {title}",
        "",
        *([text, ""] if text else []),
        "| Key | Kind | Default | Meaning | Reload |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _doc(model: type[BaseModel]) -> str:
    return _sentence((model.__doc__ or "").partition("—")[2].strip().removesuffix("."))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return (text if text.endswith(".") else text + ".").replace("|", "\\|") if text else ""


def _kind(kind: Any) -> str:
    arms = [arm for arm in typing.get_args(kind) if arm is not types.NoneType]
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return " or ".join(f"`{word}`" for word in typing.get_args(kind))
    if origin in (list, tuple):
        return "list"
    if origin is dict:
        return "table"
    if origin is not None and arms:
        return _kind(arms[0])
    words: dict[Any, str] = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Path: "path",
        SecretStr: "secret",
    }
    return words.get(kind, "text")


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "needed"
    if value is None or value in ("", [], {}, ()):
        return ""
    return f"`{json.dumps(value if isinstance(value, (bool, int, float, list, tuple)) else str(value))}`"
