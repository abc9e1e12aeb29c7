"""Saves and uploads: a reader sees old or new, never half; what cannot be done costs nothing that was there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def text(content: str) -> dict[str, Any]:
    return {"json": {"type": "file", "format": "text", "content": content}}


def chunk(number: object, content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"json": {"type": "file", "format": "base64", "chunk": number, "content": data}}


async def test_an_upload_takes_the_files_place_only_when_it_is_whole(server: Any) -> None:
    place = "api/contents/x.bin"
    await server.ask("PUT", place, **text("old"))
    (server.root / "x.bin").chmod(0o640)

    first = await server.ask("PUT", place, **chunk(1, b"a" * 10))
    second = await server.ask("PUT", place, **chunk(2, b"b" * 10))
    meanwhile = (server.root / "x.bin").read_text()
    listed = [entry["name"] for entry in (await server.ask("GET", "api/contents"))[1]["content"]]
    last = await server.ask("PUT", place, **chunk(-1, b"c"))

    assert [answer[1]["size"] for answer in (first, second, last)] == [10, 20, 21]
    assert (meanwhile, listed) == ("old", ["x.bin"])
    assert (server.root / "x.bin").read_bytes() == b"a" * 10 + b"b" * 10 + b"c"
    assert (server.root / "x.bin").stat().st_mode & 0o777 == 0o640
    assert os.listdir(server.root) == ["x.bin"]


async def test_a_chunk_sent_twice_counts_once_and_a_left_out_one_is_named(server: Any) -> None:
    place = "api/contents/x.bin"
    for number, piece in ((1, b"one"), (2, b"two"), (2, b"two")):
        assert (await server.ask("PUT", place, **chunk(number, piece)))[0] in {200, 201}

    gap = await server.ask("PUT", place, **chunk(4, b"four"))
    words = [await server.ask("PUT", place, **chunk(bad, b"x")) for bad in ("2", 0, -2, True, 1.5)]
    await server.ask("PUT", place, **chunk(-1, b"!"))

    assert (gap[0], "chunk 3 of 'x.bin' is due, not 4" in gap[1]["message"]) == (409, True)
    assert [answer[0] for answer in words] == [400] * 5
    assert (server.root / "x.bin").read_bytes() == b"onetwo!"


async def test_an_upload_that_is_never_finished_leaves_nothing_behind(server: Any) -> None:
    await server.ask("PUT", "api/contents/x.bin", **chunk(1, b"one"))
    notebook = {"json": {"type": "notebook", "chunk": 1, "content": {}}}
    assert (await server.ask("PUT", "api/contents/n.ipynb", **notebook))[0] == 400
    assert os.listdir(server.root) == [".~x.bin.upload"]

    assert await server.stop() == 0

    assert os.listdir(server.root) == []


async def test_a_large_upload_needs_no_more_memory_than_a_few_chunks(server: Any) -> None:
    piece, total = os.urandom(700_000), 128
    await server.ask("PUT", "api/contents/warm.bin", **chunk(1, piece))
    before = peak_memory_kb(server.process.pid)

    for number in [*range(1, total), -1]:
        status, model, _ = await server.ask("PUT", "api/contents/big.bin", **chunk(number, piece))
        assert status in {200, 201}
    status, model, _ = await server.ask("GET", "api/contents/big.bin?content=0&hash=1")

    assert model["hash"] == hashlib.sha256(piece * total).hexdigest()
    assert peak_memory_kb(server.process.pid) - before < 24 * 1024


def peak_memory_kb(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize("path", ["x.txt", "./x.txt", "alias.txt"])
async def test_saves_under_any_name_of_a_file_never_mix(server: Any, path: str) -> None:
    (server.root / "x.txt").write_text("")
    (server.root / "alias.txt").symlink_to("x.txt")
    texts = [letter * 100_000 for letter in "abcdef"]
    tag = {"If-Match": f'"{hashlib.sha256(b"").hexdigest()}"'}

    answers = await asyncio.gather(
        *(
            server.ask(
                "PUT", f"api/contents/{path if odd % 2 else 'x.txt'}", headers=dict(tag), **text(content)
            )
            for odd, content in enumerate(texts)
        )
    )

    assert sorted(answer[0] for answer in answers) == [200, 412, 412, 412, 412, 412]
    assert (server.root / "x.txt").read_text() in texts


async def test_renames_that_cross_both_end(server: Any) -> None:
    for name in "ab":
        (server.root / name).write_text(name)

    answers = await asyncio.gather(
        server.ask("PATCH", "api/contents/a", json={"path": "b"}),
        server.ask("PATCH", "api/contents/b", json={"path": "a"}),
    )

    assert [answer[0] for answer in answers] == [409, 409]
    assert {name: (server.root / name).read_text() for name in "ab"} == {"a": "a", "b": "b"}


async def test_a_condition_that_cannot_be_read_saves_nothing(server: Any) -> None:
    async def save(condition: str) -> int:
        headers = {"If-Match": condition}
        return int((await server.ask("PUT", "api/contents/x.txt", headers=headers, **text("new")))[0])

    assert await save("*") == 412
    (server.root / "x.txt").write_text("old")
    assert [await save(condition) for condition in ("abc", '"abc"', "")] == [400, 400, 400]
    assert (server.root / "x.txt").read_text() == "old"
    assert await save("*") == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte in the server's root."""
    place = tmp_path / "root" / "small"
    place.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(
            f"a small disk cannot be mounted: {done.stderr.strip()}; run the tests as root (sudo make test)"
        )
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_log_on_a_full_disk_costs_its_lines_and_nothing_else(start: Any) -> None:
    server = await start(log=Path("/dev/full"))

    saved = await server.ask("PUT", "api/contents/a.txt", **text("kept"))
    begun = await server.ask("POST", "api/kernels", json={})
    ended = await server.ask("DELETE", f"api/kernels/{begun[1]['id']}")

    assert [answer[0] for answer in (saved, begun, ended)] == [201, 201, 204]
    assert await server.stop() == 0


async def test_a_full_disk_is_said_and_keeps_what_was_there(small_disk: Path, start: Any) -> None:
    server = await start()
    for name in ("a.txt", "b.bin"):
        await server.ask("PUT", f"api/contents/small/{name}", **text("old"))
    too_much = "x" * 900_000
    notebook = {"cells": [], "metadata": {"x": too_much}, "nbformat": 4, "nbformat_minor": 5}

    saved = await server.ask("PUT", "api/contents/small/a.txt", **text(too_much))
    written = await server.ask(
        "PUT", "api/contents/small/n.ipynb", json={"type": "notebook", "content": notebook}
    )
    await server.ask("PUT", "api/contents/small/b.bin", **chunk(1, b"x" * 300_000))
    piece = await server.ask("PUT", "api/contents/small/b.bin", **chunk(2, b"x" * 300_000))

    assert [answer[0] for answer in (saved, written, piece)] == [507, 507, 507]
    assert "No space left" in saved[1]["message"]
    assert sorted(os.listdir(small_disk)) == ["a.txt", "b.bin"]
    assert [(small_disk / name).read_text() for name in ("a.txt", "b.bin")] == ["old", "old"]
    assert (await server.ask("PUT", "api/contents/small/c.txt", **text("fits")))[0] == 201
