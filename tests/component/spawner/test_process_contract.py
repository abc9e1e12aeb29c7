from __future__ import annotations

import pytest

from himalia_spawner.contract import SpawnerContract


class TestForked(SpawnerContract):
    """The published suite on children of the nest."""

    @pytest.fixture
    def rig(self, warm):
        return warm


class TestCommandsOfTheNest(SpawnerContract):
    """The published suite on programs that children of the nest execute."""

    @pytest.fixture
    def rig(self, warm):
        warm.spec = super(type(warm), warm).spec
        return warm


class TestExecuted(SpawnerContract):
    """The published suite on fresh interpreters; the fixture `rig` is in conftest.py."""
