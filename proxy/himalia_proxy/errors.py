"""What can go wrong while a message is read or a process is started, drawn at the top."""

from __future__ import annotations


class ProxyProcessError(Exception):
    """The root of what a proxy process raises itself."""


class BadRequest(ProxyProcessError):
    """A client's message that must not be forwarded; `str()` is the sentence it is answered with."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class BadResponse(ProxyProcessError):
    """A target's message that cannot be relayed without guessing where it ends."""


class BadTarget(ProxyProcessError):
    """A target URL that no request could ever be sent to."""


class StartError(ProxyProcessError):
    """The proxy cannot start; `str()` names the option or address and the remedy."""


class Unreachable(ProxyProcessError):
    """No connection to the target, or it was lost before the answer began."""


class Refusal(ProxyProcessError):
    """An API call that is answered with a status other than success."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
