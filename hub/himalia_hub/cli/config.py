"""`himalia config`: what is in force, whether it is right, and what there is to set."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pydantic import BaseModel, SecretStr
from sqlalchemy.engine import make_url

from himalia_hub import config
from himalia_hub.auth.door import configured
from himalia_hub.auth.registry import find_plugin as find_way
from himalia_hub.auth.settings import MethodSection
from himalia_hub.cli.common import loaded_from, settings_from
from himalia_hub.cli.reference import configuration_page
from himalia_hub.cli.reload import reload
from himalia_hub.config import Loaded
from himalia_hub.db.engine import async_url
from himalia_hub.errors import ConfigError, sentence
from himalia_hub.settings import HubSettings
from himalia_spawner.errors import SpawnError
from himalia_spawner.registry import find_plugin

HELP = "show, check, reload or describe the configuration"

ACTIONS = {
    "show": "the values in force and where each comes from; secrets are masked",
    "check": "exit 0 when everything is right; else every problem with its key and place",
    "reload": "have the running hub of this data folder read it again; what counts now, and what after a restart",
    "schema": "JSON Schema of the file, for editors",
    "reference": "the reference page, in Markdown",
}
MASK = "**********"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One action."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        if name == "show":
            action.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(args: argparse.Namespace) -> int:
    """Do one action."""
    match args.action:
        case "schema":
            print(json.dumps(HubSettings.model_json_schema(), indent=2))
        case "reference":
            sys.stdout.write(configuration_page())
        case "reload":
            print(asyncio.run(reload(settings_from(args))))
        case "check":
            loaded = loaded_from(args)
            check(loaded.settings)
            print(f"the configuration is right ({loaded.file or 'no file, defaults'})")
        case _:
            loaded = loaded_from(args)
            print(as_json(loaded) if args.json else as_toml(loaded))
    return 0


def check(settings: HubSettings) -> None:
    """What the start would refuse as well: plug-ins, their own tables, the database's URL. ConfigError lists all."""

    def spawner() -> None:
        kind = settings.spawner.kind
        find_plugin(kind).validate(getattr(settings.spawner, kind, None) or {})

    def way(name: str, section: MethodSection) -> None:
        find_way(section.kind).validate(name, section.model_extra or {})

    judges: list[Callable[[], object]] = [partial(async_url, settings.db_url), spawner]
    judges += [partial(way, *each) for each in configured(settings).items()]
    problems = []
    for judge in judges:
        try:
            judge()
        except (ConfigError, SpawnError) as error:
            problems.append(sentence(error))
    if problems:
        raise config.refusal(problems)


def as_json(loaded: Loaded) -> str:
    """Key to value and source."""
    return json.dumps(
        {key: {"value": value, "source": loaded.source(key)} for key, value in shown(loaded.settings)},
        indent=2,
        ensure_ascii=False,
    )


def as_toml(loaded: Loaded) -> str:
    """Like the file would be, with each source as a comment; what is empty is a comment itself."""
    lines: list[str] = []
    table = ""
    for key, value in sorted(shown(loaded.settings), key=lambda each: "." in each[0]):
        head, _, name = key.rpartition(".")
        if head != table:
            lines += ["", f"[{head}]"]
            table = head
        text = f"{name} = {_toml(value)}" if value is not None else f"# {name} is not set"
        lines.append(f"{text}  # {loaded.source(key)}")
    return "\n".join(lines)


def shown(settings: HubSettings) -> Iterator[tuple[str, Any]]:
    """Every key with its value as JSON would have it, in the order of the settings; secrets are masked."""
    for key, _info in config.all_fields():
        value: Any = settings
        for part in key.split("."):
            value = getattr(value, part)
        yield key, _plain(key, value)


def _plain(key: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, SecretStr):
        # A database URL is worth reading without its password.
        secret = value.get_secret_value()
        return make_url(secret).render_as_string() if key == "db.url" else MASK
    if isinstance(value, dict):
        return {name: _plain(f"{key}.{name}", inner) for name, inner in value.items()}
    if config.is_secret(key):
        return MASK
    if isinstance(value, BaseModel):
        said = value.model_dump(mode="json", exclude_unset=True)
        return {name: _plain(f"{key}.{name}", inner) for name, inner in said.items()}
    if isinstance(value, list):
        return [_plain(key, inner) for inner in value]
    return value if isinstance(value, (bool, int, float)) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, list):
        return f"[{', '.join(_toml(inner) for inner in value)}]"
    return json.dumps(value, ensure_ascii=False)
