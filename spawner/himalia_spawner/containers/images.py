"""Images: allowed or not, there or pulled, with our server in them or not."""

from __future__ import annotations

import asyncio
import fnmatch
import json
from collections.abc import Callable, Iterator
from typing import Any

from docker import errors
from docker.api.client import APIClient

from himalia_spawner.base import Say
from himalia_spawner.containers.asked import COMMAND_LABEL, REPO2DOCKER_LABEL, USUAL_PATH, Image
from himalia_spawner.containers.engine import Engine, words
from himalia_spawner.containers.settings import ContainerSettings
from himalia_spawner.errors import SpawnRefused

PULL_S = 3600.0
TOLD_EVERY = 10
"""Percent between two sentences about a pull."""


async def ensure(engine: Engine, settings: ContainerSettings, name: str, say: Say) -> Image:
    """The image of this name, pulled where the policy says so. SpawnRefused when it cannot be had."""
    name = name or settings.image
    if settings.allowed_images and not any(fnmatch.fnmatchcase(name, p) for p in settings.allowed_images):
        raise SpawnRefused(
            f"the image {name!r} is not allowed here; {settings.table}.allowed_images lists what is"
        )
    found = await inspect(engine, name)
    if settings.pull == "always" or (settings.pull == "missing" and found is None):
        await _pull(engine, name, say, there=found is not None)
        found = await inspect(engine, name)
    if found is None:
        raise SpawnRefused(
            f"the image {name!r} is not on this machine and {settings.table}.pull is {settings.pull!r}; "
            f"docker pull {name}, or build it"
        )
    return found


async def built(engine: Engine, name: str) -> Image:
    """The image that was built here under this name. SpawnRefused when it is gone: nobody else has it."""
    found = await inspect(engine, name)
    if found is None:
        raise SpawnRefused(f"the image {name!r} is not on this machine any more; open the link again")
    return found


async def inspect(engine: Engine, name: str) -> Image | None:
    """What is known of an image that is there."""
    try:
        found = await engine.see(lambda client: client.inspect_image(name))
    except errors.ImageNotFound:
        return None
    except errors.APIError as error:
        raise SpawnRefused(f"{name!r} cannot be an image: {words(error)}") from error
    config = found.get("Config") or {}
    labels = config.get("Labels") or {}
    entrypoint = tuple(config.get("Entrypoint") or ()) if REPO2DOCKER_LABEL in labels else ()
    variables = dict(pair.partition("=")[::2] for pair in config.get("Env") or [])
    repository, _ = _split(name.partition("@")[0])
    # Of a name it was not pulled by, other machines may know nothing.
    digests = (one for one in found.get("RepoDigests") or () if one.partition("@")[0] == repository)
    digest = next(digests, "")
    command = _command(name, labels.get(COMMAND_LABEL, ""))
    return Image(found["Id"], command, variables.get("PATH") or USUAL_PATH, digest, entrypoint)


def _command(name: str, label: str) -> tuple[str, ...]:
    if not label:
        return ()
    try:
        command = json.loads(label)
    except ValueError:
        command = None
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise SpawnRefused(
            f"label {COMMAND_LABEL} of image {name!r} is {label!r}; it must be a JSON list of texts"
        )
    return tuple(command)


async def _pull(engine: Engine, name: str, say: Say, *, there: bool) -> None:
    loop = asyncio.get_running_loop()
    say(f"Pulling the image {name}")
    repository, tag = _split(name)

    def tell(sentence: str) -> None:
        loop.call_soon_threadsafe(say, sentence)

    def pull(client: APIClient) -> None:
        _follow(client.pull(repository, tag=tag, stream=True, decode=True), tell)

    try:
        await engine.ask(pull, within_s=PULL_S)
    except (errors.APIError, _PullFailed) as error:
        why = words(error) if isinstance(error, errors.APIError) else str(error)
        if there:
            say(f"The image could not be renewed ({why}); going on with the one that is here")
            return
        raise SpawnRefused(f"the image {name!r} cannot be pulled: {why}{_remedy(why)}") from error


def _remedy(why: str) -> str:
    if any(sign in why.lower() for sign in ("unauthorized", "no basic auth", "denied")):
        return "; `docker login` as the hub's account gives it a way in"
    return ""


class _PullFailed(Exception):
    """The stream of a pull said that it failed."""


def _follow(lines: Iterator[dict[str, Any]], tell: Callable[[str], None]) -> None:
    """Read a pull to its end. The share is of the layers' bytes that are known so far."""
    layers: dict[str, tuple[int, int]] = {}
    told = 0
    for line in lines:
        if "error" in line:
            raise _PullFailed(str(line["error"])[:300])
        detail = line.get("progressDetail") or {}
        if line.get("status") == "Downloading" and detail.get("total"):
            layers[str(line.get("id"))] = (int(detail["current"]), int(detail["total"]))
            done, total = (sum(each) for each in zip(*layers.values(), strict=True))
            percent = done * 100 // total
            if percent >= told + TOLD_EVERY:
                told = percent - percent % TOLD_EVERY
                tell(f"Pulling the image: {percent} % of {total / 2**20:.0f} MB")
    tell("The image is here")


def _split(name: str) -> tuple[str, str | None]:
    """Repository and tag; a digest stays with the repository, and no tag is `latest`."""
    if "@" in name:
        return name, None
    head, _, tag = name.rpartition(":")
    return (head, tag) if head and "/" not in tag else (name, "latest")
