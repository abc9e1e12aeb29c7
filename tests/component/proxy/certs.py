"""A certificate authority for tests, by OpenSSL's command line."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """Paths of a key and its certificate."""

    key: str
    cert: str


class Authority:
    """Signs certificates; `ca` is the file that trusts them."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._own = Pair(str(folder / "ca.key"), str(folder / "ca.pem"))
        self.ca = self._own.cert
        _openssl(
            "req",
            "-x509",
            *_KEY,
            "-keyout",
            self._own.key,
            "-out",
            self.ca,
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",  # Python 3.13 believes no other (RFC 5280, section 4.2.1.3)
        )

    def sign(self, name: str, *, passphrase: str | None = None) -> Pair:
        """A key, and a certificate for `name`, localhost and 127.0.0.1."""
        base = self._folder / name
        pair, request, extensions = (
            Pair(f"{base}.key", f"{base}.pem"),
            f"{base}.csr",
            base.with_suffix(".ext"),
        )
        hidden = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
        key = [word for word in _KEY if word != "-nodes"] + hidden
        opened = ["-passin", f"pass:{passphrase}"] if passphrase else []
        _openssl("req", "-new", *key, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        extensions.write_text(
            f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
        )
        ca = ["-CA", self._own.cert, "-CAkey", self._own.key, "-CAcreateserial"]
        _openssl(
            "x509",
            "-req",
            "-in",
            request,
            "-out",
            pair.cert,
            "-days",
            "2",
            *ca,
            *opened,
            "-extfile",
            str(extensions),
        )
        return pair


_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
