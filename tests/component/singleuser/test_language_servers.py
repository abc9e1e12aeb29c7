"""Pages on a language server: a process that speaks the real framing, started by the first page, ended by the last."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from component.singleuser.kernel_parts import Server, running_server
from support import eventually

PROGRAM = """
import json, os, sys
sys.stdout.write('a greeting that is no head\\n'); sys.stdout.flush()
while True:
    size = 0
    while (line := sys.stdin.buffer.readline().strip()):
        name, _, value = line.partition(b':')
        size = int(value) if name.lower() == b'content-length' else size
    asked = json.loads(sys.stdin.buffer.read(size)) if size else sys.exit()
    if asked['method'] == 'die':
        os._exit(3)
    if asked['method'] == 'babble':
        sys.stdout.write('Content-Length: 99999999999\\r\\n\\r\\n'); sys.stdout.flush(); continue
    got = asked['params']
    if asked['method'] == 'read':
        got = open(got).read() if os.path.exists(got) else None
    answer = {'jsonrpc': '2.0', 'id': asked.get('id'), 'result': {'pid': os.getpid(), 'got': got, 'mark': os.environ['MARK']}}
    body = json.dumps(answer, ensure_ascii=False).encode()
    sys.stdout.buffer.write(b'Content-Type: x\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body); sys.stdout.flush()
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    program = tmp_path / "server.py"
    program.write_text(PROGRAM)
    config = tmp_path / "etc"
    config.mkdir()
    spec = {
        "argv": [sys.executable, str(program), "--secret"],
        "languages": ["toy"],
        "mime_types": ["text/toy"],
        "display_name": "Toy",
        "env": {"MARK": "set"},
        "version": 2,
    }
    gone = {**spec, "argv": ["/no/such/program"]}
    servers = {"toy": spec, "gone": gone, "odd": {"argv": "ls"}, "none": 3}
    told = {"LanguageServerManager": {"language_servers": servers}}
    (config / "jupyter_server_config.json").write_text(json.dumps(told))
    async with running_server(tmp_path, config_path=(config,)) as server:
        yield server


async def page(server: Server) -> ClientWebSocketResponse:
    return await server.http.ws_connect(f"{server.url}lsp/ws/toy")


async def ask(socket: ClientWebSocketResponse, method: str, params: Any = None) -> dict[str, Any]:
    await socket.send_str(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    return dict(json.loads(await socket.receive_str(timeout=60))["result"])


async def session(server: Server) -> dict[str, Any]:
    return dict((await server.ask("GET", "lsp/status"))[1]["sessions"]["toy"])


async def test_what_is_installed_is_listed_and_its_command_is_not_told(server: Server) -> None:
    status, told = await server.ask("GET", "lsp/status")

    assert (status, told["version"]) == (200, 2)
    assert not {"gone", "odd", "none"} & set(told["sessions"])
    assert told["sessions"]["toy"]["status"] == "not_started"
    assert told["specs"]["toy"]["argv"] == [""]
    assert (told["specs"]["toy"]["languages"], told["specs"]["toy"]["display_name"]) == (["toy"], "Toy")
    assert "--secret" not in json.dumps(told)


async def test_pages_share_one_process_and_the_last_one_ends_it(server: Server) -> None:
    first, second = await page(server), await page(server)

    answer = await ask(first, "hello", "käse \U0001f9c0")
    shared = json.loads(await second.receive_str(timeout=60))["result"]

    assert (answer["got"], answer["mark"], shared) == ("käse \U0001f9c0", "set", answer)
    told = await session(server)
    assert (told["status"], told["handler_count"]) == ("started", 2)
    assert told["last_server_message_at"]
    await first.close()
    await second.close()
    await eventually(lambda: not os.path.exists(f"/proc/{answer['pid']}"))

    async def stopped() -> bool:
        return (await session(server))["status"] == "stopped"

    await eventually(stopped)


@pytest.mark.parametrize("method", ["die", "babble"])
async def test_one_that_ends_or_talks_nonsense_closes_its_pages_and_starts_anew_for_the_next(
    server: Server, method: str
) -> None:
    socket = await page(server)
    before = (await ask(socket, "hello"))["pid"]
    await socket.send_str(json.dumps({"method": method, "params": None}))

    assert (await socket.receive(timeout=60)).type is WSMsgType.CLOSE

    again = await page(server)
    assert (await ask(again, "hello"))["pid"] != before
    await again.close()
    await socket.close()


async def test_one_that_is_not_there_and_a_request_without_an_upgrade_are_refused(server: Server) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await server.http.ws_connect(f"{server.url}lsp/ws/gone")

    assert refused.value.status == 404
    status, told = await server.ask("GET", "lsp/ws/toy")
    assert (status, "WebSocket" in told["message"]) == (400, True)
    assert (await server.ask("GET", "lsp/ws/..%2ftoy"))[0] == 404


async def test_what_is_open_lies_on_disk_for_a_server_that_reads_files_and_goes_with_it(
    server: Server,
) -> None:
    folder = server.root / ".virtual_documents"
    uri, file = (folder / "a b/n.ipynb.toy").as_uri(), folder / "a b/n.ipynb.toy"
    socket = await page(server)

    async def tell(method: str, **params: Any) -> Any:
        await ask(socket, f"textDocument/{method}", params)
        return (await ask(socket, "read", str(file)))["got"]

    document = {"uri": uri}
    assert (
        await tell("didOpen", textDocument={**document, "text": "käse\n\U0001f9c0 x\n"})
        == "käse\n\U0001f9c0 x\n"
    )
    place = {"start": {"line": 1, "character": 2}, "end": {"line": 1, "character": 4}}
    changes = [
        {"range": place, "text": "!"},
        {"range": {"start": place["start"], "end": place["start"]}, "text": "?"},
    ]
    assert await tell("didChange", textDocument=document, contentChanges=changes) == "käse\n\U0001f9c0?!\n"
    assert await tell("didSave", textDocument=document, text="saved") == "saved"
    assert await tell("didClose", textDocument=document) is None
    assert await tell("didOpen", textDocument={**document, "text": "again"}) == "again"
    await socket.close()
    await eventually(lambda: not folder.exists(), within_s=30)


async def test_no_document_is_written_outside_its_folder(server: Server, tmp_path: Path) -> None:
    """CVE-2024-22415: the address of a document led anywhere."""
    folder = server.root / ".virtual_documents"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    before = set(tmp_path.rglob("*"))
    socket = await page(server)
    for uri in (
        f"file://{folder}/../evil",
        f"file://{folder}/%2e%2e/evil",
        f"file://{folder}/link/evil",
        f"file://{folder}x/evil",
        f"file://{folder}",
        f"file://host{folder}/evil",
        f"file://{folder}/%00",
        f"{folder}/evil",
        f"https://x{folder}/evil",
        7,
    ):
        opened = {"textDocument": {"uri": uri, "text": "treasure"}}
        assert (await ask(socket, "textDocument/didOpen", opened))["got"] == opened
        assert set(tmp_path.rglob("*")) == before, uri
    for odd in (None, [], {"textDocument": {"uri": f"file://{folder}/x", "text": 3}}):
        assert (await ask(socket, "textDocument/didOpen", odd))["got"] == odd
    await socket.close()
