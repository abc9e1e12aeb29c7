"""The Docker engine: its SDK in bounded threads, its errors as ours.

The SDK blocks. Every question runs in a pool of its own, with a time limit, so that a slow engine can hold up
neither the hub nor more threads than `concurrency`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
import requests
from docker import errors
from docker.api.client import APIClient

from himalia_spawner.containers.transport import close_failed_connects
from himalia_spawner.errors import BackendGone, SpawnFailed, SpawnRefused

OLDEST_API = "1.41"
T = TypeVar("T")


def connect(url: str, timeout_s: float | None) -> APIClient:
    """A client of its own connections, at the engine's own version. BackendGone when nobody answers."""
    try:
        asking = _client(url, OLDEST_API, timeout_s)
        try:
            version = str(asking.version(api_version=False)["ApiVersion"])
        finally:
            asking.close()
        if _version(version) < _version(OLDEST_API):
            raise SpawnRefused(
                f"the Docker engine speaks API {version}; {OLDEST_API} (Docker 20.10) is the oldest supported"
            )
        return _client(url, version, timeout_s)
    except (errors.DockerException, requests.RequestException, OSError) as error:
        raise BackendGone(f"the Docker engine{f' at {url}' if url else ''} does not answer") from error


def _client(url: str, version: str, timeout_s: float | None) -> APIClient:
    kwargs: dict[str, Any] = {"version": version, "timeout": timeout_s}
    client = APIClient(base_url=url, **kwargs) if url else docker.from_env(**kwargs).api
    close_failed_connects(client)
    return client


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


class Engine:
    """Asks one engine. A connection is made at the first question, and again after the engine was away."""

    def __init__(self, url: str, *, timeout_s: float, concurrency: int) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._client: APIClient | None = None
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="docker")

    @property
    def where(self) -> str:
        """For sentences: which engine."""
        return f"the Docker engine at {self.url}" if self.url else "the Docker engine"

    async def ask(self, question: Callable[[APIClient], T], *, within_s: float | None = None) -> T:
        """The answer to `question(client)`. BackendGone when there is none in time; docker.errors pass.

        A thread whose answer is waited for no longer ends by the SDK's own time limit.
        """
        limit = self._timeout_s + 5 if within_s is None else within_s
        work = functools.partial(self._ask, question)
        try:
            return await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(self._threads, work), limit
            )
        except TimeoutError:
            raise BackendGone(f"{self.where} does not answer within {limit:g} seconds") from None

    async def see(self, question: Callable[[APIClient], T]) -> T:
        """The answer to a question that changes nothing. Here a 5xx tells of the engine, not of what was asked for."""
        try:
            return await self.ask(question)
        except errors.APIError as error:
            if error.is_server_error():
                raise BackendGone(
                    f"{self.where} answers with an error ({error.status_code}: {words(error)})"
                ) from error
            raise

    def _ask(self, question: Callable[[APIClient], T]) -> T:
        if self._client is None:
            self._client = connect(self.url, self._timeout_s)
        try:
            return question(self._client)
        except errors.APIError as error:
            if error.status_code is not None and error.status_code >= 500 and _is_starting_or_ending(error):
                raise BackendGone(f"{self.where} is not ready: {words(error)}") from error
            raise
        except requests.Timeout as error:
            raise BackendGone(f"{self.where} does not answer within {self._timeout_s:g} seconds") from error
        except (requests.RequestException, OSError) as error:
            raise BackendGone(f"{self.where} does not answer") from error

    def stream(self) -> APIClient:
        """A client without a time limit, for streams; blocking, and the caller closes it."""
        return connect(self.url, None)

    async def close(self) -> None:
        """Let go of connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()
            self._client = None


def _is_starting_or_ending(error: errors.APIError) -> bool:
    text = words(error).lower()
    # A refused unix socket is containerd's; a refused address is a registry's, and says nothing of the engine.
    refused = "dial unix" in text and "connection refused" in text
    return refused or any(word in text for word in ("shutting down", "context canceled"))


def words(error: errors.APIError) -> str:
    """What the engine said, without the SDK's own frame around it."""
    explanation = error.explanation
    text = (
        explanation.decode(errors="replace") if isinstance(explanation, bytes) else str(explanation or error)
    )
    return " ".join(text.split())[:500]


def refusal(error: errors.APIError) -> SpawnFailed | SpawnRefused:
    """An engine's no to making or starting a container, classified."""
    text = words(error)
    lower = text.lower()
    if "no space left" in lower:
        return SpawnFailed(f"the engine's disk is full: {text}; remove unused images or make room")
    if any(
        sign in lower
        for sign in ("executable file not found", "no such file or directory", "permission denied")
    ):
        return SpawnRefused(f"the command cannot be run in this image: {text}")
    return SpawnRefused(f"the engine refuses: {text}")
