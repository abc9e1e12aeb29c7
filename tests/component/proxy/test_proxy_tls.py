"""TLS on every side: clients, the API, targets; certificates that change; the redirect from http."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import socket
import ssl
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest

from component.proxy.certs import Authority, Pair
from component.proxy.parts import TOKEN, answering, raw_target, running, serving
from hubs import free_port
from support import eventually


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.sign("hub.test")


def trusting(authority: Authority, shown: Pair | None = None) -> ssl.SSLContext:
    """A client's context that trusts `authority` and shows a certificate, if any."""
    context = ssl.create_default_context(cafile=authority.ca)
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


async def test_the_public_port_speaks_tls(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    trust = trusting(authority)

    async def handler(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        if "ws" in request.path:
            sock = aiohttp.web.WebSocketResponse()
            await sock.prepare(request)
            async for message in sock:
                await sock.send_str(message.data + request.headers["X-Forwarded-Proto"])
            return sock
        return aiohttp.web.Response(body=await request.read() + request.headers["X-Forwarded-Proto"].encode())

    async with (
        serving(handler) as target,
        running(tmp_path, "--ssl-key", pair.key, "--ssl-cert", pair.cert) as proxy,
    ):
        await proxy.route("/", target)
        url = f"https://127.0.0.1:{proxy.port}"
        body = os.urandom(3_000_000)
        async with proxy.session.post(f"{url}/x", data=io.BytesIO(body), ssl=trust) as answer:
            assert await answer.read() == body + b"https"
        async with proxy.session.ws_connect(f"{url}/ws", ssl=trust) as sock:
            await sock.send_str("hi ")
            assert await sock.receive_str() == "hi wss"


async def handshake(port: int, context: ssl.SSLContext) -> ssl.SSLObject:
    """A finished handshake, judged by the client; ssl.SSLError or OSError if there is none."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="127.0.0.1"
    )
    try:
        # With TLS 1.3 a refused client certificate shows only when something is read.
        writer.write(b"GET /_chp_healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in await reader.read()
        return writer.get_extra_info("ssl_object")
    finally:
        writer.transport.abort()


async def test_old_versions_and_weak_ciphers_are_refused(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    async with running(tmp_path, "--ssl-key", pair.key, "--ssl-cert", pair.cert) as proxy:
        assert (await handshake(proxy.port, trusting(authority))).version() == "TLSv1.3"
        weak = trusting(authority)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("ECDHE-ECDSA-AES128-SHA")
        with pytest.raises((ssl.SSLError, OSError)):
            await handshake(proxy.port, weak)
        with pytest.raises((ssl.SSLError, OSError)):
            old = trusting(authority)
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning):
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            await handshake(proxy.port, old)


@pytest.mark.parametrize(("given", "chosen"), [(False, "AES128"), (True, "AES256")])
async def test_the_clients_order_of_ciphers_counts_unless_a_list_is_given(
    tmp_path: Path, authority: Authority, pair: Pair, given: bool, chosen: str
) -> None:
    small, large = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # of 1.3, Python cannot set the order
    client.set_ciphers(f"{small}:{large}")
    options = ("--ssl-ciphers", f"{large}:{small}") if given else ()
    async with running(tmp_path, "--ssl-key", pair.key, "--ssl-cert", pair.cert, *options) as proxy:
        assert chosen in (await handshake(proxy.port, client)).cipher()[0]


async def test_who_comes_back_need_not_shake_hands_in_full(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    context = ssl.create_default_context(cafile=authority.ca)

    def visit(port: int, before: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=before) as tls,
        ):
            tls.sendall(b"GET /_chp_healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            assert tls.recv(1000).startswith(b"HTTP/1.1 200 ")
            return bool(tls.session_reused), tls.session

    async with running(tmp_path, "--ssl-key", pair.key, "--ssl-cert", pair.cert) as proxy:
        reused, session = await asyncio.to_thread(visit, proxy.port, None)
        assert not reused
        for _ in range(3):
            reused, session = await asyncio.to_thread(visit, proxy.port, session)
            assert reused


async def test_a_client_certificate_can_be_demanded(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    stranger = Authority(tmp_path / "other", "stranger").sign("client")
    options = ("--ssl-ca", authority.ca, "--ssl-request-cert", "--ssl-reject-unauthorized")
    async with running(tmp_path, "--ssl-key", pair.key, "--ssl-cert", pair.cert, *options) as proxy:
        await handshake(proxy.port, trusting(authority, authority.sign("client")))
        for shown in (None, stranger):
            with pytest.raises((ssl.SSLError, OSError, AssertionError)):
                await handshake(proxy.port, trusting(authority, shown))


async def test_the_api_can_demand_a_certificate_too(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    options = ["--api-ssl-key", pair.key, "--api-ssl-cert", pair.cert, "--api-ssl-ca", authority.ca]
    options += ["--api-ssl-request-cert", "--api-ssl-reject-unauthorized"]
    async with running(tmp_path, *options) as proxy:
        url, token = f"https://127.0.0.1:{proxy.api_port}/api/routes", {"Authorization": f"token {TOKEN}"}
        shown = trusting(authority, authority.sign("hub"))
        async with proxy.session.get(url, ssl=shown, headers=token) as answer:
            assert (answer.status, await answer.json()) == (200, {})
        with pytest.raises((aiohttp.ClientError, OSError)):
            async with proxy.session.get(url, ssl=trusting(authority), headers=token) as answer:
                assert answer.status != 200


async def test_a_key_is_opened_by_the_passphrase_of_the_environment(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = authority.sign("locked", passphrase="open sesame")
    options = ("--ssl-key", locked.key, "--ssl-cert", locked.cert)
    with pytest.raises(AssertionError, match="set CONFIGPROXY_SSL_KEY_PASSPHRASE"):
        async with running(tmp_path, *options):
            pass
    monkeypatch.setenv("CONFIGPROXY_SSL_KEY_PASSPHRASE", "open sesame")
    async with running(tmp_path, *options) as proxy:
        await handshake(proxy.port, trusting(authority))


@pytest.mark.parametrize("how", ["by itself", "on SIGHUP"])
async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, authority: Authority, pair: Pair, how: str
) -> None:
    key, cert = shutil.copy(pair.key, tmp_path / "k"), shutil.copy(pair.cert, tmp_path / "c")

    async with running(tmp_path, "--ssl-key", str(key), "--ssl-cert", str(cert)) as proxy:

        async def names() -> str:
            return str((await handshake(proxy.port, trusting(authority))).getpeercert())

        assert "hub.test" in await names()
        renewed = authority.sign("renewed.test")
        os.replace(shutil.copy(renewed.cert, tmp_path / "new"), cert)
        if how == "on SIGHUP":
            proxy.process.send_signal(signal.SIGHUP)
        # The key does not fit yet: the old pair stays in force.
        await eventually(lambda: "files.not_reloaded" in proxy.log.read_text())
        assert "hub.test" in await names()
        os.replace(shutil.copy(renewed.key, tmp_path / "new"), key)
        if how == "on SIGHUP":
            proxy.process.send_signal(signal.SIGHUP)

        async def new() -> bool:
            return "renewed.test" in await names()

        await eventually(new)


async def secure_target(pair: Pair, authority: Authority | None = None) -> asyncio.Server:
    """Answers by https; with an authority, only to who shows a certificate of it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    if authority is not None:
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(b"secure")(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()

    return await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 503),
        (("--insecure",), 200),
        (("--client-ssl-ca", "CA"), 200),
    ],
    ids=["unknown authority", "insecure", "trusted authority"],
)
async def test_an_https_target_is_verified_by_its_own_name(
    tmp_path: Path,
    authority: Authority,
    pair: Pair,
    options: tuple[str, ...],
    status: int,
) -> None:
    server = await secure_target(pair)
    try:
        async with running(tmp_path, *(authority.ca if one == "CA" else one for one in options)) as proxy:
            await proxy.route("/", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            # What the client calls the proxy is no name the target must have.
            async with proxy.session.get(f"{proxy.url}/", headers={"Host": "elsewhere.org"}) as answer:
                assert answer.status == status
    finally:
        server.close()


async def test_targets_and_the_error_target_are_shown_the_proxys_certificate(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    server, own = await secure_target(pair, authority), authority.sign("proxy")
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    trust = ("--client-ssl-ca", authority.ca)
    try:
        for shown, status in (((), 503), (("--client-ssl-key", own.key, "--client-ssl-cert", own.cert), 200)):
            async with running(tmp_path, *trust, *shown, "--error-target", url) as proxy:
                await proxy.route("/there", url)
                async with proxy.session.get(f"{proxy.url}/there") as answer:
                    assert answer.status == status
                async with proxy.session.get(f"{proxy.url}/nowhere") as answer:
                    assert (answer.status, await answer.text() == "secure") == (404, status == 200)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("to", "shown"), [((), None), (("--redirect-to", "443"), ""), (("--redirect-to", "9"), ":9")]
)
async def test_plain_http_is_sent_to_https(
    tmp_path: Path, pair: Pair, to: tuple[str, ...], shown: str | None
) -> None:
    port = free_port()
    options = ("--ssl-key", pair.key, "--ssl-cert", pair.cert, "--redirect-port", str(port), *to)
    async with running(tmp_path, *options) as proxy:
        where = f":{proxy.port}" if shown is None else shown
        for host in ("hub.org", f"hub.org:{port}"):
            url, named = f"http://127.0.0.1:{port}//a/b?c=d", {"Host": host}
            async with proxy.session.get(url, headers=named, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (
                    301,
                    f"https://hub.org{where}//a/b?c=d",
                )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_redirects_of_the_target_are_rewritten_when_asked(tmp_path: Path) -> None:
    async with raw_target(answering(b"", status=b"302 Found")) as target:

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            where = f"Location: {target.url}/next?a=b".encode()
            await answering(b"", where, status=b"302 Found")(reader, writer)

        target.talk = talk
        async with running(tmp_path, "--auto-rewrite", "--protocol-rewrite", "https") as proxy:
            await proxy.route("/", target.url)
            at = {"Host": "hub.org:8443"}
            async with proxy.session.get(f"{proxy.url}/", headers=at, allow_redirects=False) as answer:
                assert answer.headers["Location"] == "https://hub.org:8443/next?a=b"
