"""From configuration, a person's groups and their options to what is started. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from himalia_hub.errors import BadRequest
from himalia_hub.groups.names import gives
from himalia_hub.settings import HubSettings, ProfileSection, StartSection
from himalia_spawner.base import Limits
from himalia_spawner.limits import cpu_count, memory_bytes

OPTION = "profile"


@dataclass(frozen=True, slots=True)
class Choice:
    """What one start comes to. `profile` is empty where none are configured."""

    profile: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits)


def offered(settings: HubSettings, groups: Collection[str]) -> list[ProfileSection]:
    """The profiles that a member of these groups may choose, the default one first."""
    mine = [
        profile
        for profile in settings.profiles
        if not profile.groups
        or not set(profile.groups).isdisjoint(groups)
        or any(gives(group, profile.name) for group in groups)
    ]
    return sorted(mine, key=lambda profile: not profile.default)


def checked_options(
    settings: HubSettings, groups: Collection[str], options: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The options as they are kept, or None for "as last time". BadRequest names what cannot be chosen.

    A form sends lists of strings, and so does an address; a list of one is that one. Where no profiles are
    configured nothing reads options, and any are kept, as JupyterHub does.
    """
    if options is None or not settings.profiles:
        return None if options is None else dict(options)
    if unknown := sorted(set(options) - {OPTION}):
        raise BadRequest(f"unknown option {unknown[0][:64]!r}", remedy=f"the only option is {OPTION!r}")
    if OPTION not in options:
        return {}
    value = options[OPTION]
    name = value[0] if isinstance(value, list) and len(value) == 1 else value
    names = [profile.name for profile in offered(settings, groups)]
    if not isinstance(name, str) or name not in names:
        raise BadRequest(
            f"there is no profile {str(name)[:64]!r} for this person",
            remedy=f"choose one of {', '.join(names)}" if names else "ask an administrator for one",
        )
    return {OPTION: name}


def chosen(
    settings: HubSettings, groups: Collection[str], options: Mapping[str, Any]
) -> ProfileSection | None:
    """The profile that kept options stand for: the one they name while it is still offered, else the first."""
    mine = offered(settings, groups)
    named = [profile for profile in mine if profile.name == options.get(OPTION)]
    return next(iter(named or mine), None)


def resolve(
    settings: HubSettings, username: str, groups: Sequence[str], options: Mapping[str, Any]
) -> Choice:
    """What to start: `[spawner]`, then the profile, then overrides of groups (by name), then of the person.

    BadRequest when profiles are configured and none is offered to this person.
    """
    profile = chosen(settings, groups, options)
    if settings.profiles and profile is None:
        raise BadRequest("no profile is offered to this person", remedy="ask an administrator for one")
    layers = _layers(settings, username, groups, profile)
    command = (profile.command if profile else []) or settings.spawner.command
    args = [*settings.spawner.args, *(profile.args if profile else [])]
    return Choice(
        profile=profile.name if profile else "",
        command=tuple(command),
        args=tuple(args),
        image=_image(layers),
        environment={key: value for layer in layers for key, value in layer.environment.items()},
        limits=_limits(layers),
    )


def image_of(
    settings: HubSettings, username: str, groups: Collection[str], options: Mapping[str, Any]
) -> str:
    """The image that a start with these options takes; empty where the spawner's own default is taken, or has none."""
    return _image(_layers(settings, username, groups, chosen(settings, groups, options)))


def _image(layers: Sequence[StartSection]) -> str:
    return next((layer.image for layer in reversed(layers) if layer.image), "")


def _layers(
    settings: HubSettings, username: str, groups: Collection[str], profile: ProfileSection | None
) -> list[StartSection]:
    layers: list[StartSection] = [settings.spawner, *([profile] if profile else [])]
    layers += [settings.spawner.groups[name] for name in sorted(groups) if name in settings.spawner.groups]
    layers += [settings.spawner.users[username]] if username in settings.spawner.users else []
    return layers


def _limits(layers: Sequence[StartSection]) -> Limits:
    def last(key: str) -> Any:
        said = [getattr(layer, key) for layer in layers]
        return next((value for value in reversed(said) if value is not None), None)

    memory, cpus, disk = last("mem_limit"), last("cpu_limit"), last("disk_limit")
    return Limits(
        memory=None if memory is None else memory_bytes(memory),
        cpus=None if cpus is None else cpu_count(cpus),
        pids=last("pids_limit"),
        disk=None if disk is None else memory_bytes(disk),
    )
