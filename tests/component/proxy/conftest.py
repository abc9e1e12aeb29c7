"""A running proxy for tests that need no special options."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.proxy import chp
from component.proxy.parts import OURS, RunningProxy, running


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """Ours."""
    async with running(tmp_path) as started:
        yield started


@pytest.fixture(params=["ours", "official"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """Ours and the official one in turn, for what must be equal."""
    command = OURS if request.param == "ours" else chp.command()
    async with running(tmp_path, command=command) as started:
        yield started
