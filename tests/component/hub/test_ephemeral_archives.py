"""Archives from real servers on loopback: their files come, and nothing that they say of themselves is believed."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from himalia_hub.ephemeral import sources
from himalia_hub.ephemeral.archives import Archives
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.gists import Gists
from himalia_hub.ephemeral.git import Bounds, GitError, NoSuchRef
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.sources import Source
from shelf import Shelf, serving, zipped

HERE = ["127.0.0.0/8"]
BOUNDS = Bounds(30, 5_000_000, 20)


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as packed:
        for info, data in members:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def member(name: str, data: bytes = b"", **values: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info, data


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    async with serving() as server:
        yield server


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    folders = Folders(tmp_path / "ephemeral")
    folders.make()
    return Archives(folders, HERE, BOUNDS)


async def _brought(archives: Archives, url: str, provider: str = "archive") -> Path:
    commit = await archives.resolve(url, provider)
    await archives.bring(url, commit, provider)
    return archives.folders.checkout(url, commit)


async def test_a_zip_comes_without_its_single_top_folder_and_is_named_by_its_content(
    shelf: Shelf, archives: Archives
) -> None:
    shelf.files["/a.zip"] = zipped(**{"course-1/index.ipynb": "{}", "course-1/data/t.csv": "1,2"})
    shelf.files["/moved"] = "/a.zip"
    files = await _brought(archives, f"{shelf.url}/moved")
    assert sorted(path.name for path in files.iterdir()) == ["data", "index.ipynb"]
    assert (files / "data" / "t.csv").read_text() == "1,2"

    first, sent = await archives.resolve(f"{shelf.url}/moved"), shelf.sent
    assert files.name.endswith(first)
    assert sent == 1, "what its server calls the same was sent again"

    shelf.files["/a.zip"] = zipped(**{"course-1/index.ipynb": "[]"})
    assert await archives.resolve(f"{shelf.url}/moved") != first
    assert not [path for path in archives.folders.checkouts.iterdir() if path.name.endswith(".new")]


async def test_a_tar_keeps_what_may_be_run_and_leaves_out_links_and_devices(
    shelf: Shelf, archives: Archives
) -> None:
    shelf.files["/a.tar.gz"] = tarred(
        member("run.sh", b"echo", mode=0o4755), member("a.txt", b"1", mode=0o600),
        member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard", type=tarfile.LNKTYPE, linkname="a.txt"), member("pipe", type=tarfile.FIFOTYPE),
    )  # fmt: skip
    files = await _brought(archives, f"{shelf.url}/a.tar.gz")
    assert {path.name: stat.S_IMODE(path.lstat().st_mode) for path in files.iterdir()} == {
        "run.sh": 0o755, "a.txt": 0o644
    }  # fmt: skip


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (lambda: zipped(**{"../out.txt": "x"}), "leads outside of it"),
        (lambda: zipped(**{"/etc/out.txt": "x"}), "leads outside of it"),
        (lambda: tarred(member("a/../../out.txt", b"x")), "leads outside of it"),
        (lambda: zipped(zeros="0" * 6_000_000), "more than 5 MB"),
        (lambda: tarred(member("zeros", b"0" * 6_000_000)), "more than 5 MB"),
        (lambda: zipped(**{f"f{number}": "" for number in range(21)}), "more than 20 files"),
        (lambda: zipped(a="x", **{"a/b": "y"}), "can be unpacked"),
        (lambda: b"no archive at all", "no zip or tar archive"),
        (lambda: zipped(a="x" * 100)[:-40], "no zip or tar archive"),
        (lambda: bytes(5_000_001), "larger than the 5 MB"),
    ],
)
async def test_what_would_not_fit_or_leads_elsewhere_is_refused_and_leaves_nothing(
    shelf: Shelf, archives: Archives, packed: Callable[[], bytes], words: str
) -> None:
    """CVE-2026-55078: what was small packed filled the disk unpacked."""
    shelf.files["/a.zip"] = packed()
    with pytest.raises(GitError, match=words):
        await _brought(archives, f"{shelf.url}/a.zip")
    assert list(archives.folders.checkouts.iterdir()) == []
    assert not (archives.folders.root / "out.txt").exists()


async def test_an_archive_that_has_changed_is_not_opened_under_the_old_name(
    shelf: Shelf, archives: Archives
) -> None:
    url = f"{shelf.url}/a.zip"
    shelf.files["/a.zip"] = zipped(a="1")
    old = await archives.resolve(url)
    shelf.files["/a.zip"] = zipped(a="2")
    await _brought(archives, url)
    with pytest.raises(NoSuchRef, match="not what it was"):
        await archives.bring(url, old)


@pytest.mark.parametrize(
    "there",
    [
        "http://127.1.2.3:9/",
        "http://[::1]:9/",
        "http://localhost:9/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
    ],
)
async def test_no_address_inside_this_network_is_asked_also_not_by_a_redirect(
    shelf: Shelf, archives: Archives, there: str
) -> None:
    shelf.files["/a.zip"] = there
    only_this = Archives(archives.folders, ["127.0.0.1/32"], BOUNDS)
    with pytest.raises(GitError, match=r"inside this hub's network|cannot be fetched|does not answer"):
        await only_this.resolve(f"{shelf.url}/a.zip")
    with pytest.raises(GitError, match="inside this hub's network"):
        await Archives(archives.folders, [], BOUNDS).resolve(f"{shelf.url}/a.zip")


async def test_redirects_in_a_circle_end(shelf: Shelf, archives: Archives) -> None:
    shelf.files["/a.zip"] = "/a.zip"
    with pytest.raises(GitError, match="from address to address"):
        await archives.resolve(f"{shelf.url}/a.zip")


async def test_a_record_gives_its_only_archive(shelf: Shelf, archives: Archives) -> None:
    content = f"{shelf.url}/api/records/7/files/a.zip/content"
    record = {
        "files": [{"key": "a.zip", "links": {"self": content}}, {"key": "README.md", "links": {"self": "x"}}]
    }
    shelf.files["/api/records/5"] = "/api/records/7"  # of all versions: leads to the latest
    shelf.files["/api/records/7"] = json.dumps(record).encode()
    shelf.files["/api/records/7/files/a.zip/content"] = zipped(a="1")
    assert (await _brought(archives, f"{shelf.url}/records/5", "zenodo") / "a").read_text() == "1"
    shelf.files["/api/records/7"] = b'{"files": []}'
    with pytest.raises(GitError, match="holds no files"):
        await archives.resolve(f"{shelf.url}/records/5", "zenodo")


RECORDS = {
    "zenodo": ("/records/5", "/api/records/5",
        {"files": [{"key": name, "links": {"self": f"/f/{name}"}, "checksum": "1"} for name in ("a.ipynb", "b.csv")]}),
    "figshare": ("/v2/articles/5/versions/1", "/v2/articles/5/versions/1",
        {"files": [{"name": "a.ipynb", "download_url": "/f/a.ipynb"}, {"name": "b.csv", "download_url": "/f/b.csv"},
                   {"name": "else", "download_url": "/no", "is_link_only": True}]}),
    "dataverse": ("/dataset.xhtml?persistentId=doi:10.7910/DVN/T", "/api/datasets/:persistentId/",
        {"data": {"latestVersion": {"files": [
            {"label": "a.ipynb", "dataFile": {"id": 1, "md5": "x"}},
            {"label": "b.csv", "directoryLabel": "data", "dataFile": {"id": 2}}]}}}),
    "hydroshare": ("/resource/ab", "/hsapi/resource/ab/files/",
        {"results": [{"url": "/resource/ab/data/contents/a.ipynb"}, {"url": "/resource/ab/data/contents/data/b.csv"}]}),
    "ckan": ("/dataset/notes", "/api/3/action/package_show",
        {"result": {"resources": [{"url": "/f/a.ipynb"}, {"url": "/f/b.csv", "last_modified": None}]}}),
}  # fmt: skip
"""By provider: a record's path, that of its API, and what that says of two files."""


@pytest.mark.parametrize("provider", RECORDS)
async def test_a_records_files_come_together_and_again_only_when_they_have_changed(
    shelf: Shelf, archives: Archives, provider: str
) -> None:
    path, api, document = RECORDS[provider]
    shelf.files[api] = json.dumps(document).encode()
    for place in ("/f/a.ipynb", "/api/access/datafile/1", "/resource/ab/data/contents/a.ipynb"):
        shelf.files[place] = b"{}"
    for place in ("/f/b.csv", "/api/access/datafile/2", "/resource/ab/data/contents/data/b.csv"):
        shelf.files[place] = b"1,2"

    files = await _brought(archives, shelf.url + path, provider)

    texts = {found.name: found.read_text() for found in files.rglob("*") if found.is_file()}
    assert texts == {"a.ipynb": "{}", "b.csv": "1,2"}
    sent, first = shelf.sent, files.name.rpartition("-")[2]
    assert await archives.resolve(shelf.url + path, provider) == first
    assert shelf.sent == sent + 1, "only the record was asked"
    shelf.files[api] = b'{"files": 7}'
    with pytest.raises(GitError, match="holds no files"):
        await archives.resolve(shelf.url + path, provider)


async def test_a_records_files_are_bounded_together_and_stay_inside(shelf: Shelf, archives: Archives) -> None:
    def holds(*names: str) -> None:
        files = [{"key": name, "links": {"self": "/f"}} for name in names]
        shelf.files["/api/records/5"] = json.dumps({"files": files}).encode()

    url = f"{shelf.url}/records/5"
    shelf.files["/f"] = bytes(3_000_000)
    for names, words in (
        (("a", "b"), "larger than the 5 MB"),
        ([f"f{number}" for number in range(21)], "holds 21 files"),
        (("../a",), "leads outside of it"),
    ):
        holds(*names)
        with pytest.raises(GitError, match=words):
            await _brought(archives, url, "zenodo")
    assert list(archives.folders.checkouts.iterdir()) == []


async def test_a_secret_gist_is_refused_in_words_and_a_public_one_is_asked_about_once(
    shelf: Shelf, archives: Archives
) -> None:
    def gist(number: int) -> Source:
        return sources.read("gist", f"ann/{number:020x}/{'c' * 40}", {})

    shelf.files |= {f"/gists/{number:020x}": said for number, said in enumerate(
        (b'{"public": true}', b'{"public": false}', b"[]", b"no JSON")
    )}  # fmt: skip
    gists = Gists(archives.document, EphemeralSection(gist_api=shelf.url + "/"))
    await asyncio.gather(*(gists.check(gist(0)) for _ in range(5)))
    for number, words in ((1, "is secret"), (2, "is secret"), (3, "cannot be fetched"), (4, "no such gist")):
        with pytest.raises(GitError, match=words):
            await gists.check(gist(number))
    assert shelf.sent == 4
    shelf.status = 403
    await gists.check(gist(0))
    with pytest.raises(GitError, match="is secret"):
        await gists.check(gist(1))
    with pytest.raises(GitError, match="cannot be asked just now: its site answered 403"):
        await gists.check(gist(5))
