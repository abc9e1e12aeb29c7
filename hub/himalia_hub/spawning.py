"""The spawner that the configuration names."""

from __future__ import annotations

from himalia_hub.errors import ConfigError
from himalia_hub.faults import fault
from himalia_hub.secrets import Secrets
from himalia_hub.settings import HubSettings
from himalia_spawner.base import Spawner
from himalia_spawner.errors import SpawnError
from himalia_spawner.registry import load_spawner


def make_spawner(settings: HubSettings, secret: Secrets) -> Spawner:
    """The configured spawner. ConfigError names what is wrong with its settings."""
    section = getattr(settings.spawner, settings.spawner.kind, None) or {}
    try:
        return load_spawner(
            settings.spawner.kind,
            section,
            hub_id=secret.hub_id,
            data_dir=settings.data_dir,
            fault=_spawner_fault,
        )
    except SpawnError as error:
        raise ConfigError(str(error)) from None


def _spawner_fault(point: str) -> None:
    fault(f"spawner.{point}")
