"""The data folder and its database belong to one hub at a time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from himalia_hub import folder
from himalia_hub.errors import ConfigError
from himalia_hub.folder import Running, alone_on_sqlite, only_one, until_lost, where_it_runs


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


def test_where_a_hub_runs_is_told_as_long_as_it_does(tmp_path: Path) -> None:
    here = Running("http://127.0.0.1:1/hub/", "http://127.0.0.1:2/hub/", "http://127.0.0.1:3")
    assert where_it_runs(tmp_path / "none") is None
    with only_one(tmp_path) as tell:
        assert where_it_runs(tmp_path) is None
        tell(here)
        assert where_it_runs(tmp_path) == here
    assert where_it_runs(tmp_path) is None


def replace(data: Path) -> None:
    data.rename(data.with_name("old"))
    data.mkdir()
    (data / "hub.lock").touch()


@pytest.mark.parametrize(
    ("what", "lost"),
    [
        (shutil.rmtree, "hub.lock"),
        (replace, "hub.lock"),
        (lambda data: (data / "rows.sqlite").unlink(), "rows.sqlite"),
    ],
)
async def test_a_hub_whose_files_are_deleted_or_replaced_learns_which_and_nothing_else_disturbs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Callable[[Path], object], lost: str
) -> None:
    monkeypatch.setattr(folder, "LOOK_S", 0.01)
    data, rows = tmp_path / "data", tmp_path / "data" / "rows.sqlite"
    data.mkdir()
    rows.touch()
    with only_one(data) as tell:
        until = asyncio.create_task(until_lost(data, f"sqlite:///{rows}"))
        tell(Running("", "", ""))
        rows.write_text("more")
        done, _ = await asyncio.wait([until], timeout=0.2)
        assert done == set()
        what(data)
        assert (await asyncio.wait_for(until, 5)).name == lost
