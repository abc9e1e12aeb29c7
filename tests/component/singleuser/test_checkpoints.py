"""Earlier contents of a file: several, each once, bounded, and never through a link."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

CHECKPOINTS = "api/contents/a.txt/checkpoints"


async def save(server: Any, content: str, path: str = "a.txt") -> None:
    body = {"type": "file", "format": "text", "content": content}
    assert (await server.ask("PUT", f"api/contents/{path}", json=body))[0] in {200, 201}


async def ids(server: Any, path: str = CHECKPOINTS) -> list[str]:
    return [kept["id"] for kept in (await server.ask("GET", path))[1]]


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


async def test_each_checkpoint_can_be_brought_back_and_the_newest_is_last(server: Any) -> None:
    for content in ("one", "two", "two", "three"):
        await save(server, content)
        assert (await server.ask("POST", CHECKPOINTS))[0] == 201

    assert await ids(server) == [digest("one"), digest("two"), "checkpoint"]
    assert (await server.ask("POST", f"{CHECKPOINTS}/{digest('one')}"))[0] == 204
    assert (server.root / "a.txt").read_text() == "one"
    assert (server.root / ".ipynb_checkpoints/a-checkpoint.txt").read_text() == "three"


async def test_bringing_one_back_keeps_what_it_replaces(server: Any) -> None:
    await save(server, "old")
    await server.ask("POST", CHECKPOINTS)
    await save(server, "a day of work")

    await server.ask("POST", f"{CHECKPOINTS}/checkpoint")
    await server.ask("POST", f"{CHECKPOINTS}/{digest('a day of work')}")

    assert (server.root / "a.txt").read_text() == "a day of work"


async def test_the_oldest_give_way(server: Any) -> None:
    for number in range(14):
        await save(server, str(number))
        await server.ask("POST", CHECKPOINTS)
        for kept in (server.root / ".ipynb_checkpoints").rglob("*"):
            moved = kept.stat().st_mtime - 60
            os.utime(kept, (moved, moved))

    assert await ids(server) == [*(digest(str(number)) for number in range(4, 13)), "checkpoint"]


async def test_an_autosave_keeps_what_it_replaces_once_in_five_minutes(server: Any) -> None:
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    now = time.time()
    place, kept = "api/contents/n.ipynb", "api/contents/n.ipynb/checkpoints"

    async def autosave(title: str, *, minutes_old: int) -> list[str]:
        body = {"type": "notebook", "content": notebook | {"metadata": {"title": title}}}
        await server.ask("PUT", place, json=body)
        ages = {
            server.root / "n.ipynb": minutes_old,
            server.root / ".ipynb_checkpoints/n-checkpoint.ipynb": 60,
        }
        for file, minutes in ages.items():
            os.utime(file, (now - minutes * 60, now - minutes * 60))
        return await ids(server, kept)

    assert await autosave("first", minutes_old=58) == ["checkpoint"]
    assert await autosave("second", minutes_old=50) == ["checkpoint"]
    second = hashlib.sha256((server.root / "n.ipynb").read_bytes()).hexdigest()
    assert await autosave("third", minutes_old=48) == ["checkpoint", second]
    assert await autosave("fourth", minutes_old=0) == ["checkpoint", second]


async def test_files_nobody_asked_to_keep_leave_no_folder(server: Any) -> None:
    await save(server, "one")
    await save(server, "two")
    assert os.listdir(server.root) == ["a.txt"]


async def test_all_go_along_with_a_rename_and_go_with_a_deletion(server: Any) -> None:
    for content in ("one", "two"):
        await save(server, content)
        await server.ask("POST", CHECKPOINTS)

    await server.ask("PATCH", "api/contents/a.txt", json={"path": "b.txt"})
    assert await ids(server, "api/contents/b.txt/checkpoints") == [digest("one"), "checkpoint"]
    assert await ids(server) == []

    assert (await server.ask("DELETE", "api/contents/b.txt"))[0] == 204
    assert os.listdir(server.root) == []


async def test_a_link_in_place_of_a_checkpoint_is_neither_read_nor_written_through(server: Any) -> None:
    secret = server.root.parent / "secret"
    secret.write_text("treasure")
    (server.root / "a.txt").write_text("mine")
    (server.root / ".ipynb_checkpoints").mkdir()
    (server.root / ".ipynb_checkpoints/a-checkpoint.txt").symlink_to(secret)

    assert (await server.ask("POST", f"{CHECKPOINTS}/checkpoint"))[0] == 404
    assert (await server.ask("POST", CHECKPOINTS))[0] == 201
    (server.root / "d").mkdir()
    (server.root / "d/b.txt").write_text("mine")
    (server.root / "d/.ipynb_checkpoints").symlink_to(server.root.parent)
    assert (await server.ask("POST", "api/contents/d/b.txt/checkpoints"))[0] == 400

    assert secret.read_text() == "treasure"
    assert sorted(os.listdir(server.root.parent)) == sorted({"root", "home", "secret", server.log.name})
