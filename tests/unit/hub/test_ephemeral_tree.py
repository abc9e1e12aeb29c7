"""Taking files out of a session's folder: all of its work, nothing that lies elsewhere, never more than allowed."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from himalia_hub.ephemeral.tree import TooLarge, entries, measure, packed, zipped

MOST = 1_000_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of the hub")
    made = tmp_path / "home"
    (made / "data").mkdir(parents=True)
    (made / "index.ipynb").write_text("{}")
    (made / "data" / "run.sh").write_text("#!/bin/sh\n")
    (made / "data" / "run.sh").chmod(0o755)
    return made


def unpacked(home: Path, most: int = MOST) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(zipped(home, owner=os.getuid(), most=most, inside="notes"))))


def test_an_archive_holds_every_file_below_one_folder(home: Path) -> None:
    with unpacked(home) as archive:
        assert sorted(archive.namelist()) == ["notes/data/", "notes/data/run.sh", "notes/index.ipynb"]
        assert archive.read("notes/data/run.sh") == b"#!/bin/sh\n"
        assert archive.getinfo("notes/data/run.sh").external_attr >> 16 == 0o755
        assert archive.testzip() is None


def test_what_leads_elsewhere_is_never_followed(home: Path) -> None:
    (home / "file").symlink_to("../secret")
    (home / "folder").symlink_to("..")
    os.mkfifo(home / "pipe")
    found = {entry.path: entry for entry in entries(home, owner=os.getuid())}
    assert set(found) == {"data", "data/run.sh", "file", "folder", "index.ipynb"}
    assert found["file"].link == "../secret"
    with unpacked(home) as archive:
        assert sorted(archive.namelist()) == ["notes/data/", "notes/data/run.sh", "notes/index.ipynb"]


def test_what_belongs_to_another_account_is_left_out(home: Path) -> None:
    assert list(entries(home, owner=os.getuid() + 1)) == []


def test_what_programs_keep_for_themselves_in_a_home_is_no_work(home: Path) -> None:
    for name in (".cache", ".ipython", "data/.cache"):
        (home / name).mkdir()
    assert {entry.path for entry in entries(home, owner=None)} == {
        "data", "data/.cache", "data/run.sh", "index.ipynb",
    }  # fmt: skip


def test_there_is_a_bound_before_and_while_it_is_read(home: Path) -> None:
    (home / "big").write_bytes(b"0" * 2000)
    assert measure(home, owner=None, most=MOST) == 2000 + len("{}") + len("#!/bin/sh\n")
    with pytest.raises(TooLarge):
        measure(home, owner=None, most=1500)
    with pytest.raises(TooLarge):
        list(zipped(home, owner=None, most=1500, inside="x"))


def test_a_tar_archive_keeps_links_and_ends_with_what_was_asked(home: Path) -> None:
    (home / "file").symlink_to("data/run.sh")
    sink = io.BytesIO()
    packed(home, sink, owner=None, most=MOST, end="the end")
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        assert archive.getnames() == ["data", "data/run.sh", "file", "index.ipynb", "the end"]
        assert archive.getmember("file").linkname == "data/run.sh"
    with pytest.raises(TooLarge):
        packed(home, io.BytesIO(), owner=None, most=5, end="the end")


def test_a_name_that_is_no_utf8_does_not_stop_the_rest(home: Path) -> None:
    (home / os.fsdecode(b"caf\xe9.txt")).write_text("1")
    with unpacked(home) as archive:
        assert "notes/caf\ufffd.txt" in archive.namelist()
