"""What can go wrong with a kernel, each with the status the REST API answers.

ApiError
├── NoSuchKernel    404
├── NoSuchSpec      400  (404 where the spec itself is the resource)
├── KernelWontStart 400
├── KernelExists    409
└── KernelSilentError    504
FrameError          not an answer: the WebSocket is closed with 1007
"""

from __future__ import annotations

from collections.abc import Iterable

from himalia_singleuser.errors import ApiError, BadRequest, Conflict, NotFound


class NoSuchKernel(NotFound):
    """No kernel of that id runs here; it was shut down, culled or never started."""

    def __init__(self, kernel_id: str) -> None:
        super().__init__(f"Kernel does not exist: {kernel_id}")


class NoSuchSpec(BadRequest):
    """The kernelspec asked for is not installed."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        have = ", ".join(sorted(known)) or "none"
        super().__init__(f"Kernel spec {name} not found. Installed kernels: {have}.")
        self.name = name


class KernelWontStart(BadRequest):
    """The operating system refused to start the kernel's program."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Kernel {name} cannot start: {why}")
        self.name = name


class KernelExists(Conflict):
    """A kernel of the id asked for already runs."""

    def __init__(self, kernel_id: str) -> None:
        super().__init__(f"Kernel already exists: {kernel_id}")


class KernelSilentError(ApiError):
    """The process runs but did not answer `kernel_info_request` in time."""

    status = 504

    def __init__(self, kernel_id: str, waited_s: float) -> None:
        super().__init__(f"Kernel {kernel_id} did not answer within {waited_s:g} seconds.")


class FrameError(ValueError):
    """A client's WebSocket frame does not follow the protocol it chose; the text says where."""
