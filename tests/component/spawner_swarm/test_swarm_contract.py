"""The Swarm spawner does what every spawner must, on three real nodes."""

from __future__ import annotations

import pytest

from himalia_spawner.contract import SpawnerContract

pytestmark = pytest.mark.timeout(180)


class TestSwarm(SpawnerContract):
    patience_s = 30.0
