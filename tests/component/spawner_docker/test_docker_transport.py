"""A connection to an engine that is away leaves nothing open."""

from __future__ import annotations

import gc
import socket
import warnings
from pathlib import Path

import pytest

from himalia_spawner.containers.engine import connect
from himalia_spawner.errors import BackendGone


@pytest.mark.parametrize("left", [True, False], ids=["its socket is left", "no socket"])
def test_an_engine_that_is_away_costs_no_open_socket(tmp_path: Path, left: bool) -> None:
    path = tmp_path / "docker.sock"
    if left:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(BackendGone, match="does not answer"):
            connect(f"unix://{path}", 5)
        gc.collect()
    assert [str(one.message) for one in seen] == []
