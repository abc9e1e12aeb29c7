"""The errors of the hub. One tree, drawn here; the middleware turns them into JSON or a page.

HimaliaError
├── ConfigError            the configuration cannot be used (stops the start)
├── BadRequest       400   what was sent cannot be understood or is not allowed to be that value
├── NotAuthenticated 403   no valid credentials (JupyterHub answers 403, never 401)
├── NotAuthorized    403   credentials without the needed right
├── NotFound         404   no such thing, or none that this caller may know of
├── Conflict         409   it exists already, or is between states
├── TooMany          429   a limit or a back-off; `retry_after_s` says when to come back
├── SpawnProblem     500   a server could not be started; carries cause and last log lines
├── UnderMaintenance 503   no start is accepted just now (notices/maintenance.py)
└── Unavailable      503   the database, proxy or backend cannot be reached just now
"""

from __future__ import annotations


class HimaliaError(Exception):
    """Base of all errors that people may see. `str()` is one sentence; `status` is the HTTP answer."""

    status = 500
    code = "error"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigError(HimaliaError):
    """The configuration cannot be used. The message lists every problem with its key and source."""

    code = "config"


class BadRequest(HimaliaError):
    """What was sent cannot be used; the message names the value and what would be right."""

    status = 400
    code = "bad-request"


class NotAuthenticated(HimaliaError):
    """No valid credentials came with the request."""

    status = 403
    code = "not-authenticated"

    def __init__(self, message: str = "Missing or invalid credentials.", *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)


class NotAuthorized(HimaliaError):
    """The credentials are good but do not carry the right."""

    status = 403
    code = "not-authorized"


class NotFound(HimaliaError):
    """There is no such thing, or none that this caller may know of."""

    status = 404
    code = "not-found"


class Conflict(HimaliaError):
    """It exists already, or it is between two states."""

    status = 409
    code = "conflict"


class TooMany(HimaliaError):
    """A limit is reached; come back after `retry_after_s` seconds."""

    status = 429
    code = "too-many"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SpawnProblem(HimaliaError):
    """A server could not be started; `log_tail` holds the last lines it wrote."""

    code = "spawn-failed"

    def __init__(self, message: str, *, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_tail = log_tail


RETRY_AFTER_S = 5
"""When to come back after a 503 that says nothing else."""


class Unavailable(HimaliaError):
    """Something the hub depends on cannot be reached just now."""

    status = 503
    code = "unavailable"


class FolderLost(HimaliaError):
    """A file that the hub needs was deleted, moved or replaced while it ran; it has ended."""

    code = "folder-lost"

    def __init__(self, path: object) -> None:
        super().__init__(f"{str(path)!r} was deleted, moved or replaced while the hub ran")
        self.remedy = (
            "put it back, or restore a backup, and start the hub again: in an empty folder it is a new one"
        )


def sentence(error: Exception) -> str:
    """What a person is told of an error: what is wrong and, where that is known, what to do about it."""
    said, remedy = str(error), getattr(error, "remedy", "")
    between = " " if said.endswith((".", "!", "?")) else "; "
    return between.join(part for part in (said, remedy) if part)
