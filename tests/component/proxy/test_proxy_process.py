"""The process: start, stop, restart, error pages, TLS, options."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest

from component.proxy.parts import (
    OURS,
    TOKEN,
    RunningProxy,
    answering,
    raw_target,
    read_head,
    running,
)
from hubs import free_port
from support import eventually

HTML = {"Accept": "text/html"}


async def ended(*options: str, **env: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *OURS,
        *options,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.parametrize("which", ["--port", "--api-port"])
async def test_a_port_in_use_ends_the_start_with_a_sentence(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--port": free_port(), "--api-port": free_port()} | {which: port}
        options = [word for name, number in ports.items() for word in (name, str(number))]
        code, said = await ended(
            "--ip", "127.0.0.1", "--api-ip", "127.0.0.1", *options, CONFIGPROXY_AUTH_TOKEN="t"
        )
    assert code == 1
    assert f"port {port}: Address already in use" in said
    assert which in said
    assert "Traceback" not in said


async def test_a_wrong_option_ends_the_start_with_a_sentence() -> None:
    code, said = await ended("--ssl-protocol", "SSLv3")
    assert (code, said.count("\n")) == (1, 1)
    assert "--ssl-protocol 'SSLv3' is not spoken" in said


async def test_version_and_help_are_printed() -> None:
    assert (await ended("--version"))[0] == 0
    code, said = await ended("--help")
    assert code == 0
    assert "--error-target" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_requests_end_and_closes_tunnels(tmp_path: Path, number: int) -> None:
    answer_now = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"Upgrade" in await read_head(reader):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        else:
            await answer_now.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        await reader.read()

    pid_file = tmp_path / "pid"
    async with running(tmp_path, "--pid-file", str(pid_file)) as proxy, raw_target(talk) as target:
        await eventually(pid_file.exists)
        assert pid_file.read_text() == str(proxy.process.pid)
        await proxy.route("/", target.url)
        tunnel, tunnel_writer = await proxy.connect()
        tunnel_writer.write(b"GET /t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        await read_head(tunnel)
        reader, writer = await proxy.connect()
        writer.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        idle, idle_writer = await proxy.connect()
        await eventually(lambda: target.connections == 2)

        stopping = asyncio.create_task(proxy.stop(number))
        assert await idle.read() == b""
        with pytest.raises(OSError):
            await proxy.connect()
        answer_now.set()

        answer = await reader.read()
        assert answer.endswith(b"late")
        assert b"Connection: close" in answer
        assert await tunnel.read() == b""
        assert await stopping == 0
        for one in (tunnel_writer, writer, idle_writer):
            one.close()
    assert not pid_file.exists()


async def test_a_second_signal_does_not_wait_for_requests(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with running(tmp_path, "--drain-timeout", "60000") as proxy, raw_target(talk) as target:
        await proxy.route("/", target.url)
        _, writer = await proxy.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await eventually(lambda: target.connections == 1)
        proxy.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "proxy.stopping" in proxy.log.read_text())
        assert await proxy.stop() == 0
        writer.close()


async def test_a_killed_proxy_serves_its_routes_again_before_any_hub_has_spoken(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    async with raw_target(answering(b"ada's")) as target:
        async with running(tmp_path, "--routes-file", str(file)) as first:
            await first.route("/user/ad%C3%A9", target.url, user="adé")
            await first.route("/gone", target.url)
            await first.call("DELETE", "/api/routes/gone")
            table = (await first.call("GET", "/api/routes"))[1]
            await eventually(
                lambda: file.exists() and set(json.loads(file.read_text())["routes"]) == {"/user/adé"}
            )
            assert await first.stop(signal.SIGKILL) == -signal.SIGKILL
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

        async with running(tmp_path, "--routes-file", str(file)) as second:
            async with second.session.get(f"{second.url}/user/ad%C3%A9/x") as answer:
                assert await answer.text() == "ada's"
            kept = json.loads((await second.call("GET", "/api/routes"))[1])
            for route in (*kept.values(), *(before := json.loads(table)).values()):
                route.pop("last_activity")
            assert kept == before


async def test_a_stopped_proxy_leaves_the_times_of_activity_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    async with raw_target(answering()) as target:
        async with running(tmp_path, "--routes-file", str(file)) as first:
            await first.route("/", target.url)
            async with first.session.get(f"{first.url}/"):
                pass
            before = (await first.call("GET", "/api/routes"))[1]
            assert await first.stop() == 0
        async with running(tmp_path, "--routes-file", str(file)) as second:
            assert (await second.call("GET", "/api/routes"))[1] == before


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"routes": {"/a": {"target": "ftp://x"}}}', '{"routes": {"/a": 1}}']
)
async def test_a_spoilt_routes_file_is_reported_and_does_not_prevent_the_start(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "routes.json"
    file.write_text(content)
    async with running(tmp_path, "--routes-file", str(file)) as proxy:
        assert "snapshot.unreadable" in proxy.log.read_text()
        assert (await proxy.call("GET", "/api/routes")) == (200, "{}")


async def test_one_spoilt_route_does_not_cost_the_others(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    file.write_text(
        json.dumps({"routes": {"/bad": {"target": "ftp://x"}, "/good": {"target": "http://127.0.0.1:1"}}})
    )
    async with running(tmp_path, "--routes-file", str(file)) as proxy:
        assert set(json.loads((await proxy.call("GET", "/api/routes"))[1])) == {"/good"}


async def test_without_an_error_target_a_page_of_our_own_tells_what_happened(proxy: RunningProxy) -> None:
    await proxy.route("/dead", "http://127.0.0.1:1")
    for path, status in (("/none", 404), ("/dead/x", 503)):
        async with proxy.session.get(proxy.url + path) as answer:
            text = await answer.text()
            assert (answer.status, answer.content_type) == (status, "text/html")
            assert f"<title>{status}" in text
        async with proxy.session.head(proxy.url + path) as answer:
            assert answer.status == status
        async with proxy.session.post(proxy.url + path, data=bytes(1_000_000)) as answer:
            assert answer.status == status


@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_error_target_makes_the_page_and_the_status_stays(tmp_path: Path, slash: str) -> None:
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/x-page\r\nContent-Encoding: identity\r\nSet-Cookie: no=1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n"
        )
        await reader.read()

    async with (
        raw_target(talk) as hub,
        running(tmp_path, "--error-target", f"{hub.url}/hub/error{slash}") as proxy,
    ):
        await proxy.route("/dead", "http://127.0.0.1:1")
        for path, status in (("/none?a=b&c", 404), ("/dead/x", 503)):
            headers = {"Cookie": "secret=1", "Accept": "text/html"}
            async with proxy.session.get(proxy.url + path, headers=headers) as answer:
                assert (answer.status, await answer.text()) == (status, "page")
                assert answer.content_type == "text/x-page"
                assert answer.headers["Content-Encoding"] == "identity"
                assert "Set-Cookie" not in answer.headers
    assert heads[0].startswith(b"GET /hub/error/404?url=%2Fnone%3Fa%3Db%26c HTTP/1.1\r\n")
    assert heads[1].startswith(b"GET /hub/error/503?url=%2Fdead%2Fx HTTP/1.1\r\n")
    assert b"secret" not in b"".join(heads)


async def test_a_dead_error_target_leaves_the_page_of_our_own(tmp_path: Path) -> None:
    dead = "http://127.0.0.1:1/hub/error"
    async with (
        running(tmp_path, "--error-target", dead) as proxy,
        proxy.session.get(f"{proxy.url}/none") as answer,
    ):
        assert answer.status == 404
        assert "<title>404" in await answer.text()


async def test_error_pages_can_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("no such page")
    (tmp_path / "error.html").write_text("any error")
    async with running(tmp_path, "--error-path", str(tmp_path)) as proxy:
        await proxy.route("/dead", "http://127.0.0.1:1")
        for path, text in (("/none", "no such page"), ("/dead", "any error")):
            async with proxy.session.get(proxy.url + path) as answer:
                assert await answer.text() == text


async def test_default_target_host_routing_and_prefix_options_are_heard(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

    async with raw_target(talk) as target:
        options = ("--host-routing", "--no-include-prefix", "--change-origin", "--custom-header", "X-Key: k")
        async with running(tmp_path, "--default-target", f"{target.url}/base", *options) as proxy:
            await proxy.route("/ada.org/svc", target.url)
            assert json.loads((await proxy.call("GET", "/api/routes/ada.org/svc"))[1])["host"] == "ada.org"
            for host, path, line in (("ADA.org:1", "/svc/x", "GET /x "), ("b", "/x?y", "GET /base/x?y ")):
                async with proxy.session.get(proxy.url + path, headers={"Host": host}) as answer:
                    head = await answer.text()
                assert head.startswith(line)
                assert "X-Key: k" in head
                assert f"Host: {target.url[7:]}" in head


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def test_the_public_listener_can_be_a_unix_socket(tmp_path: Path) -> None:
    path, api_port = tmp_path / "public.sock", free_port()
    process = await asyncio.create_subprocess_exec(
        *OURS, "--socket", str(path), "--api-ip", "127.0.0.1", "--api-port", str(api_port), "--log-level", "error",
        env={**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN},
    )  # fmt: skip
    try:
        await eventually(lambda: listens(path))
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://h/_chp_healthz") as answer,
        ):
            assert answer.status == 200
    finally:
        process.terminate()
        assert await process.wait() == 0
    assert not path.exists()
