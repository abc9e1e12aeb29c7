"""The data folder and its database belong to one hub at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from himalia_hub.errors import ConfigError
from himalia_hub.folder import alone_on_sqlite, only_one


def test_a_folder_serves_one_hub(tmp_path: Path) -> None:
    with (
        only_one(tmp_path),
        pytest.raises(ConfigError, match=r"stop it, or choose another --data"),
        only_one(tmp_path),
    ):
        pass
    with only_one(tmp_path):
        pass


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite+aiosqlite:///{}"])
def test_a_sqlite_database_serves_one_hub_whatever_their_folders(tmp_path: Path, url: str) -> None:
    file = tmp_path / "himalia.sqlite"
    with (
        alone_on_sqlite(f"sqlite:///{file}"),
        pytest.raises(ConfigError, match=rf"'{file}'; SQLite serves one hub"),
        alone_on_sqlite(url.format(file)),
    ):
        pass
    with alone_on_sqlite(url.format(file)):
        pass


@pytest.mark.parametrize("url", ["postgresql://h/d", "sqlite://", "sqlite:////not/there/x.sqlite"])
def test_what_is_no_file_of_ours_to_lock_is_left_to_the_database(url: str) -> None:
    with alone_on_sqlite(url), alone_on_sqlite(url):
        pass
