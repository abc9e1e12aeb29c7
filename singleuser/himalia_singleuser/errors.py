"""The error tree of the Jupyter REST API.

ApiError            any answer of the form {"message", "reason"}
├── BadRequest      400
├── Forbidden       403
├── NotFound        404
├── Conflict        409
├── PreconditionFailed 412
├── TooLarge        413
└── NotImplementedYet  501
"""

from __future__ import annotations


class ApiError(Exception):
    """What the client did or asked for cannot be done; the message says what and how to put it right."""

    status: int = 500
    default_message: str = "Unhandled error"

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        reason: str | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)
        if status is not None:
            self.status = status
        self.reason = reason
        self.extra = extra or {}

    def body(self) -> dict[str, object]:
        """The JSON answer. `extra` carries what some routes add (sessions: short_message)."""
        return {"message": self.message, "reason": self.reason, **self.extra}


class BadRequest(ApiError):
    """The request itself is wrong; repeating it changes nothing."""

    status = 400
    default_message = "Bad Request"


class Forbidden(ApiError):
    """Not signed in, not allowed, or the file system refuses."""

    status = 403
    default_message = "Forbidden"


class NotFound(ApiError):
    """There is nothing of that name, or nothing the caller may see."""

    status = 404
    default_message = "Not Found"


class Conflict(ApiError):
    """Something of that name is already there."""

    status = 409
    default_message = "Conflict"


class PreconditionFailed(ApiError):
    """The file is no longer what the client last saw (If-Match)."""

    status = 412
    default_message = "Precondition Failed"


class TooLarge(ApiError):
    """More bytes than this route takes."""

    status = 413
    default_message = "Request Entity Too Large"


class NotImplementedYet(ApiError):
    """The thing asked for cannot be provided here, for example an unknown kernelspec."""

    status = 501
    default_message = "Not Implemented"
