"""TLS contexts from key and certificate files, for clients, the API and targets; files are read again on change."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from himalia_proxy.errors import StartError

# Forward secrecy and authenticated encryption only; TLS 1.3 has suites of its own (Mozilla's "intermediate").
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!eNULL:!MD5:!DSS:!PSK:!SRP"
_VERSIONS: Final = {
    "tlsv1_2": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    "tlsv1_3": (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
    "tls": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED),
    "sslv23": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED),
}


@dataclass(frozen=True)
class Tuning:
    """What all contexts of a process have in common. `versions` are the least and the greatest spoken."""

    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = _VERSIONS["tls"]
    ciphers: str = CIPHERS
    dhparam: str | None = None


@dataclass(frozen=True)
class TlsFiles:
    """One side's files. `option` is the prefix of its options, for messages: `--ssl`, `--api-ssl`, `--client-ssl`."""

    option: str
    key: str | None = None
    cert: str | None = None
    ca: str | None = None
    request_cert: bool = False
    reject_unauthorized: bool = False
    passphrase: str | None = field(default=None, repr=False)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files there are."""
        return tuple(path for path in (self.key, self.cert, self.ca) if path)


def versions(name: str) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    """The versions that a protocol name of OpenSSL's stands for, such as `TLSv1_2`. StartError for one not spoken."""
    known = name.lower().replace(".", "_").removesuffix("_method").removesuffix("_server")
    if known not in _VERSIONS:
        raise StartError(
            f"--ssl-protocol {name!r} is not spoken: TLS 1.2 is the oldest that is safe. "
            "Give TLSv1_2 or TLSv1_3, or leave the option out for both."
        )
    return _VERSIONS[known]


def server_context(files: TlsFiles, tuning: Tuning) -> ssl.SSLContext:
    """For a listener. StartError names the option whose file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Ours are all good, so the client's order counts: it knows whether its machine is quicker with AES-128 or, without
    # instructions for AES, with ChaCha20 (Mozilla's advice). Of a list that somebody gives, the first that both speak.
    if tuning.ciphers == CIPHERS:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    # One ticket, as Go's servers give, not two: a connection resumes with one, and each costs 30 of 330 µs.
    context.num_tickets = 1
    _tune(context, tuning)
    if tuning.dhparam is not None:
        _use("--ssl-dhparam", lambda: context.load_dh_params(str(tuning.dhparam)))
    _load_pair(context, files)
    if files.request_cert:
        context.verify_mode = ssl.CERT_REQUIRED if files.reject_unauthorized else ssl.CERT_OPTIONAL
        _trust(context, files, ssl.Purpose.CLIENT_AUTH)
    return context


def client_context(files: TlsFiles | None, tuning: Tuning, *, insecure: bool) -> ssl.SSLContext:
    """For https targets: verified by the target's own name unless `insecure`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _tune(context, tuning)
    _trust(context, files, ssl.Purpose.SERVER_AUTH)
    if files is not None and files.cert is not None:
        _load_pair(context, files)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tune(context: ssl.SSLContext, tuning: Tuning) -> None:
    context.minimum_version, context.maximum_version = tuning.versions
    try:
        context.set_ciphers(tuning.ciphers)
    except ssl.SSLError:
        raise StartError(
            f"--ssl-ciphers {tuning.ciphers!r} leaves no cipher: `openssl ciphers -v` explains the list."
        ) from None


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    assert files.cert is not None

    def passphrase() -> str:
        if files.passphrase is None:
            name = f"CONFIGPROXY_{files.option[2:].replace('-', '_').upper()}_KEY_PASSPHRASE"
            raise StartError(f"{files.option}-key {files.key!r} is protected by a passphrase: set {name}.")
        return files.passphrase

    said = f"{files.option}-key {files.key!r} or {files.option}-cert {files.cert!r}"
    _use(said, lambda: context.load_cert_chain(str(files.cert), files.key, password=passphrase))


def _trust(context: ssl.SSLContext, files: TlsFiles | None, purpose: ssl.Purpose) -> None:
    if files is None or files.ca is None:
        context.load_default_certs(purpose)
        return
    _use(f"{files.option}-ca {files.ca!r}", lambda: context.load_verify_locations(files.ca))


def _use(said: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        raise StartError(f"{said} cannot be used: {error}.") from None


class Watched:
    """Tells when files were replaced, by what stat(2) says of them: a renewed certificate is a new file."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple(paths)
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether a file is another one than at the last call."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
