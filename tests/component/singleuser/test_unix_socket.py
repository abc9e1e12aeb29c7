"""The unix socket that a server makes itself: as open as it was told, and never wider."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from himalia_singleuser.serve import listen
from himalia_singleuser.settings import parse


@pytest.mark.parametrize(("told", "mode"), [({}, 0o700), ({"HIMALIA_SOCKET_MODE": "666"}, 0o666)])
def test_a_socket_has_the_mode_that_was_asked_for(tmp_path: Path, told: dict[str, str], mode: int) -> None:
    path = tmp_path / "sock"
    listener = listen(parse(["--root", str(tmp_path), "--socket", str(path)], told))
    try:
        assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        listener.close()
