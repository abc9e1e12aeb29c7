"""The two ways to make a session's environment: a virtualenv of this machine's, or an image of the engine's."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from himalia_hub.ephemeral import installer, repo2docker
from himalia_hub.ephemeral.blueprint import INSTALLER, Blueprint, blueprint
from himalia_hub.ephemeral.environment import CannotHonour, NeedsRepo2docker, Recipe, fits, recipe
from himalia_hub.ephemeral.folders import Files, Folders, folders_of
from himalia_hub.ephemeral.ground import uids_for
from himalia_hub.ephemeral.installer import BuildFailed, Say
from himalia_hub.ephemeral.models import Launch
from himalia_hub.ephemeral.session import image_name
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.servers.world import World
from himalia_spawner.base import BuildsImages, ImageBuilder, ImageOrder
from himalia_spawner.errors import BackendGone, SpawnError
from himalia_spawner.limits import cpu_count, memory_bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """The environment that a commit asks for: its key, and the files that say so."""

    key: str
    files: tuple[str, ...]


class Maker(Protocol):
    """Makes environments. All of it may be repeated: a hub may have been killed at any point of it."""

    async def wanted(self, launch: Launch) -> Wanted:
        """What the launch's commit, checked out by now, asks for. CannotHonour says what cannot be."""

    async def is_ready(self, key: str) -> bool:
        """Whether it is there, whole."""

    async def make(self, launch: Launch, say: Say) -> int:
        """Make the launch's environment; its bytes. BuildFailed, CannotHonour."""

    async def remove(self, key: str) -> None:
        """Remove it. No session uses it."""


def maker_of(world: World) -> Maker:
    """Images where the spawner builds them, else virtualenvs."""
    folders, section = folders_of(world.settings, world.secrets), world.settings.ephemeral
    if isinstance(world.spawner, BuildsImages):
        return Images(section, folders, world.spawner.images, hub=world.secrets.hub_id)
    return Virtualenvs(section, folders, passable=bool(uids_for(world)))


class Virtualenvs:
    """Virtualenvs below one folder, made by uv."""

    def __init__(self, section: EphemeralSection, folders: Folders, *, passable: bool) -> None:
        self._section, self._folders, self._passable = section, folders, passable

    async def wanted(self, launch: Launch) -> Wanted:
        """By the content of the environment files, the interpreter and the index."""
        found = await self._recipe(launch)
        key = found.key(python=await self._python(found), index_url=self._section.index_url)
        return Wanted(key, found.files)

    async def is_ready(self, key: str) -> bool:
        """Whether its mark is there, which is written last."""
        return installer.is_ready(self._folders.environments / key)

    async def make(self, launch: Launch, say: Say) -> int:
        """At its final place."""
        found = await self._recipe(launch)
        return await installer.make(
            found, self._folders.environments / launch.environment, python=await self._python(found),
            index_url=self._section.index_url, cache=self._folders.cache,
            seconds=self._section.build_timeout_s, most=self._section.environment_max_bytes, say=say,
        )  # fmt: skip

    async def remove(self, key: str) -> None:
        """Its folder."""
        await asyncio.to_thread(shutil.rmtree, self._folders.environments / key, ignore_errors=True)

    async def _recipe(self, launch: Launch) -> Recipe:
        checkout = self._folders.checkout(launch.url, launch.commit)
        return await asyncio.to_thread(lambda: recipe(Files(checkout)))

    async def _python(self, found: Recipe) -> str:
        wanted = found.python or self._section.python
        version = installer.version_of(wanted)
        if found.needs and version is not None and not fits(version, found.needs):
            if found.python:
                raise CannotHonour(
                    f"runtime.txt says Python {found.python}, and pyproject.toml requires {found.needs[:40]!r}.",
                    remedy="Make them agree.",
                )
            wanted = found.needs
        return await installer.find_python(wanted, passable=self._passable)


class Images:
    """Images of the engine that runs the sessions."""

    def __init__(
        self, section: EphemeralSection, folders: Folders, engine: ImageBuilder, *, hub: str
    ) -> None:
        self._section, self._folders, self._engine, self._hub = section, folders, engine, hub

    async def wanted(self, launch: Launch) -> Wanted:
        """By the Dockerfile and what it copies, and by what the base image is now."""
        found = await self._blueprint(launch)
        if found is None:
            files = await asyncio.to_thread(lambda: repo2docker.files_read(Files(self._checkout(launch))))
            return Wanted(repo2docker.key(launch.commit, self._section.repo2docker_options), files)
        base = "" if found.own else await self._base_id()
        return Wanted(found.key(base=base, commit=launch.commit), found.read)

    async def is_ready(self, key: str) -> bool:
        """Whether the engine has it. ConnectionError while it does not answer: the step is tried again."""
        try:
            return await self._engine.id_of(image_name(self._hub, key)) is not None
        except BackendGone as error:
            raise ConnectionError(str(error)) from error

    async def make(self, launch: Launch, say: Say) -> int:
        """Within the limits of a build."""
        found = await self._blueprint(launch)
        if found is None:
            return await self._by_repo2docker(launch, say)
        section, checkout = self._section, self._checkout(launch) if found.whole else None
        memory, cpus = section.build_mem_limit, section.build_cpu_limit
        labels = _labels(launch, commit=launch.commit if found.whole else "")
        try:
            with tempfile.NamedTemporaryFile(prefix="context-", dir=self._folders.cache) as context:
                await asyncio.to_thread(pack, Path(context.name), found, checkout)
                order = ImageOrder(
                    image_name(self._hub, launch.environment), context.name, labels,
                    seconds=section.build_timeout_s, most=section.environment_max_bytes,
                    memory=None if memory is None else memory_bytes(memory),
                    cpus=None if cpus is None else cpu_count(cpus),
                )  # fmt: skip
                return await self._engine.build(order, say)
        except BackendGone as error:
            raise BuildFailed(_sentence(error), remedy="Try again later.") from error
        except SpawnError as error:
            remedy = installer.remedy_for(str(error), "Mend the repository's files.")
            raise BuildFailed(_sentence(error), remedy=remedy) from error

    async def remove(self, key: str) -> None:
        """The image; its layers go with it, where no other has them."""
        with contextlib.suppress(BackendGone):
            await self._engine.remove(image_name(self._hub, key))

    async def _by_repo2docker(self, launch: Launch, say: Say) -> int:
        section, name = self._section, image_name(self._hub, launch.environment)
        order = repo2docker.Order(
            self._checkout(launch), launch.commit, name,
            {**_labels(launch, commit=launch.commit), **self._engine.labels}, self._engine.url,
        )  # fmt: skip
        program = repo2docker.found(section.repo2docker_command)
        scratch = self._folders.cache / f"repo2docker-{launch.environment[:32]}"
        await repo2docker.build(
            program, order, section.repo2docker_options, scratch=scratch,
            seconds=section.build_timeout_s, say=say,
        )  # fmt: skip
        try:
            return await self._engine.must_fit(name, section.environment_max_bytes)
        except BackendGone as error:
            raise BuildFailed(_sentence(error), remedy="Try again later.") from error
        except SpawnError as error:
            raise BuildFailed(_sentence(error), remedy="Ask an administrator.") from error

    def _checkout(self, launch: Launch) -> Path:
        return self._folders.checkout(launch.url, launch.commit)

    async def _blueprint(self, launch: Launch) -> Blueprint | None:
        """What we build; None where repo2docker does."""
        checkout, section = self._checkout(launch), self._section
        builder = section.rule(launch.provider, launch.spec).builder

        def read() -> Blueprint | None:
            files = Files(checkout)
            # A Dockerfile repo2docker only passes on, and ours are built within limits and from allowed bases.
            if builder == "repo2docker" and "Dockerfile" not in files:
                return None
            try:
                return blueprint(
                    files, base=section.base_image or self._engine.base, index_url=section.index_url,
                    bases=section.allowed_bases, folder=files.folder,
                )  # fmt: skip
            except NeedsRepo2docker:
                if builder == "either":
                    return None
                raise

        return await asyncio.to_thread(read)

    async def _base_id(self) -> str:
        """Of an image that is pulled as it is first built from, its name stands for it."""
        name = self._section.base_image or self._engine.base
        try:
            return await self._engine.id_of(name) or name
        except BackendGone as error:
            raise BuildFailed(_sentence(error), remedy="Try again later.") from error
        except SpawnError as error:
            raise CannotHonour(_sentence(error), remedy="Ask an administrator.") from error


def _labels(launch: Launch, *, commit: str) -> dict[str, str]:
    """What an image says of itself; one that only holds packages is of no commit."""
    return {
        "himalia.environment": launch.environment,
        "himalia.repository": launch.url,
        "himalia.commit": commit,
    }


def _sentence(error: SpawnError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def pack(target: Path, found: Blueprint, checkout: Path | None) -> None:
    """Write the context of a build as a tar: the installer, what was generated, and the repository where it is needed.

    Links stay links: whatever they point at is looked for in the container. Blocking.
    """
    written = {"Dockerfile": found.dockerfile, **found.files}
    with tarfile.open(target, "w") as tar:
        for name, text in written.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
        if not found.own:
            tar.add(installer.uv(), INSTALLER, filter=_nobodys)
        if checkout is not None:
            for path in sorted(checkout.iterdir()):
                if path.name not in written:
                    tar.add(path, path.name, filter=_nobodys)


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same for every hub, so that the engine finds its layers again."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info
