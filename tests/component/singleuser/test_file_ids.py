"""`api/fileid`: an id stays with its file through renames over the API and restarts of the server."""

from __future__ import annotations

from typing import Any

import pytest

from component.singleuser.conftest import Running, Start


async def id_of(server: Running, path: str) -> Any:
    status, told, _ = await server.ask("GET", f"api/fileid/id?path={path}")
    assert (status, told["path"]) == (200, path), told
    return told["id"]


async def path_of(server: Running, known: str) -> Any:
    status, told, _ = await server.ask("GET", f"api/fileid/path?id={known}")
    return told["path"] if status == 200 else status


async def test_an_id_goes_with_its_file_and_its_folder(start: Start) -> None:
    server = await start()
    (server.root / "sub").mkdir()
    (server.root / "sub/a.txt").write_text("x")
    known = await id_of(server, "sub/a.txt")
    folder = await id_of(server, "sub")

    for old, new in (("sub/a.txt", "sub/b.txt"), ("sub", "other")):
        assert (await server.ask("PATCH", f"api/contents/{old}", json={"path": new}))[0] == 200

    assert (await path_of(server, known), await path_of(server, folder)) == ("other/b.txt", "other")
    assert await id_of(server, "other/b.txt") == known
    await server.stop()
    again = await start()
    assert await path_of(again, known) == "other/b.txt"


async def test_another_file_of_the_same_name_is_another_file(server: Running) -> None:
    (server.root / "a.txt").write_text("x")
    known = await id_of(server, "a.txt")
    assert (await server.ask("DELETE", "api/contents/a.txt"))[0] == 204
    assert await path_of(server, known) == 404

    (server.root / "a.txt").write_text("y")
    assert await id_of(server, "a.txt") != known


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("id", 400, "path"),
        ("path", 400, "id"),
        ("id?path=none.txt", 404, "none.txt"),
        ("id?path=.hidden", 404, ".hidden"),
        ("id?path=../x", 404, "x"),
        ("path?id=unknown", 404, "unknown"),
    ],
)
async def test_what_is_not_there_has_no_id(server: Running, query: str, status: int, word: str) -> None:
    (server.root / ".hidden").write_text("x")
    got, told, _ = await server.ask("GET", f"api/fileid/{query}")
    assert (got, word in told["message"]) == (status, True), told
