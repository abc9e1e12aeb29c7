"""Spawners by name: loaded from entry points, checked, made. Failures name the distribution at fault."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from himalia_spawner.base import Spawner
from himalia_spawner.errors import SpawnRefused

GROUP = "himalia.spawners"


class SpawnerUnusable(SpawnRefused):
    """A spawner plug-in can't be used: not installed, broken, not a spawner, or wrongly configured."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A spawner class that was found and checked, not yet made."""

    name: str
    distribution: str
    factory: Callable[..., Spawner]
    settings: type[BaseModel]

    def validate(self, section: Mapping[str, Any]) -> BaseModel:
        """Its settings; SpawnerUnusable lists every key that is wrong."""
        try:
            return self.settings.model_validate(dict(section))
        except ValidationError as error:
            where = f"spawner.{self.name}"
            faults = "; ".join(self._sentence(where, each["loc"], each["msg"]) for each in error.errors())
            raise SpawnerUnusable(f"settings of the {self.name!r} spawner: {faults}") from None

    def _sentence(self, where: str, path: tuple[int | str, ...], message: str) -> str:
        key = ".".join([where, *map(str, path)])
        if path and path[0] not in self.settings.model_fields:
            import difflib  # for errors only

            near = difflib.get_close_matches(str(path[0]), self.settings.model_fields, n=1)
            return f"{key} is unknown" + (f"; did you mean {near[0]!r}?" if near else "")
        return f"{key}: {message.removeprefix('Value error, ')}"


def load_spawner(
    name: str,
    section: Mapping[str, Any],
    *,
    hub_id: str,
    data_dir: Path,
    fault: Callable[[str], None] | None = None,
) -> Spawner:
    """The spawner that configuration names, ready for use; SpawnerUnusable or SpawnRefused say why not.

    `fault` is handed to spawners that take it (the built-in ones do); tests kill the hub by it.
    """
    plugin = find_plugin(name)
    settings = plugin.validate(section)
    extra = {"fault": fault} if fault is not None and _takes(plugin.factory, "fault") else {}
    try:
        return plugin.factory(settings, hub_id=hub_id, data_dir=data_dir, **extra)
    except SpawnRefused:
        raise
    except Exception as error:  # the plug-in boundary
        raise SpawnerUnusable(
            f"spawner {name!r} of {plugin.distribution} could not be made: {error!r}"
        ) from error


def find_plugin(name: str) -> Plugin:
    """The plug-in of that name, imported and checked; no other is imported."""
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        known = sorted({point.name for point in entry_points(group=GROUP)})
        import difflib  # for errors only

        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(known) or 'none'}"
        raise SpawnerUnusable(f"there is no spawner {name!r}; {hint}")
    if len(owners := sorted({_distribution(point) for point in found})) > 1:
        raise SpawnerUnusable(f"spawner {name!r} comes from {' and '.join(owners)}; uninstall one")
    return _checked(found[0])


def _checked(point: EntryPoint) -> Plugin:
    owner = _distribution(point)
    try:
        factory = point.load()
    except Exception as error:  # the plug-in boundary: its import may do anything
        raise SpawnerUnusable(f"spawner {point.name!r} of {owner} can't be imported: {error!r}") from error
    settings = getattr(factory, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise SpawnerUnusable(
            f"spawner {point.name!r} of {owner} has no `Settings`, a pydantic model of its configuration"
        )
    if faults := protocol_faults(factory):
        raise SpawnerUnusable(f"spawner {point.name!r} of {owner} is no Spawner: {'; '.join(faults)}")
    return Plugin(point.name, owner, cast("Callable[..., Spawner]", factory), settings)


def protocol_faults(candidate: Any) -> list[str]:
    """How a class falls short of the Spawner Protocol, as sentences; none if it fits."""
    if not inspect.isclass(candidate):
        return [f"{candidate!r} is no class"]
    faults = []
    for name, law in inspect.getmembers(Spawner, inspect.isfunction):
        if name.startswith("_"):
            continue
        method = getattr(candidate, name, None)
        if not callable(method):
            faults.append(f"it has no method {name}()")
            continue
        if inspect.iscoroutinefunction(law) and not inspect.iscoroutinefunction(method):
            faults.append(f"{name}() must be `async def`")
        if missing := [each for each in inspect.signature(law).parameters if not _takes(method, each)]:
            faults.append(f"{name}() does not take {', '.join(missing)}")
    return faults


def _takes(function: Callable[..., Any], parameter: str) -> bool:
    return parameter in inspect.signature(function).parameters


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else f"an unknown distribution ({point.value})"
