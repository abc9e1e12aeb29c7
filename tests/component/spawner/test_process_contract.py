from __future__ import annotations

from himalia_spawner.contract import SpawnerContract


class TestProcessSpawner(SpawnerContract):
    """The published suite, on real processes; the fixture `rig` is in conftest.py."""
