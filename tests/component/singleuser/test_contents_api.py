"""`api/contents` and `files/`, asked over a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from typing import Any

import pytest

CODE = {
    "cell_type": "code",
    "execution_count": None,
    "id": "a",
    "metadata": {},
    "outputs": [],
    "source": "1\n2",
}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def text(content: str) -> dict[str, Any]:
    return {"json": {"type": "file", "format": "text", "content": content}}


async def test_a_saved_text_comes_back_with_its_hash(server: Any) -> None:
    status, model, headers = await server.ask("PUT", "api/contents/a%20b.txt", **text("grüße\n"))
    assert (status, model["content"], headers["Location"]) == (201, None, "/api/contents/a%20b.txt")

    status, model, headers = await server.ask("GET", "api/contents/a%20b.txt?hash=1&1795463101267")

    assert (status, model["content"], model["format"], model["type"]) == (200, "grüße\n", "text", "file")
    assert model["hash"] == hashlib.sha256("grüße\n".encode()).hexdigest()
    assert model["mimetype"] == "text/plain"
    assert "Last-Modified" in headers
    assert (await server.ask("PUT", "api/contents/a%20b.txt", **text("x")))[0] == 200


async def test_binary_content_travels_as_base64(server: Any) -> None:
    data = bytes(range(256))
    (server.root / "x.bin").write_bytes(data)

    status, model, _ = await server.ask("GET", "api/contents/x.bin")
    refused = await server.ask("GET", "api/contents/x.bin?format=text")

    assert (status, model["format"], base64.b64decode(model["content"])) == (200, "base64", data)
    assert (refused[0], refused[1]["reason"]) == (400, "bad format")


async def test_a_notebook_is_written_as_nbformat_writes_it(server: Any) -> None:
    body = {"type": "notebook", "format": "json", "content": notebook(CODE)}
    status, model, _ = await server.ask("PUT", "api/contents/n.ipynb", json=body)
    assert (status, "message" in model) == (201, False)

    import nbformat

    raw = (server.root / "n.ipynb").read_text()
    again = nbformat.reads(raw, as_version=4)
    assert nbformat.writes(again) + "\n" == raw
    _, model, _ = await server.ask("GET", "api/contents/n.ipynb")
    assert model["content"]["cells"][0]["source"] == "1\n2"
    assert (server.root / ".ipynb_checkpoints/n-checkpoint.ipynb").exists()


async def test_rich_outputs_stay_trusted_only_for_who_signed_them(server: Any) -> None:
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>1</script>"}}
    own = CODE | {"outputs": [output], "metadata": {"trusted": True}}
    body = {"type": "notebook", "format": "json", "content": notebook(own)}
    await server.ask("PUT", "api/contents/own.ipynb", json=body)
    foreign = json.loads((server.root / "own.ipynb").read_text())
    foreign["cells"][0]["source"] = ["other"]
    (server.root / "foreign.ipynb").write_text(json.dumps(foreign))

    async def is_trusted(path: str) -> bool:
        return (await server.ask("GET", f"api/contents/{path}"))[1]["content"]["cells"][0]["metadata"][
            "trusted"
        ]

    assert await is_trusted("own.ipynb")
    assert not await is_trusted("foreign.ipynb")
    assert (await server.ask("POST", "api/contents/foreign.ipynb/trust"))[0] == 201
    assert await is_trusted("foreign.ipynb")
    assert "trusted" not in (server.root / "own.ipynb").read_text()


async def test_an_old_notebook_is_upgraded_on_reading(server: Any) -> None:
    old = {
        "metadata": {"name": "x"},
        "nbformat": 3,
        "nbformat_minor": 0,
        "worksheets": [
            {
                "metadata": {},
                "cells": [
                    {
                        "cell_type": "code",
                        "collapsed": False,
                        "input": ["1\n", "2"],
                        "language": "python",
                        "metadata": {},
                        "outputs": [],
                    }
                ],
            }
        ],
    }
    (server.root / "old.ipynb").write_text(json.dumps(old))

    status, model, _ = await server.ask("GET", "api/contents/old.ipynb")

    assert (status, model["content"]["nbformat"]) == (200, 4)
    assert model["content"]["cells"][0]["source"] == "1\n2"


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"{}", b'{"nbformat": 4}', b"\xff\xfe", b"[" * 100_000])
async def test_a_notebook_of_garbage_is_refused_with_its_name(server: Any, junk: bytes) -> None:
    (server.root / "junk.ipynb").write_bytes(junk)

    status, body, _ = await server.ask("GET", "api/contents/junk.ipynb")

    assert (status, "Unreadable Notebook: junk.ipynb" in body["message"]) == (400, True)
    assert (await server.ask("GET", "api/contents/junk.ipynb?content=0"))[0] == 200
    assert (await server.ask("GET", "api/contents/junk.ipynb?type=file"))[0] == 200


async def test_a_broken_cell_is_saved_and_said(server: Any) -> None:
    body = {"type": "notebook", "content": notebook(CODE, CODE | {"cell_type": "poem"})}

    status, model, _ = await server.ask("PUT", "api/contents/n.ipynb", json=body)

    assert status == 201
    assert model["message"].startswith("Notebook validation failed: cell 1: cell_type is 'poem'")
    for content in ("text", {}, {"nbformat": 4}, {"nbformat": 4, "cells": [1]}):
        refused = await server.ask(
            "PUT", "api/contents/n.ipynb", json={"type": "notebook", "content": content}
        )
        assert refused[0] == 400


async def test_chunks_are_joined_in_order(server: Any) -> None:
    pieces, statuses = [b"one" * 1000, b"two" * 1000, b"end"], []
    for number, piece in zip((1, 2, -1), pieces, strict=True):
        body = {
            "type": "file",
            "format": "base64",
            "chunk": number,
            "content": base64.b64encode(piece).decode(),
        }
        statuses.append((await server.ask("PUT", "api/contents/big.bin", json=body))[0])

    assert statuses == [201, 200, 200]
    assert (server.root / "big.bin").read_bytes() == b"".join(pieces)
    lost = {"type": "file", "format": "text", "chunk": 2, "content": "x"}
    assert (await server.ask("PUT", "api/contents/lost.bin", json=lost))[0] == 400


async def test_untitled_names_count_up(server: Any) -> None:
    async def made(body: dict[str, Any]) -> str:
        status, model, _ = await server.ask("POST", "api/contents", json=body)
        assert status == 201
        return model["path"]

    assert [await made({"type": "notebook"}) for _ in range(2)] == ["Untitled.ipynb", "Untitled1.ipynb"]
    assert [await made({"type": "file", "ext": ".py"}) for _ in range(2)] == ["untitled.py", "untitled1.py"]
    assert [await made({"type": "directory"}) for _ in range(2)] == ["Untitled Folder", "Untitled Folder 1"]


async def test_copies_get_names_of_their_own(server: Any) -> None:
    (server.root / "d").mkdir()
    (server.root / "b.tar.gz").write_text("x")

    async def copy(source: str, folder: str) -> str:
        _, model, _ = await server.ask("POST", f"api/contents/{folder}", json={"copy_from": source})
        return model["path"]

    assert await copy("b.tar.gz", "") == "b-Copy1.tar.gz"
    assert await copy("b-Copy1.tar.gz", "") == "b-Copy2.tar.gz"
    assert await copy("b.tar.gz", "d") == "d/b.tar.gz"
    assert (await server.ask("POST", "api/contents", json={"copy_from": "none"}))[0] == 404
    assert (await server.ask("POST", "api/contents/b.tar.gz", json={}))[0] == 400


async def test_a_rename_never_overwrites_and_takes_the_checkpoint_along(server: Any) -> None:
    for name in ("a.txt", "b.txt"):
        await server.ask("PUT", f"api/contents/{name}", **text(name))
    await server.ask("POST", "api/contents/a.txt/checkpoints")

    taken = await server.ask("PATCH", "api/contents/a.txt", json={"path": "b.txt"})
    moved = await server.ask("PATCH", "api/contents/a.txt", json={"path": "c.txt"})

    assert (taken[0], taken[1]["message"]) == (409, "File already exists: b.txt")
    assert (moved[0], moved[1]["path"]) == (200, "c.txt")
    assert [c["id"] for c in (await server.ask("GET", "api/contents/c.txt/checkpoints"))[1]] == ["checkpoint"]
    assert (await server.ask("PATCH", "api/contents/none", json={"path": "x"}))[0] == 404
    assert (await server.ask("PATCH", "api/contents/c.txt", json={"path": "no/x"}))[0] == 404
    assert (await server.ask("PATCH", "api/contents/c.txt"))[0] == 400


async def test_a_checkpoint_brings_the_old_content_back(server: Any) -> None:
    await server.ask("PUT", "api/contents/a.txt", **text("old"))
    status, made, headers = await server.ask("POST", "api/contents/a.txt/checkpoints")
    await server.ask("PUT", "api/contents/a.txt", **text("new"))

    restored = await server.ask("POST", "api/contents/a.txt/checkpoints/checkpoint")

    assert (status, made["id"], restored[0]) == (201, "checkpoint", 204)
    assert headers["Location"] == "/api/contents/a.txt/checkpoints/checkpoint"
    assert (server.root / "a.txt").read_text() == "old"
    assert (await server.ask("POST", "api/contents/a.txt/checkpoints/other"))[0] == 404
    assert (await server.ask("DELETE", "api/contents/a.txt/checkpoints/checkpoint"))[0] == 204
    assert (await server.ask("DELETE", "api/contents/a.txt/checkpoints/checkpoint"))[0] == 404
    assert (await server.ask("POST", "api/contents/none/checkpoints"))[0] == 404


async def test_a_full_folder_is_not_deleted_without_a_trash(start: Any) -> None:
    server = await start(args=("--no-trash",))
    (server.root / "d").mkdir()
    (server.root / "d/x").write_text("x")

    assert (await server.ask("DELETE", "api/contents/d"))[0] == 400
    assert (await server.ask("DELETE", "api/contents/d/x"))[0] == 204
    assert (await server.ask("DELETE", "api/contents/d"))[0] == 204
    assert (await server.ask("DELETE", "api/contents/d"))[0] == 404
    assert (await server.ask("DELETE", "api/contents/"))[0] == 400


async def test_the_trash_keeps_what_is_deleted(server: Any) -> None:
    (server.root / "d").mkdir()
    (server.root / "d/x").write_text("x")

    assert (await server.ask("DELETE", "api/contents/d"))[0] == 204

    assert not (server.root / "d").exists()
    assert (server.home / ".local/share/Trash/files/d/x").read_text() == "x"


ESCAPES = [
    "../secret",
    "%2e%2e%2fsecret",
    "a/../../secret",
    "%2e%2e/secret",
    "x%00y",
    "link",
    "linkdir/secret",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("way", ["api/contents/", "files/", "view/"])
async def test_nothing_outside_the_root_can_be_named(server: Any, way: str, path: str) -> None:
    (server.root.parent / "secret").write_text("hidden treasure")
    (server.root / "link").symlink_to("../secret")
    (server.root / "linkdir").symlink_to("..")

    read = await server.ask("GET", way + path)

    assert read[0] in {403, 404}
    assert "treasure" not in str(read[1])
    if way == "api/contents/":
        assert (await server.ask("PUT", way + path, **text("overwritten")))[0] in {400, 404}
        assert (await server.ask("DELETE", way + path))[0] in {400, 404}
        assert (server.root.parent / "secret").read_text() == "hidden treasure"


async def test_hidden_files_are_neither_listed_nor_read_nor_written(server: Any) -> None:
    (server.root / ".ssh").write_text("key")
    (server.root / "seen").write_text("x")
    os.mkfifo(server.root / "pipe")

    _, listing, _ = await server.ask("GET", "api/contents")

    assert [entry["name"] for entry in listing["content"]] == ["seen"]
    assert (await server.ask("GET", "api/contents/.ssh"))[0] == 404
    assert (await server.ask("GET", "files/.ssh"))[0] == 404
    assert (await server.ask("PUT", "api/contents/.new", **text("x")))[0] == 400
    assert (await server.ask("GET", "api/contents/pipe"))[0] == 400
    assert (await server.ask("GET", "files/pipe"))[0] == 403


async def test_parallel_saves_leave_one_of_them_whole(server: Any) -> None:
    texts = [letter * 200_000 for letter in "abcdefgh"]

    await asyncio.gather(*(server.ask("PUT", "api/contents/x.txt", **text(content)) for content in texts))

    assert (server.root / "x.txt").read_text() in texts
    assert [entry.name for entry in server.root.iterdir()] == ["x.txt"]


async def test_a_stale_if_match_is_refused(server: Any) -> None:
    await server.ask("PUT", "api/contents/x.txt", **text("one"))
    tag = {"If-Match": f'"{hashlib.sha256(b"one").hexdigest()}"'}

    first = await server.ask("PUT", "api/contents/x.txt", headers=dict(tag), **text("two"))
    second = await server.ask("PUT", "api/contents/x.txt", headers=dict(tag), **text("three"))

    assert (first[0], second[0], (server.root / "x.txt").read_text()) == (200, 412, "two")


async def test_saving_keeps_the_mode_and_writes_through_a_link(server: Any) -> None:
    target = server.root / "run.sh"
    target.write_text("old")
    target.chmod(0o750)
    (server.root / "alias.sh").symlink_to("run.sh")

    await server.ask("PUT", "api/contents/alias.sh", **text("new"))

    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o750)
    assert (server.root / "alias.sh").is_symlink()


BAD = [
    ("PUT", "api/contents/x.txt", {"data": b"{"}),
    ("PUT", "api/contents/x.txt", {"json": {"type": "file", "content": "x"}}),
    ("PUT", "api/contents/x.txt", {"json": {"type": "file", "format": "base64", "content": "?"}}),
    ("PUT", "api/contents/x.txt", {"json": {"copy_from": "y"}}),
    ("PUT", "api/contents/x.txt", {"json": {"type": "poem"}}),
    ("PUT", "api/contents/x.txt", {"json": []}),
    ("GET", "api/contents?content=2", {}),
    ("GET", "api/contents?hash=x", {}),
    ("GET", "api/contents/x.txt?format=poem", {}),
    ("GET", "api/contents?type=file", {}),
]


@pytest.mark.parametrize(("method", "path", "more"), BAD)
async def test_bad_requests_are_answered_with_400_and_a_message(
    server: Any, method: str, path: str, more: dict[str, Any]
) -> None:
    status, body, _ = await server.ask(method, path, **more)

    assert (status, bool(body["message"])) == (400, True)
    assert "Traceback" not in server.log.read_text()


async def test_a_missing_folder_is_404_not_500(server: Any) -> None:
    status, body, _ = await server.ask("PUT", "api/contents/no/x.txt", **text("x"))
    assert (status, "does not exist" in body["message"]) == (404, True)


async def test_files_are_sent_in_ranges_and_not_twice(server: Any) -> None:
    data = os.urandom(700_000)
    (server.root / "d.bin").write_bytes(data)
    (server.root / "d.bin.gz").write_bytes(b"other")

    status, whole, headers = await server.ask("GET", "files/d.bin")
    part = await server.ask("GET", "files/d.bin", headers={"Range": "bytes=10-19"})
    tail = await server.ask("GET", "files/d.bin", headers={"Range": "bytes=-5"})
    beyond = await server.ask("GET", "files/d.bin", headers={"Range": "bytes=900000-"})
    since = {"If-Modified-Since": headers["Last-Modified"]}
    again = await server.ask("GET", "files/d.bin", headers=since)

    assert (status, whole == data, "sandbox allow-scripts" in headers["Content-Security-Policy"]) == (
        200,
        True,
        True,
    )
    assert (part[0], part[1], part[2]["Content-Range"]) == (206, data[10:20], "bytes 10-19/700000")
    assert (tail[0], tail[1]) == (206, data[-5:])
    assert (beyond[0], beyond[2]["Content-Range"]) == (416, "bytes */700000")
    assert again[0] == 304
    download = await server.ask("GET", "files/d.bin?download=1")
    assert download[2]["Content-Disposition"] == "attachment; filename*=utf-8''d.bin"


async def test_a_name_in_any_script_survives_the_round_trip(server: Any) -> None:
    for name in ("ä ö.txt", "日本.txt", "100%25.txt", "a#b?c.txt", "a+b&c.txt"):
        _, model, _headers = await server.ask("POST", "api/contents", json={"type": "file"})
        moved = await server.ask("PATCH", f"api/contents/{model['path']}", json={"path": name})
        assert moved[1]["path"] == name
        there = await server.ask("GET", moved[2]["Location"].lstrip("/"))
        assert (there[0], there[1]["path"]) == (200, name)
