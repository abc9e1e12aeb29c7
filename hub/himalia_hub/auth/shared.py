"""One password for everybody: workshops, and benches that need none."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, SecretStr, model_validator

from himalia_hub.auth.base import Context, PasswordWay, Person, Traits
from himalia_hub.errors import BadRequest, ConfigError
from himalia_hub.users import store as users

LEAST = 8


class SharedPassword:
    """Any name, one password. Nobody is, or becomes, an administrator by it."""

    traits = Traits(vouches=False, claims=False, instant=True)

    class Settings(BaseModel, extra="forbid", frozen=True):
        """[auth.methods.NAME] with `kind = "shared-password"` — any name and one password, for a workshop."""

        password: SecretStr | None = Field(
            None, description=f"the password of everybody, {LEAST} characters or more"
        )
        password_file: Path | None = Field(
            None, description="file that holds it instead, on its first line; relative: in the data folder"
        )

        @model_validator(mode="after")
        def _one(self) -> Self:
            if (self.password is None) == (self.password_file is None):
                raise ValueError("set password or password_file, one of them")
            if self.password is not None:
                _long_enough(self.password.get_secret_value())
            return self

    def __init__(self, settings: Settings, context: Context) -> None:
        if settings.password is not None:
            wanted = settings.password.get_secret_value()
        else:
            assert settings.password_file is not None  # the model saw to it
            try:
                wanted = (
                    (context.data_dir / settings.password_file).read_text().partition("\n")[0].rstrip("\r")
                )
                _long_enough(wanted)
            except (OSError, ValueError) as error:
                raise ConfigError(f"auth.methods.{context.name}.password_file: {error}") from None
        self._wanted = wanted.encode()
        self.realm = f"shared:{context.name}"

    async def check(self, name: str, password: str) -> Person | None:
        """Whoever they say they are."""
        if not hmac.compare_digest(password.encode(errors="replace"), self._wanted):
            return None
        return _named(name)

    async def close(self) -> None:
        """Nothing is held."""


class Dummy:
    """Any name and any password but an empty one: for benches on a loopback address, never for people."""

    traits = Traits(vouches=False, claims=False, instant=True)

    class Settings(BaseModel, extra="forbid", frozen=True):
        """[auth.methods.NAME] with `kind = "dummy"` — anybody comes in under any name. For benches only."""

        i_know_that_this_lets_everybody_in: bool = Field(False, description="must be true")

    def __init__(self, settings: Settings, context: Context) -> None:
        if not settings.i_know_that_this_lets_everybody_in:
            raise ConfigError(
                f"auth.methods.{context.name} lets everybody in under any name; for a bench, say "
                "i_know_that_this_lets_everybody_in = true"
            )
        self.realm = f"dummy:{context.name}"

    async def check(self, name: str, password: str) -> Person | None:
        """Whoever they say they are, as long as they type something."""
        return _named(name) if password else None

    async def close(self) -> None:
        """Nothing is held."""


def _named(name: str) -> Person | None:
    try:
        clean = users.normalise(name)
    except BadRequest:
        return None
    return Person(subject=clean, name=clean)


def _long_enough(password: str) -> None:
    if len(password) < LEAST:
        raise ValueError(f"a password of {len(password)} characters; {LEAST} are needed")


_fits: tuple[type[PasswordWay], ...] = (SharedPassword, Dummy)
