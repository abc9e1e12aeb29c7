"""OpenID providers for tests: a real one in Node, and one of our own that can lie."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import yarl
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from support import eventually

OFFICIAL = Path(__file__).parents[2] / "official"
SECRET = "the hub proves itself"


@functools.cache
def usual_key() -> RSAKey:
    """Made once: that takes long."""
    return RSAKey.generate_key(2048, {"kid": "one"})


class RealProvider:
    """npm's oidc-provider on a fixed port; `start` again with another key id rotates its keys."""

    def __init__(self, port: int, redirect: str, output: Path) -> None:
        self.port, self.redirect, self._output = port, redirect, output
        self.issuer = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, kid: str) -> None:
        arguments = json.dumps({"port": self.port, "redirect": self.redirect, "kid": kid})
        with self._output.open("wb") as sink:
            self._process = subprocess.Popen(
                ["node", "oidc_provider.mjs", arguments], cwd=OFFICIAL, stdout=sink, stderr=sink
            )
        await eventually(lambda: b"ready" in self._output.read_bytes(), within_s=60, what="the provider")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def sign_in_there(departure: str, name: str) -> str:
    """Go through the provider's pages as a person would; where it sends the browser back to."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        url, form = departure, None
        for _ in range(12):
            if "/callback" in urlsplit(url).path:
                return url
            method = "GET" if form is None else "POST"
            async with session.request(
                method, yarl.URL(url, encoded=True), data=form, allow_redirects=False
            ) as answer:
                text = await answer.text()
                if answer.status in (302, 303):
                    url, form = urljoin(url, answer.headers["Location"]), None
                    continue
            assert answer.status == 200, text
            found = re.search(r'<form[^>]*action="([^"]+)"', text)
            prompt = re.search(r'name="prompt" value="([^"]+)"', text)
            assert found, text
            assert prompt, text
            url = urljoin(url, found[1])
            form = {"prompt": prompt[1], "login": name, "password": "any"}
    raise AssertionError(f"the provider never came back: {url}")


@dataclass
class LyingProvider:
    """Answers with an ID token of `claims` over right ones, signed and described as told."""

    url: str = ""
    key: RSAKey = field(default_factory=usual_key)
    published: RSAKey | None = None
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "one"})
    claims: dict[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    token: str | None = None
    nonce: str = ""
    asked: list[str] = field(default_factory=list)
    profile: dict[str, Any] = field(default_factory=dict)

    async def describe(self, _: web.Request) -> web.Response:
        self.asked.append("description")
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/auth",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
            }
        )

    async def keys(self, _: web.Request) -> web.Response:
        self.asked.append("keys")
        public = (self.published or self.key).as_dict(private=False)
        return web.json_response({"keys": [public]})

    async def exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("code") != "good" or not form.get("code_verifier"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(
            {"access_token": "at", "token_type": "Bearer", "id_token": self.token or self.made()}
        )

    async def userinfo(self, request: web.Request) -> web.Response:
        known = request.headers.get("Authorization") == "Bearer at"
        return web.json_response(self.profile, status=200 if known else 401)

    def made(self) -> str:
        now = int(time.time())
        right = {
            "iss": self.url, "aud": "himalia", "sub": "77", "exp": now + 300, "iat": now, "nonce": self.nonce,
            "preferred_username": "ann",
        }  # fmt: skip
        claims = {key: value for key, value in {**right, **self.claims}.items() if key not in self.drop}
        return jwt.encode(self.header, claims, self.key, algorithms=["RS256", "HS256"])


@asynccontextmanager
async def lying_provider() -> AsyncIterator[LyingProvider]:
    provider = LyingProvider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.describe)
    app.router.add_get("/jwks", provider.keys)
    app.router.add_post("/token", provider.exchange)
    app.router.add_get("/user", provider.userinfo)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()


def asked_for(departure: str) -> dict[str, str]:
    """The query that the browser takes along."""
    return {key: values[0] for key, values in parse_qs(urlsplit(departure).query).items()}
