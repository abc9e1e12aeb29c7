"""The machine's own accounts as a way to sign in, through PAM."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
from pathlib import Path

import structlog
from pydantic import BaseModel, Field

from himalia_hub.auth.base import Context, PasswordWay, Person, Traits, WayDown
from himalia_hub.errors import ConfigError

log = structlog.get_logger()

AT_ONCE = 4
SERVICES = Path("/etc/pam.d")


class Pam:
    """Names and passwords that PAM accepts. As another user than root, most set-ups know only that user's own."""

    traits = Traits()

    class Settings(BaseModel, extra="forbid", frozen=True):
        """[auth.methods.NAME] with `kind = "pam"` — accounts of the machine."""

        service: str = Field(
            "login", pattern=r"^[A-Za-z0-9_.-]+$", description="file in /etc/pam.d that decides"
        )
        least_uid: int = Field(1000, ge=0, description="accounts below are the system's and cannot sign in")
        timeout_s: float = Field(20, gt=0, description="how long PAM may take")

    def __init__(self, settings: Settings, context: Context) -> None:
        try:
            import pam  # noqa: F401 -- asked for in another process; whether it is there is said at the start
        except ImportError as error:
            raise ConfigError(f"auth.methods.{context.name}: {error}; pip install 'himalia[pam]'") from None
        if not (SERVICES / settings.service).is_file():
            raise ConfigError(
                f"auth.methods.{context.name}.service: there is no {SERVICES / settings.service}"
            )
        self._settings, self._name = settings, context.name
        self._free = asyncio.Semaphore(AT_ONCE)
        self.realm = f"pam:{settings.service}"

    async def check(self, name: str, password: str) -> Person | None:
        """The account, if PAM says that the password is right and the account may be used."""
        if not password or "\0" in name + password:
            return None
        # Unknown names are asked for too: how long PAM takes must not tell them apart.
        right = await self._ask(name, password)
        account = _account(name)
        if not right or account is None or account.pw_uid < self._settings.least_uid:
            return None
        return Person(subject=account.pw_name, name=account.pw_name)

    async def _ask(self, name: str, password: str) -> bool:
        question = json.dumps({"service": self._settings.service, "name": name, "password": password})
        async with self._free:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "himalia_hub.auth.pam_helper",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            )  # fmt: skip
            try:
                said, _ = await asyncio.wait_for(
                    process.communicate(question.encode()), self._settings.timeout_s
                )
            except TimeoutError:
                said = b"no answer in time"
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode in (0, 1):
            return process.returncode == 0
        log.warning("login.pam_unusable", method=self._name, cause=said.decode(errors="replace")[:200])
        raise WayDown(
            "The machine's accounts cannot be asked just now.", remedy="The hub's log says why. Try again."
        )

    async def close(self) -> None:
        """Nothing is held."""


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL or a lone surrogate
        return None


_fits: type[PasswordWay] = Pam
