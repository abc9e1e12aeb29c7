"""Passwords: hashed with scrypt from the standard library, kept in a file of one line.

Hashes that Jupyter Server makes (`argon2:...`, `sha1:salt:hash`) are understood too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

COST, BLOCK, LANES = 2**15, 8, 3
"""32 MB and some 0.2 s for each guess: what OWASP asks of scrypt."""
MEMORY = 64 * 2**20
LONGEST = 1024
LARGEST_FILE = 4096
KINDS = ("scrypt:", "argon2:", "sha1:")


class BadPasswordError(Exception):
    """The password or its file cannot be used: the message says why."""


def hash_password(password: str) -> str:
    """The line to keep."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=LANES, maxmem=MEMORY)
    packed = [base64.urlsafe_b64encode(part).decode() for part in (salt, digest)]
    return f"scrypt:{COST}:{BLOCK}:{LANES}:{packed[0]}:{packed[1]}"


def matches(kept: str, given: str) -> bool:
    """Whether `given` is the password of the line. Slow on purpose: call it from a thread, one at a time."""
    if len(given) > LONGEST:
        return False
    kind, _, rest = kept.partition(":")
    password = given.encode("utf-8", "surrogateescape")
    try:
        if kind == "scrypt":
            cost, block, lanes, salt, digest = rest.split(":")
            made = hashlib.scrypt(
                password,
                salt=base64.urlsafe_b64decode(salt),
                n=int(cost),
                r=int(block),
                p=int(lanes),
                maxmem=MEMORY,
            )
            return hmac.compare_digest(made, base64.urlsafe_b64decode(digest))
        if kind == "sha1":
            salt, digest = rest.split(":")
            made_hex = hashlib.sha1(password + salt.encode(), usedforsecurity=False).hexdigest()
            return hmac.compare_digest(made_hex, digest)
        return kind == "argon2" and _argon2(rest, password)
    except ValueError:
        return False


def _argon2(rest: str, password: bytes) -> bool:
    # Imported here: only who brings a hash of Jupyter Server's own needs it.
    try:
        import argon2
    except ImportError:
        return False
    try:
        return argon2.PasswordHasher().verify(rest, password)
    except argon2.exceptions.Argon2Error:
        return False


@dataclass(slots=True)
class PasswordFile:
    """The file, read again whenever it changed: a new password counts at once."""

    path: Path
    _stamp: tuple[int, int, int] | None = None
    _kept: str = field(default="", repr=False)

    def current(self) -> str:
        """The line, empty when there is no password. One stat when nothing changed."""
        try:
            status = self.path.stat()
        except OSError:
            self._stamp, self._kept = None, ""
            return ""
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp:
            with contextlib.suppress(BadPasswordError):
                self._stamp, self._kept = stamp, read(self.path)
        return self._kept


def read(path: Path) -> str:
    """The hash in a file; BadPasswordError when there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.read(LARGEST_FILE).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BadPasswordError(f"the password file {str(path)!r} cannot be read: {reason}") from None
    if not line.startswith(KINDS) or "\n" in line:
        raise BadPasswordError(
            f"{str(path)!r} holds no password hash: make one with --set-password --password-file {path}"
        )
    return line


def ask_and_set(path: Path) -> int:
    """`--set-password`: ask (or read one line of a pipe) and keep the hash. The exit code."""
    try:
        password = _ask()
        _write(path, hash_password(password))
    except BadPasswordError as error:
        sys.stderr.write(f"himalia singleuser: {error}\n")
        return 2
    except (KeyboardInterrupt, EOFError):
        return 130
    sys.stdout.write(f"The password is set in {path}. Everybody who was signed in must sign in again.\n")
    return 0


def _ask() -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        password = getpass("New password: ")
        if getpass("The same again: ") != password:
            raise BadPasswordError("the two passwords differ: nothing was changed")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not 8 <= len(password) <= LONGEST:
        raise BadPasswordError("a password needs at least 8 characters: nothing was changed")
    return password


def _write(path: Path, line: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(line + "\n")
        os.replace(draft, path)
    except OSError as error:
        raise BadPasswordError(f"{str(path)!r} cannot be written: {error.strerror}") from None
