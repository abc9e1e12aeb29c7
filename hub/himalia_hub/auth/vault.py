"""What must be read again but never lie open in the database: second-factor secrets and auth_state, encrypted.

Keys come from `auth.crypt_keys_file`, one a line: the first encrypts, all decrypt, so a key is rotated by putting a new
one on top and running `himalia db rekey`. Without the file a key derived from the hub's secret does both.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from himalia_hub.errors import ConfigError
from himalia_hub.secrets import Secrets
from himalia_hub.settings import HubSettings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

log = structlog.get_logger()

VAULT: web.AppKey[Vault] = web.AppKey("vault")


class Vault:
    """Encrypts and decrypts small values; authenticated, so a changed row is refused, not misread."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = keys

    @functools.cached_property
    def _box(self) -> MultiFernet:
        from cryptography.fernet import (
            Fernet,
            MultiFernet,
        )  # late: only who encrypts something pays for loading it

        return MultiFernet([Fernet(key) for key in self._keys])

    @classmethod
    def of(cls, settings: HubSettings, secrets: Secrets) -> Vault:
        """The vault that the configuration describes."""
        file = settings.auth.crypt_keys_file
        derived = base64.urlsafe_b64encode(secrets.key("vault"))
        if file is None:
            return cls([derived])
        try:
            lines = [line.strip().encode() for line in file.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise ConfigError(f"auth.crypt_keys_file {str(file)!r}: {error.strerror}") from None
        if not lines:
            raise ConfigError(f"auth.crypt_keys_file {str(file)!r} holds no key")
        vault = cls([*lines, derived])  # what was encrypted before there was a file stays readable
        try:
            vault.lock("")
        except ValueError:
            raise ConfigError(
                f"auth.crypt_keys_file {str(file)!r}: every line must be 32 random bytes in url-safe base64, such as "
                "`head -c 32 /dev/urandom | base64 | tr +/ -_` gives"
            ) from None
        return vault

    def lock(self, value: Mapping[str, Any] | str) -> str:
        """The encrypted form; text."""
        return self._box.encrypt(json.dumps(value).encode()).decode()

    def open(self, locked: str) -> Any | None:
        """The value, or None when no key fits: the row was made with a key that is gone, or was changed."""
        from cryptography.fernet import InvalidToken

        try:
            return json.loads(self._box.decrypt(locked.encode()))
        except (InvalidToken, ValueError):
            log.error("vault.unreadable", remedy="put the key that it was encrypted with back into the file")
            return None

    def rekey(self, locked: str) -> str | None:
        """The same, encrypted with the first key; None when no key fits."""
        from cryptography.fernet import InvalidToken

        try:
            return self._box.rotate(locked.encode()).decode()
        except InvalidToken:
            return None
