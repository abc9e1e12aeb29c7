"""What can go wrong with a backend, classified so that the hub knows whether to try again."""

from __future__ import annotations

from himalia_spawner.base import Cause


class SpawnError(Exception):
    """A backend could not do what it was asked; `str()` is one sentence for a person."""

    retryable = False
    cause = Cause.CRASHED

    def __init__(self, message: str, *, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class SpawnRefused(SpawnError):
    """The request itself cannot be honoured (no such system user, command not found): do not retry."""

    cause = Cause.REFUSED


class SpawnFailed(SpawnError):
    """The server was tried and did not come to life; `log_tail` holds its last words."""


class BackendGone(SpawnError):
    """The backend cannot be asked just now; what it holds is unknown. Ask again later."""

    retryable = True
    cause = Cause.ENGINE_GONE
