"""The one object that the rules of this package share."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of
from himalia_singleuser.auth.passwords import PasswordFile
from himalia_singleuser.auth.signing import Signer
from himalia_singleuser.hub import HubClient
from himalia_singleuser.settings import Settings


@dataclass(frozen=True, slots=True)
class Auth:
    """What signs cookies, how they are named, and the hub that knows the people (None when alone)."""

    settings: Settings
    seed: bytes
    hub: HubClient | None
    password: PasswordFile | None = None

    @property
    def signer(self) -> Signer:
        """Its key hangs on the password, so that a new one signs everybody out, open pages included."""
        seed = self.seed
        if self.password is not None and (kept := self.password.current()):
            seed += hashlib.sha256(kept.encode()).digest()
        return Signer(hmac.new(seed, b"himalia cookies", hashlib.sha256).digest())

    def cookie_name(self, request: web.Request) -> str:
        """One per server: cookies are shared by all ports of a host name and all paths above."""
        if hub := self.settings.hub:
            name = re.sub(r"[^A-Za-z0-9_-]", "-", hub.client_id)
            return f"__Host-{name}" if hub.cookie_host_prefix else name
        host = request.headers.get(hdrs.HOST, "localhost")
        return "username-" + re.sub(r"[^A-Za-z0-9]", "-", host)

    def cookie_path(self, request: web.Request) -> str:
        """The base URL, but `__Host-` cookies must say `/`."""
        hub = self.settings.hub
        return "/" if hub and hub.cookie_host_prefix else base_of(request)

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser's own connection is encrypted."""
        hub = self.settings.hub
        if hub and hub.public_url.startswith("https:"):
            return True
        forwarded = request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip()
        return (forwarded or request.scheme) == "https"

    def set_cookie(
        self, request: web.Request, response: web.StreamResponse, name: str, value: str, *, max_age_s: int
    ) -> None:
        """A cookie that scripts cannot read."""
        hub = self.settings.hub
        options = hub.cookie_options if hub else {}
        response.set_cookie(
            name,
            self.signer.sign(name, value),
            path=self.cookie_path(request),
            max_age=max_age_s,
            httponly=True,
            secure=self.is_secure(request) or bool(hub and hub.cookie_host_prefix),
            samesite=options.get("samesite", "Lax"),
            domain=options.get("domain"),
        )

    def read_cookie(self, request: web.Request, name: str, *, max_age_s: float) -> str | None:
        """Its value, None when absent or not signed by this server."""
        text = request.cookies.get(name)
        return self.signer.read(name, text, max_age_s=max_age_s) if text else None

    def drop_cookie(self, request: web.Request, response: web.StreamResponse, name: str) -> None:
        """Ask the browser to forget it."""
        response.del_cookie(name, path=self.cookie_path(request), secure=self.is_secure(request))


AUTH = web.AppKey("AUTH", Auth)


def make_auth(settings: Settings, hub: HubClient | None) -> Auth:
    """The signing key is the hub's token, so a restarted server knows its cookies; alone, a file's."""
    if settings.hub:
        seed = settings.hub.api_token.encode()
    else:
        seed = _kept_secret(settings.runtime_dir / "himalia_cookie_secret")
        if settings.token_was_given:
            seed += hashlib.sha256(settings.token.encode()).digest()
    password = PasswordFile(settings.password_file) if settings.password_file else None
    return Auth(settings, seed, hub, password)


def _kept_secret(path: Path) -> bytes:
    """A secret of this person's servers; when it cannot be kept, cookies last as long as the process."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return secrets.token_bytes(32)
    with os.fdopen(descriptor, "r+b") as file:
        kept = file.read(64)
        if len(kept) >= 32 and os.fstat(file.fileno()).st_mode & 0o077 == 0:
            return kept
        os.fchmod(file.fileno(), 0o600)
        made = secrets.token_bytes(32)
        file.seek(0)
        file.truncate()
        file.write(made)
        return made
