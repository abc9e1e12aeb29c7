"""Reading the configuration: one TOML, then the environment, then the command line; the later wins.

Everything wrong is reported at once, each with its key and where it stands. A key that does not exist is an
error with the nearest right one, because a typo that is silently ignored is a setting that is silently lost.
"""

from __future__ import annotations

import json
import os
import shlex
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from himalia_hub.errors import ConfigError
from himalia_hub.meant import nearest
from himalia_hub.settings import HubSettings

FILE_NAME = "himalia.toml"
ENV_PREFIX = "HIMALIA_"
# Names with our prefix that are no settings: the file itself, what a spawner gives to a server (a hub may be
# started from a server's terminal), and what tests use.
NOT_SETTINGS = frozenset(
    {"HIMALIA_CONFIG", "HIMALIA_LISTEN_FD", "HIMALIA_LOCK_FD", "HIMALIA_INCARNATION", "HIMALIA_STATIC_CACHE"}
    | {"HIMALIA_BUSY_KERNELS_COUNT", "HIMALIA_CLEAR_OUTPUTS_ON_SAVE", "HIMALIA_SOCKET_MODE"}
    | {"HIMALIA_SPARE_KERNEL"}
    | {"HIMALIA_FAULT", "HIMALIA_TRACE", "HIMALIA_SHOTS"}
)
# Names that give a value away as a secret where the names are free: environment variables, plug-ins' tables.
SECRET_WORDS = ("token", "secret", "password", "passwd", "key", "credential")

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and where each key that is not a default comes from."""

    settings: HubSettings
    sources: Mapping[str, str]
    file: Path | None

    def source(self, key: str) -> str:
        """Where the value of this dotted key comes from; a table counts as set when something in it is."""
        return _source_of(key, self.sources) or "default"


@dataclass(slots=True)
class _Draft:
    """What has been read so far, not yet judged."""

    values: Values = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, path: tuple[str, ...], value: Any, source: str) -> None:
        """Set one key. A value and a table under the same name is a problem, reported with both places."""
        table = self.values
        for depth, part in enumerate(path[:-1]):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                above = ".".join(path[: depth + 1])
                self.problem(".".join(path), source, f"{above!r} is already a value ({self.sources[above]})")
                return
        table[path[-1]] = value
        key = ".".join(path)
        for replaced in [name for name in self.sources if name.startswith(key + ".")]:
            del self.sources[replaced]
        self.sources[key], self.paths[key] = source, path

    def problem(self, key: str, source: str, text: str) -> None:
        """Remember what is wrong with one key."""
        self.problems.append(f"{key} ({source}): {text}")


def load(
    config_file: Path | None = None,
    data_dir: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """The configuration in force. ConfigError lists every problem.

    Without `config_file`, `himalia.toml` in the data folder is read when it is there. `overrides` are the
    `--section.key value` of the command line.
    """
    environ = os.environ if environ is None else environ
    flags = dict(overrides or {})
    if data_dir is not None:
        flags["data_dir"] = str(data_dir)
    if config_file is None and environ.get("HIMALIA_CONFIG"):
        config_file = Path(environ["HIMALIA_CONFIG"])
    named = config_file is not None
    folder = _data_folder(flags, environ)
    file = config_file if config_file is not None else folder / FILE_NAME

    draft = _Draft()
    present = named or _is_there(draft, file)
    if present:
        _read_file(draft, file)
        if not named and (elsewhere := draft.values.get("data_dir")) not in (None, str(folder)):
            draft.problem(
                "data_dir",
                f"file {file}",
                f"{elsewhere!r} is not the folder this file was found in; remove it",
            )
        if not named:
            draft.put(("data_dir",), str(folder), draft.sources.get("data_dir", f"folder of {file}"))
    _read_environment(draft, environ)
    for key, text in flags.items():
        source = "--data" if key == "data_dir" and data_dir is not None else f"--{key}"
        _put_text(draft, tuple(part.replace("-", "_") for part in key.split(".")), text, source)
    return Loaded(_judge(draft), draft.sources, file if present else None)


def _data_folder(flags: Mapping[str, str], environ: Mapping[str, str]) -> Path:
    default: Path = HubSettings.model_fields["data_dir"].default
    chosen = flags.get("data_dir") or environ.get("HIMALIA_DATA_DIR") or default
    return Path(chosen).expanduser().absolute()


def _is_there(draft: _Draft, file: Path) -> bool:
    # A folder of that name, or a link that leads nowhere, is there, and is told as what cannot be read.
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        draft.problems.append(
            f"{file} cannot be looked for: {error.strerror}; be the owner of {file.parent}, or choose another --data"
        )
        return False
    return True


def _read_file(draft: _Draft, file: Path) -> None:
    source = f"file {file}"
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        draft.problems.append(f"{file} cannot be read: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        draft.problems.append(f"{file} is not valid TOML: {error}")
        return
    for path, value in _flatten(document, HubSettings):
        kind = find_field(path)
        if kind is not None and _is_path(kind.annotation) and isinstance(value, str):
            # A path in a file means the same wherever the command is run from.
            value = str(file.absolute().parent / Path(value).expanduser())  # noqa: PLW2901
        draft.put(path, value, source)


def _flatten(
    table: Mapping[str, Any], model: type[BaseModel], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        path = (*above, name)
        info = model.model_fields.get(name)
        section = section_of(info) if info else None
        if isinstance(value, dict) and section is not None:
            yield from _flatten(value, section, path)
        elif isinstance(value, dict) and value and (info is None or _origin(info.annotation) is dict):
            yield from (((*path, inner), leaf) for inner, leaf in value.items())
        else:
            yield path, value


def _read_environment(draft: _Draft, environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name in NOT_SETTINGS:
            continue
        parts = name.removeprefix(ENV_PREFIX).split("__")
        path: tuple[str, ...] = ()
        for part in parts:
            # Names of environment variables keep their case: spawner.environment.PATH.
            above = find_field(path) if path else None
            keep = above is not None and (above is _LEAF or above.annotation == dict[str, str])
            path = (*path, part if keep else part.lower())
        _put_text(draft, path, environ[name], f"environment {name}")


def _put_text(draft: _Draft, path: tuple[str, ...], text: str, source: str) -> None:
    """A value that came as text: lists and tables as JSON, a list also as words of a command line."""
    info = find_field(path)
    kind = _origin(info.annotation) if info else None
    value: Any = text
    try:
        if kind is dict or (kind is list and text.lstrip().startswith("[")):
            value = json.loads(text or "{}")
        elif kind is list:
            value = shlex.split(text)
        elif info is not None and not text and _may_be_none(info.annotation):
            value = None
    except ValueError as error:
        draft.problem(".".join(path), source, f"not a {'table' if kind is dict else 'list'}: {error}")
        return
    draft.put(path, value, source)


def _judge(draft: _Draft) -> HubSettings:
    _drop_unknown(draft)
    try:
        settings = HubSettings.model_validate(draft.values)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            _add_fault(draft, fault)
        settings = HubSettings()
    if draft.problems:
        raise refusal(draft.problems)
    return settings


def _add_fault(draft: _Draft, fault: ErrorDetails) -> None:
    path, text = fault["loc"], fault["msg"].removeprefix("Value error, ")
    key = ".".join(str(part) for part in path)
    source = _source_of(key, draft.sources) or "default"
    if not path:  # two keys that do not fit: the sentence names them
        draft.problems.append(text)
        return
    if fault["type"] == "extra_forbidden":
        draft.problem(key, source, f"unknown key{_meant_there(path)}")
        return
    info = _field_at(path)
    if fault["type"] == "string_pattern_mismatch" and info is not None:
        text = f"does not fit; {info.description}"
    value = repr(fault["input"])
    shown = f"{value}: " if _may_be_shown(path, fault) and not text.startswith(value) else ""
    draft.problem(key, source, shown + text)


def refusal(problems: Sequence[str]) -> ConfigError:
    """The error that tells these problems, one a line."""
    head = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(f"{head} in the configuration:" + "".join(f"\n  {line}" for line in problems))


def _drop_unknown(draft: _Draft) -> None:
    for key, source in list(draft.sources.items()):
        path = draft.paths[key]
        if find_field(path) is not None:
            continue
        draft.problem(key, source, f"unknown key{_did_you_mean(key)}")
        del draft.sources[key]
        _remove(draft.values, path)


def _remove(table: Any, path: tuple[str, ...]) -> None:
    if len(path) > 1 and isinstance(table.get(path[0]), dict):
        _remove(table[path[0]], path[1:])
        if not table[path[0]]:
            del table[path[0]]
    elif len(path) == 1:
        table.pop(path[0], None)


def _meant_there(path: tuple[int | str, ...]) -> str:
    """The nearest right key of a table in a list or below free names, such as `profiles.0`."""
    info = _field_at(path[:-1])
    keys = [name for model in _tables_in(info) for name in model.model_fields] if info else []
    near = nearest(str(path[-1]), keys, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _field_at(path: tuple[int | str, ...]) -> FieldInfo | None:
    """The field that a path leads to or ends in, through lists of tables and below free names."""
    info: FieldInfo | None = None
    models: list[type[BaseModel]] = [HubSettings]
    for part in path:
        if found := next(
            (each.model_fields[str(part)] for each in models if str(part) in each.model_fields), None
        ):
            info = found
            models = [section] if (section := section_of(found)) else _tables_in(found)
    return info


def _tables_in(info: FieldInfo) -> list[type[BaseModel]]:
    arms = typing.get_args(info.annotation)
    return [arm for arm in arms if isinstance(arm, type) and issubclass(arm, BaseModel)]


def _did_you_mean(key: str) -> str:
    keys = [name for name, _info in all_fields()]
    last = key.rpartition(".")[2]
    near = nearest(key, keys, 1, 0.75)
    near = near or [name for name in keys if name.rpartition(".")[2] == last]
    near = near or nearest(key, keys, 1, 0.6)
    return f"; did you mean {' or '.join(near[:3])}?" if near else ""


# --- what the settings look like ---


def find_field(path: tuple[str, ...]) -> FieldInfo | None:
    """The field at this path, sections included; below a free table every name is right. None: no such."""
    model: type[BaseModel] | None = HubSettings
    info: FieldInfo | None = None
    for depth, part in enumerate(path):
        if model is None:
            return _below_a_value(info, path[depth:])
        info = model.model_fields.get(part)
        if info is None:
            return None
        model = section_of(info)
    return info


_LEAF = FieldInfo(annotation=str)


def _below_a_value(info: FieldInfo | None, rest: tuple[str, ...]) -> FieldInfo | None:
    """A table of texts has one level of names; a plug-in's own table may go deeper."""
    if info is None or _origin(info.annotation) is not dict:
        return None
    return _LEAF if len(rest) == 1 or info.annotation != dict[str, str] else None


def all_fields(model: type[BaseModel] = HubSettings, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key in the order of the settings, sections left out."""
    for name, info in model.model_fields.items():
        section = section_of(info)
        if section is None:
            yield above + name, info
        else:
            yield from all_fields(section, f"{above}{name}.")


def section_of(info: FieldInfo) -> type[BaseModel] | None:
    """The section class when the field is a table of its own."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _may_be_shown(path: tuple[int | str, ...], fault: ErrorDetails) -> bool:
    """Whether the value is no secret: of a key of ours, or a plain one of a table in a list or below a free name."""
    info = find_field(tuple(str(part) for part in path))
    if info is not None:
        return section_of(info) is None and not is_secret(".".join(map(str, path)))
    info = _field_at(path)
    plain = isinstance(fault["input"], (str, int, float)) and _field_at(path[:-1]) is not info
    return (
        plain and info is not None and SecretStr not in (info.annotation, *typing.get_args(info.annotation))
    )


def is_secret(key: str) -> bool:
    """Whether a value must not be shown: it is typed as a secret, or has a telling name in a free table."""
    path = tuple(key.split("."))
    info = find_field(path)
    if info is None or info is _LEAF:
        return any(word in path[-1].lower() for word in SECRET_WORDS)
    return SecretStr in (info.annotation, *typing.get_args(info.annotation))


def _source_of(key: str, sources: Mapping[str, str]) -> str:
    if found := [source for name, source in sources.items() if name.startswith(key + ".")]:
        return " and ".join(dict.fromkeys(found))
    while key and key not in sources:
        key = key.rpartition(".")[0]
    return sources.get(key, "")


def _origin(kind: Any) -> Any:
    if _may_be_none(kind):
        kind = next(arm for arm in typing.get_args(kind) if arm is not types.NoneType)
    return typing.get_origin(kind) or kind


def _may_be_none(kind: Any) -> bool:
    return types.NoneType in typing.get_args(kind)


def _is_path(kind: Any) -> bool:
    return _origin(kind) is Path
