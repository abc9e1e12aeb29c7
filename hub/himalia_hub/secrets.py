"""Minting, hashing and comparing secrets; what is signed or derived from the hub's own secret.

One secret of 32 bytes stands in `<data>/secret` (0600), or comes from the settings when replicas share it.
Every use has a key of its own, derived by HMAC with a label, so that a value signed for one purpose is
worth nothing for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets as stdlib_secrets
from pathlib import Path

from himalia_hub.errors import ConfigError

SECRET_BYTES = 32
ANY = "surrogatepass"
"""How a text becomes bytes: those of a header may be no UTF-8, which are half characters here. Such a text is no secret
of ours, and must be compared to be found wrong.
"""


def mint(length_bytes: int = 24) -> str:
    """A fresh random secret, url-safe text."""
    return stdlib_secrets.token_urlsafe(length_bytes)


def hash_token(token: str) -> str:
    """What is stored for a random token. Such tokens carry ≥128 bits of chance, so one round is enough."""
    return hashlib.sha256(token.encode(errors=ANY)).hexdigest()


def same(left: str, right: str) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(left.encode(errors=ANY), right.encode(errors=ANY))


class Secrets:
    """What is derived from the hub's secret."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._keys: dict[str, bytes] = {}

    def key(self, purpose: str) -> bytes:
        """32 bytes that nothing else is made from. Purposes are few: their keys are kept."""
        found = self._keys.get(purpose)
        if found is None:
            found = self._keys[purpose] = hmac.digest(self._master, b"himalia:" + purpose.encode(), "sha256")
        return found

    @property
    def hub_id(self) -> str:
        """A short name for this hub, the same for all its replicas; says nothing of the secret."""
        return self.key("hub-id").hex()[:12]

    def server_token(self, server_id: int, incarnation: str) -> str:
        """The API token of one life of a server.

        Derived, not random: a hub killed between storing the hash and starting the process starts again
        with the same token, so a process that did start in time is never locked out of its hub.
        """
        digest = hmac.digest(self.key("server-token"), f"{server_id}:{incarnation}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def service_token(self, service_id: int, name: str) -> str:
        """The API token of a service for which none was chosen; the same in every replica, and after a restart."""
        digest = hmac.digest(self.key("service-token"), f"{service_id}:{name}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def sign(self, purpose: str, value: str) -> str:
        """`value` with a signature that `unsign` accepts for the same purpose only."""
        digest = hmac.digest(self.key(purpose), value.encode(errors=ANY), "sha256")
        return f"{value}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    def unsign(self, purpose: str, signed: str) -> str | None:
        """The value if its signature is right, else None."""
        value, _, _signature = signed.rpartition(".")
        return value if value and same(self.sign(purpose, value), signed) else None


def load_or_create(path: Path) -> Secrets:
    """The hub's secret from its file; made on the first start. Refuses a file that others can read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        mode = path.stat().st_mode & 0o077
        if mode:
            raise ConfigError(f"{path} is readable by others; run: chmod 600 {path}") from None
        master = path.read_bytes()
        if len(master) < SECRET_BYTES:
            raise ConfigError(
                f"{path} holds {len(master)} bytes, {SECRET_BYTES} are needed; "
                "remove it to have a new one made (everyone signs in again)"
            ) from None
        return Secrets(master)
    with os.fdopen(descriptor, "wb") as file:
        master = stdlib_secrets.token_bytes(SECRET_BYTES)
        file.write(master)
    return Secrets(master)
