"""Files put into a home: whole or not at all, once, and never outside of their folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from himalia_spawner.base import end_of
from himalia_spawner.receive import Cut, forget, take

KEY = "k1"


def archive(*, whole: bool = True, **links: str) -> io.BytesIO:
    """One file in a folder, these symbolic links, and the last member when it is `whole`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w|") as tar:
        folder = tarfile.TarInfo("data")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        file = tarfile.TarInfo("data/a.txt")
        file.size = 1
        tar.addfile(file, io.BytesIO(b"1"))
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        if whole:
            tar.addfile(tarfile.TarInfo(end_of(KEY)))
    made.seek(0)
    return made


def names(home: Path) -> list[str]:
    return sorted(entry.name for entry in home.iterdir())


def test_they_go_into_a_new_folder_beside_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "notes-2").symlink_to("nowhere")
    assert take(tmp_path, KEY, "notes", archive()) == "notes-3"
    assert (tmp_path / "notes-3" / "data" / "a.txt").read_text() == "1"
    assert (tmp_path / "notes").read_text() == "mine"
    forget(tmp_path, KEY)
    forget(tmp_path, KEY)
    assert names(tmp_path) == ["notes", "notes-2", "notes-3"]


def test_twice_is_once_until_it_is_forgotten(tmp_path: Path) -> None:
    assert take(tmp_path, KEY, "notes", archive()) == "notes"
    assert take(tmp_path, KEY, "notes", io.BytesIO()) == "notes"
    forget(tmp_path, KEY)
    assert names(tmp_path) == ["notes"]


def test_killed_before_the_rename_it_goes_on_from_there(tmp_path: Path) -> None:
    take(tmp_path, KEY, "notes", archive())
    (tmp_path / "notes").rename(tmp_path / f".himalia-{KEY}")
    (tmp_path / "notes").mkdir()
    assert take(tmp_path, KEY, "notes", io.BytesIO()) == "notes-2"
    assert (tmp_path / "notes-2" / "data" / "a.txt").exists()


def test_an_archive_that_was_cut_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        take(tmp_path, KEY, "notes", archive(whole=False))
    with pytest.raises((Cut, tarfile.TarError)):
        take(tmp_path, KEY, "notes", io.BytesIO(archive().getvalue()[:700]))
    assert names(tmp_path) == []


def test_a_half_of_an_earlier_try_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / f".himalia-{KEY}").mkdir()
    (tmp_path / f".himalia-{KEY}" / "half").touch()
    take(tmp_path, KEY, "notes", archive())
    assert names(tmp_path / "notes") == ["data"]


def test_a_link_that_leads_out_is_left_out_and_one_that_does_not_is_kept(tmp_path: Path) -> None:
    take(tmp_path, KEY, "notes", archive(inside="data/a.txt", out="../../etc/passwd", far="/etc/passwd"))
    assert names(tmp_path / "notes") == ["data", "inside"]
