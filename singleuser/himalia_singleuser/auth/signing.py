"""Signed, dated values for cookies. Pure but for the clock, which the caller may give."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

PUT_BACK_S = 86400.0
"""A date so far ahead is believed: the clock was put back, and nobody is to be signed out for that."""


class Signer:
    """Signs texts for one purpose each: what was signed as one cookie is not valid as another."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, name: str, value: str, *, now: float | None = None) -> str:
        """`value` with its date and signature, in characters that a cookie may hold."""
        packed = base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
        dated = f"{packed}.{int(time.time() if now is None else now)}"
        return f"{dated}.{self.mac(name, dated)}"

    def read(self, name: str, text: str, *, max_age_s: float, now: float | None = None) -> str | None:
        """The value again; None when it is forged, damaged, too old or from another purpose."""
        dated, _, mac = text.rpartition(".")
        if not text.isascii() or not hmac.compare_digest(mac, self.mac(name, dated)):
            return None
        packed, _, date = dated.rpartition(".")
        age = (time.time() if now is None else now) - int(date)
        if not -PUT_BACK_S <= age <= max_age_s:
            return None
        return base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()

    def mac(self, name: str, text: str) -> str:
        """A hash over both that only this server can make."""
        message = f"{len(name)}:{name}:{text}".encode()
        digest = hmac.new(self._key, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
