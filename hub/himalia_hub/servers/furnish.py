"""What a server gets that its person did not choose: the account, folder and environment of a throw-away session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from himalia_hub.servers.models import Server
from himalia_spawner.base import Guest, Limits, ServerSpec


@dataclass(frozen=True, slots=True)
class Furnishing:
    """Takes the place of what the configuration says for everybody's servers; `environment` is added to it."""

    guest: Guest
    environment: Mapping[str, str]
    limits: Limits
    image: str = ""

    def put_into(self, spec: ServerSpec) -> ServerSpec:
        """The specification with this in it. The server is always our own, whatever people's servers are."""
        env = {**spec.env, **self.environment}
        return replace(
            spec, guest=self.guest, env=env, limits=self.limits, image=self.image, command=(), args=()
        )


Furnish = Callable[[Session, Server], Furnishing | None]
"""Asked in the transaction of every start for a guest; None where there are none. BadRequest ends the start, with its
words."""


def nothing(_db: Session, _server: Server) -> Furnishing | None:
    """Every server is an ordinary one."""
    return None
