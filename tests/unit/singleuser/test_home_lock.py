"""A home that several machines share has one server at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from himalia_singleuser import home_lock
from himalia_singleuser.environ import SettingsError


def test_the_second_server_of_a_home_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "ada"
    first = home_lock.take(path, "n1")
    assert first is not None
    try:
        with pytest.raises(SettingsError, match=r"n1 since .*cut off"):
            home_lock.take(path, "n2", wait_s=0.05)
    finally:
        os.close(first)


def test_the_lock_goes_with_its_holder_and_the_next_one_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "ada"
    first = home_lock.take(path, "n1, and a longer word than the next")
    assert first is not None
    os.close(first)
    second = home_lock.take(path, "n2")
    assert second is not None
    assert path.read_text().startswith("n2 since ")
    assert path.read_text().endswith(" UTC")
    os.close(second)


def test_a_home_that_is_not_the_servers_own_is_said_with_its_path(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError, match="must belong to this server's user"):
        home_lock.take(blocked / "ada", "n1")
