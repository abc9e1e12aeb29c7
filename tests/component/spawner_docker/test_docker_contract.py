"""The Docker spawner does what every spawner must, on a real engine."""

from __future__ import annotations

import pytest

from himalia_spawner.contract import SpawnerContract

pytestmark = pytest.mark.timeout(120)


class TestDockerByPort(SpawnerContract):
    patience_s = 30.0
