"""A directory (LDAP) as a way to sign in: the person's entry is looked for, then its password is tried.

The directory is asked by OpenLDAP's own programs, `ldapsearch` and `ldapwhoami`, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, Field, model_validator

from himalia_hub.auth.base import Context, PasswordWay, Person, Traits, WayDown
from himalia_hub.errors import ConfigError

log = structlog.get_logger()

AT_ONCE = 8
PROGRAMS = ("ldapsearch", "ldapwhoami")
WRONG = {49, 53}
"""Result codes of a bind that was refused: wrong password, or an account that may not (RFC 4511 §4.1.9)."""
NOTHING = {32}
"""Of a search below what does not exist, or may not be known to exist."""

SHOWN = ("displayName", "cn")
"""What people are shown as: RFC 2798 §2.3, RFC 4519 §2.3."""

Entry = dict[str, list[str]]


class Ldap:
    """Names and passwords of a directory."""

    traits = Traits(tells=True)

    class Settings(BaseModel, extra="forbid", frozen=True):
        """[auth.methods.NAME] with `kind = "ldap"` — people of a directory."""

        url: str = Field(
            max_length=90,
            pattern=r"^ldaps?://[^/\s]+/?$",
            description="`ldaps://HOST` or, with StartTLS, `ldap://HOST`",
        )
        base: str = Field(
            min_length=1,
            max_length=200,
            description="where the entries of people lie, such as `ou=people,dc=example,dc=org`",
        )
        filter: str = Field(
            "(uid={name})", description="which entry is a person's; `{name}` is what they typed"
        )
        name_attribute: str = Field("uid", description="attribute with the user name they get here")
        subject_attribute: str = Field(
            "entryUUID",
            description="attribute that never changes for one person and is never given to another; "
            "`objectGUID` in Active Directory",
        )
        bind_dn: str = Field("", description="account that looks for entries; empty: anonymously")
        bind_password_file: Path | None = Field(
            None, description="file with its password, on its first line; relative: in the data folder"
        )
        ca_file: Path | None = Field(
            None,
            description="certificates to trust, in PEM; relative: in the data folder; empty: those of the system",
        )
        without_tls: bool = Field(
            False, description="let passwords cross the network readable; only for an address of this machine"
        )
        timeout_s: int = Field(10, gt=0, description="how long the directory may take")

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if "{name}" not in self.filter:
                raise ValueError("filter has no {name}, so it would find the same entry for everybody")
            if bool(self.bind_dn) != (self.bind_password_file is not None):
                raise ValueError("set bind_dn and bind_password_file, or neither")
            if self.without_tls and self.url.startswith("ldaps:"):
                raise ValueError("without_tls contradicts ldaps://")
            return self

    def __init__(self, settings: Settings, context: Context) -> None:
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise ConfigError(
                f"auth.methods.{context.name}: {', '.join(missing)} not found; install OpenLDAP's clients (ldap-utils)"
            )
        self._settings, self._name, self._groups_from = settings, context.name, context.groups_from
        self._secret = ""
        if settings.bind_password_file is not None:
            try:
                text = (context.data_dir / settings.bind_password_file).read_text()
            except (OSError, ValueError) as error:
                raise ConfigError(f"auth.methods.{context.name}.bind_password_file: {error}") from None
            self._secret = text.partition("\n")[0].rstrip("\r")
        self._trusted = (
            {}
            if settings.ca_file is None
            else {"LDAPTLS_CACERT": str((context.data_dir / settings.ca_file).absolute())}
        )
        self._free = asyncio.Semaphore(AT_ONCE)
        self.realm = f"ldap:{settings.url.rstrip('/')}/{settings.base}"

    async def check(self, name: str, password: str) -> Person | None:
        """The person whose entry is found by this name, if the directory takes the password for it."""
        # A directory takes a name without a password for an anonymous visitor, and says yes (RFC 4513 §5.1.2).
        if not password or "\0" in name + password or not name.isprintable():
            return None
        entry = await self._find(name)
        # Unknown names are tried too: how long it takes must not tell them apart.
        dn = entry["dn"][0] if entry else f"cn=nobody,{self._settings.base}"
        right = await self._binds(dn, password)
        if entry is None or not right:
            return None
        subject, theirs = (_first(entry, each) for each in self._attributes)
        if not subject or not theirs:
            log.warning("login.ldap_entry_incomplete", method=self._name, dn=dn, needed=self._attributes)
            return None
        return Person(
            subject=subject,
            name=theirs,
            groups=frozenset(entry.get(self._groups_from.lower(), ())),
            display_name=_first(entry, *SHOWN),
        )

    @property
    def _attributes(self) -> tuple[str, str]:
        return self._settings.subject_attribute, self._settings.name_attribute

    async def _find(self, name: str) -> Entry | None:
        """The one entry of this name; None when there is none, or more than one."""
        told = self._settings
        options = ["-LLL", "-o", "ldif_wrap=no", "-l", str(told.timeout_s), "-z", "2", "-b", told.base]
        # What somebody typed goes in by a file: arguments can be read by everybody on this machine.
        wanted = told.filter.replace("%", "%%").replace("{name}", "%s")
        asked = [*self._attributes, *SHOWN, *filter(None, [self._groups_from])]
        code, said = await self._run(
            ["ldapsearch", *self._where(told.bind_dn), *options, "-f", "-", wanted, *asked],
            secret=self._secret if told.bind_dn else None,
            line=escaped(name),
        )
        if code not in {0, 4, *NOTHING}:  # 4: more than were asked for
            raise self._down(code, said)
        entries = read_entries(said) if code == 0 else []
        return entries[0] if len(entries) == 1 else None

    async def _binds(self, dn: str, password: str) -> bool:
        code, said = await self._run(["ldapwhoami", *self._where(dn)], secret=password)
        if code != 0 and code not in WRONG:
            raise self._down(code, said)
        return code == 0

    def _where(self, dn: str) -> list[str]:
        told = self._settings
        tls = ["-ZZ"] if told.url.startswith("ldap:") and not told.without_tls else []
        return ["-x", "-H", told.url, *tls, "-o", f"nettimeout={told.timeout_s}", *(["-D", dn] if dn else [])]

    async def _run(self, command: list[str], *, secret: str | None, line: str = "") -> tuple[int, str]:
        """Exit status, which is LDAP's result code, and what was said. The secret goes in by a pipe of its own."""
        async with self._free:
            with _secret_end(secret) as end:
                given = ["-y", f"/dev/fd/{end}"] if end is not None else []
                process = await asyncio.create_subprocess_exec(
                    command[0],
                    *given,
                    *command[1:],
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=() if end is None else (end,),
                    env=self._environment(),
                    cwd="/",
                )
            try:
                said, complained = await asyncio.wait_for(
                    process.communicate(line.encode() + b"\n"), 2 * self._settings.timeout_s
                )
            except TimeoutError:
                said, complained = b"", b"no answer in time"
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        code = process.returncode or 0
        return code, (said if code == 0 else complained or said).decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        """Nothing of the hub's, and no `ldaprc` of anybody: what is trusted stands in the configuration."""
        path = os.environ.get("PATH", os.defpath)
        return {
            "PATH": path,
            "LANG": "C.UTF-8",
            "HOME": "/nonexistent",
            "LDAPTLS_REQCERT": "demand",
            **self._trusted,
        }

    def _down(self, code: int, said: str) -> WayDown:
        host = urlsplit(self._settings.url).netloc
        log.warning("login.ldap_unusable", method=self._name, host=host, code=code, cause=said.strip()[:200])
        return WayDown("The directory cannot be asked just now.", remedy="The hub's log says why. Try again.")

    async def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _secret_end(secret: str | None) -> Iterator[int | None]:
    """The reading end of a pipe with the secret in it, None without one."""
    if secret is None:
        yield None
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, secret.encode(errors="replace"))  # 4 kB at most: a pipe holds 64
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def escaped(text: str) -> str:
    """As a value in a search filter (RFC 4515 §3): all but letters, digits and plain signs as hexadecimal. Pure."""
    return "".join(
        sign
        if sign.isascii() and (sign.isalnum() or sign in "@._-")
        else "".join(f"\\{byte:02x}" for byte in sign.encode(errors="replace"))
        for sign in text
    )


def read_entries(ldif: str) -> list[Entry]:
    """Entries of LDIF without line breaks inside values (RFC 2849); names in small letters, all values. Pure."""
    entries: list[Entry] = []
    for block in ldif.split("\n\n"):
        entry: Entry = {}
        for line in block.splitlines():
            name, separator, value = line.partition(":")
            if not separator or line.startswith("#"):
                continue
            if value.startswith(":"):
                raw = base64.b64decode(value[1:].strip())
                value = raw.decode() if _is_text(raw) else raw.hex()
            entry.setdefault(name.lower(), []).append(value.strip(" "))
        if "dn" in entry:
            entries.append(entry)
    return entries


def _first(entry: Entry, *names: str) -> str:
    """The first value of the first of these attributes that the entry has."""
    return next((entry[name.lower()][0] for name in names if name.lower() in entry), "")


def _is_text(raw: bytes) -> bool:
    try:
        return raw.decode().isprintable()
    except UnicodeDecodeError:
        return False


_fits: type[PasswordWay] = Ldap
