"""Ways to sign in by kind: loaded from entry points, checked, made. Failures name the distribution at fault."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from himalia_hub.auth.base import Context, PasswordWay, RedirectWay, Traits, Way
from himalia_hub.errors import ConfigError
from himalia_hub.meant import nearest

GROUP = "himalia.authenticators"
OURS = {
    "dummy": "himalia_hub.auth.shared:Dummy",
    "ldap": "himalia_hub.auth.ldap:Ldap",
    "local": "himalia_hub.auth.local:LocalAccounts",
    "oidc": "himalia_hub.auth.oidc:Oidc",
    "pam": "himalia_hub.auth.pam:Pam",
    "shared-password": "himalia_hub.auth.shared:SharedPassword",
}
"""The hub's own kinds. They go through the same door as entry points, but need no installed metadata: nobody may
be locked out of a hub whose code is newer than its last `pip install --editable`."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A way's class that was found and checked, not yet made."""

    kind: str
    distribution: str
    factory: Callable[..., Way]
    settings: type[BaseModel]

    def validate(self, name: str, section: Mapping[str, Any]) -> BaseModel:
        """Its settings; ConfigError lists every key that is wrong, and shows no value: some are secrets."""
        try:
            return self.settings.model_validate(dict(section))
        except ValidationError as error:
            faults = "; ".join(
                self._sentence(f"auth.methods.{name}", each["loc"], each["msg"])
                for each in error.errors(include_input=False, include_url=False)
            )
            raise ConfigError(f"settings of the way to sign in {name!r}: {faults}") from None

    def _sentence(self, where: str, path: tuple[int | str, ...], message: str) -> str:
        key = ".".join([where, *map(str, path)])
        if message == "Extra inputs are not permitted":
            near = nearest(str(path[-1]), self.settings.model_fields, n=1)
            return f"{key} is unknown" + (f"; did you mean {near[0]!r}?" if near else "")
        return f"{key}: {message.removeprefix('Value error, ')}"

    def make(self, settings: BaseModel, context: Context) -> Way:
        """The way, ready for use. ConfigError when the plug-in refuses or breaks."""
        try:
            return self.factory(settings, context)
        except ConfigError:
            raise
        except Exception as error:  # the plug-in boundary
            raise ConfigError(
                f"the way to sign in {context.name!r} of {self.distribution} could not be made: {error!r}"
            ) from error


def find_plugin(kind: str) -> Plugin:
    """The plug-in of that kind, imported and checked; no other is imported."""
    if kind in OURS:
        return _checked(EntryPoint(kind, OURS[kind], GROUP))
    found = list(entry_points(group=GROUP, name=kind))
    if not found:
        known = sorted(OURS.keys() | {point.name for point in entry_points(group=GROUP)})
        near = nearest(kind, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(known) or 'none'}"
        raise ConfigError(f"there is no way to sign in of the kind {kind!r}; {hint}")
    if len(owners := sorted({_distribution(point) for point in found})) > 1:
        raise ConfigError(
            f"the way to sign in {kind!r} comes from {' and '.join(owners)}; uninstall one of them"
        )
    return _checked(found[0])


def _checked(point: EntryPoint) -> Plugin:
    owner = _distribution(point)
    try:
        factory = point.load()
    except ImportError as error:
        extra = f'; pip install "himalia[{point.name}]"' if point.name in OURS else ""
        raise ConfigError(
            f"the way to sign in {point.name!r} of {owner} can't be imported: {error}{extra}"
        ) from error
    except Exception as error:  # the plug-in boundary: its import may do anything
        raise ConfigError(
            f"the way to sign in {point.name!r} of {owner} can't be imported: {error!r}"
        ) from error
    if faults := way_faults(factory):
        raise ConfigError(f"{point.name!r} of {owner} is no way to sign in: {'; '.join(faults)}")
    return Plugin(point.name, owner, cast("Callable[..., Way]", factory), factory.Settings)


def way_faults(candidate: Any) -> list[str]:
    """How a class falls short of both Protocols, as sentences; none if it fits one."""
    if not inspect.isclass(candidate):
        return [f"{candidate!r} is no class"]
    law = PasswordWay if callable(getattr(candidate, "check", None)) else RedirectWay
    faults = []
    settings = getattr(candidate, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        faults.append("it has no `Settings`, a pydantic model of its configuration")
    if not isinstance(getattr(candidate, "traits", None), Traits):
        faults.append("it has no `traits`, a himalia_hub.auth.base.Traits")
    for name, method in inspect.getmembers(law, inspect.isfunction):
        if name.startswith("_"):
            continue
        own = getattr(candidate, name, None)
        if not inspect.iscoroutinefunction(own):
            faults.append(f"it has no `async def {name}()`")
            continue
        takes = inspect.signature(own).parameters
        if missing := [each for each in inspect.signature(method).parameters if each not in takes]:
            faults.append(f"{name}() does not take {', '.join(missing)}")
    return faults


def _distribution(point: EntryPoint) -> str:
    if OURS.get(point.name) == point.value:
        return "himalia"
    return point.dist.name if point.dist is not None else f"an unknown distribution ({point.value})"
