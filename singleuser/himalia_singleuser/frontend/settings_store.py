"""JupyterLab's settings: schemas of the wheel and extensions, the admin's defaults, the person's changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from himalia_singleuser.answers import timestamp
from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import BadRequest, NotFound
from himalia_singleuser.frontend.places import Lab, loads_json5, read_json, read_json5
from himalia_singleuser.status import merge

SUFFIX = ".jupyterlab-settings"

OUR_DEFAULTS: dict[str, dict[str, Any]] = {
    # No question about news on the first page: nobody on the internet is asked, whatever the answer.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def ids(lab: Lab) -> list[dict[str, str]]:
    """All plugin ids, descending."""
    return [{"id": plugin} for plugin in sorted(_schema_files(lab), reverse=True)]


def everything(lab: Lab) -> list[dict[str, Any]]:
    """All entries, descending by id."""
    overrides, files = _overrides(lab), _schema_files(lab)
    return [_entry(lab, plugin, files[plugin], overrides) for plugin in sorted(files, reverse=True)]


def one(lab: Lab, plugin: str) -> dict[str, Any]:
    """One entry; NotFound for an id without a colon or without a schema."""
    return _entry(lab, plugin, _schema_file(lab, plugin), _overrides(lab))


def save(lab: Lab, plugin: str, raw: object) -> None:
    """The person's changes, as the JSON5 text they typed; BadRequest when it breaks the schema."""
    schema = _schema(_schema_file(lab, plugin), plugin, _overrides(lab))
    if not isinstance(raw, str):
        raise BadRequest("The settings must be given as {'raw': '<JSON5 text>'}")
    try:
        value = loads_json5(raw or "{}")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The settings are not valid JSON5: {error}") from None
    try:
        data = raw.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"The settings hold {raw[error.start]!r}, half a character: no file can keep it"
        ) from None
    if problem := _violation(value, schema):
        raise BadRequest(f"Failed validating settings ({plugin}): {problem}")
    file = _user_file(lab, plugin)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.explain(error, file.name) from None
    atomic.write(file, data)


def _violation(value: Any, schema: dict[str, Any]) -> str | None:
    """Imported here: it is needed when somebody changes a setting, and costs what a bare server weighs."""
    from jsonschema import Draft7Validator

    error = next(iter(Draft7Validator(schema).iter_errors(value)), None)
    return None if error is None else str(error.message)


def _schema_files(lab: Lab) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in lab.extension_folders:
        for schemas in (*folder.glob("[!@]*/schemas"), *folder.glob("@*/*/schemas")):
            for plugin, file in _below(schemas):
                found.setdefault(plugin, file)
    for plugin, file in _below(lab.schemas):
        found.setdefault(plugin, file)
    return found


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*.json")):
        yield f"{file.parent.relative_to(folder).as_posix()}:{file.stem}", file


def _schema_file(lab: Lab, plugin: str) -> Path:
    package, colon, name = plugin.partition(":")
    parts = package.split("/")
    if not colon or "/" in name or ".." in parts or "\0" in plugin or package.startswith("/") or not name:
        raise NotFound(f"Settings not found ({plugin})")
    for folder in lab.extension_folders:
        file = folder / package / "schemas" / package / f"{name}.json"
        if file.is_file():
            return file
    file = lab.schemas / package / f"{name}.json"
    if not file.is_file():
        raise NotFound(f"Schema not found: {plugin}")
    return file


def _user_file(lab: Lab, plugin: str) -> Path:
    package, _, name = plugin.partition(":")
    return lab.user_settings / package / f"{name}{SUFFIX}"


def _entry(lab: Lab, plugin: str, schema_file: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    version = read_json(schema_file.with_name("package.json.orig")).get("version", "N/A")
    entry: dict[str, Any] = {
        "id": plugin,
        "schema": _schema(schema_file, plugin, overrides),
        "version": version,
        "raw": "{}",
        "settings": {},
        "last_modified": None,
        "created": None,
    }
    file = _user_file(lab, plugin)
    try:
        raw, status = file.read_text("utf-8"), file.stat()
    except (OSError, ValueError):
        return entry
    entry["last_modified"], entry["created"] = timestamp(status.st_mtime), timestamp(status.st_ctime)
    try:
        value = loads_json5(raw or "{}")
    except (ValueError, RecursionError) as error:
        # The person edited the file by hand: the page must open all the same, with the defaults.
        return entry | {"warning": f"Failed loading settings ({plugin}): {error}"}
    if isinstance(value, dict):
        entry["raw"], entry["settings"] = raw or "{}", value
    return entry


def _schema(file: Path, plugin: str, overrides: dict[str, Any]) -> dict[str, Any]:
    schema = read_json(file)
    changed = overrides.get(plugin)
    if not changed:
        return schema
    properties = schema.setdefault("properties", {})
    for key, value in changed.items():
        default = properties.get(key, {}).get("default")
        if isinstance(default, dict) and isinstance(value, dict):
            merge(default, value)
        else:
            properties.setdefault(key, {})["default"] = value
    return schema


def _overrides(lab: Lab) -> dict[str, Any]:
    """The admin's defaults: the wheel's settings folder first, labconfig last."""
    folder = lab.folder / "settings"
    files = [
        *sorted((folder / "overrides.d").glob("*.json")),
        *sorted((folder / "overrides.d").glob("*.json5")),
    ]
    files += [folder / "overrides.json", folder / "overrides.json5"]
    result: dict[str, Any] = {}
    merge(result, OUR_DEFAULTS)
    for file in (*files, *lab.config_files("default_setting_overrides")):
        merge(result, read_json5(file))
    return {plugin: values for plugin, values in result.items() if isinstance(values, dict)}
