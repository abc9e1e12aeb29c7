"""Folders that the server's user could not write in: the engine makes every new one for root.

A volume mounted where the image has no folder, and a folder of this machine that was not there, come up as root's.
Whose a folder is, and the change, go through the engine's archive API (ContainerArchive, PutContainerArchive): no
program of the image is needed, and nothing runs as root.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from docker import errors

from himalia_spawner.base import ServerSpec
from himalia_spawner.containers.engine import Engine, words
from himalia_spawner.docker.container import Place
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.names import home_name

HELPER = "{container}-owner"
MOUNTED = "/himalia"
BLOCK = 512
SAME_TIME_S = 2.0


@dataclass(frozen=True, slots=True)
class Folder:
    """A mounted folder. `source` is a volume's name or a path of the engine's machine."""

    source: str
    target: str

    @property
    def is_volume(self) -> bool:
        """Whether the engine keeps it, as against a folder that an administrator named."""
        return not self.source.startswith("/")


@dataclass(frozen=True, slots=True)
class Top:
    """Whose a folder is. `is_empty` tells one that the engine just made from one that somebody filled."""

    uid: int
    gid: int
    mode: int
    is_empty: bool

    def lets_in(self, uid: int, gid: int | None) -> bool:
        """Whether this user can write in it, by its mode alone."""
        if self.uid == uid:
            return bool(self.mode & 0o200)
        return bool(self.mode & (0o020 if self.gid == gid else 0o002))


def folders(spec: ServerSpec, settings: DockerSettings) -> list[Folder]:
    """What may be given to the server's user: writable volumes, and folders that are one person's or server's own."""
    slots = {"user": home_name(spec.files_of), "server": spec.ref.name, "home": settings.home}
    found = []
    for name, place in settings.volumes.items():
        target, _, mode = place.format(**slots).partition(":")
        personal = "{user}" in name or "{server}" in name
        if "ro" not in mode.split(",") and (personal or not name.startswith("/")):
            found.append(Folder(name.format(**slots), target))
    return found


def account(user: str) -> tuple[int, int | None]:
    """`"1000:100"` as numbers; no group is whatever the engine takes."""
    uid, _, gid = user.partition(":")
    return int(uid), int(gid) if gid else None


class Ownership:
    """Gives new folders of root's to the server's user, and remembers volumes that need no look any more."""

    def __init__(self, engine: Engine, settings: DockerSettings, place: Place) -> None:
        self._engine, self._settings, self._place = engine, settings, place
        self._settled: set[tuple[str, str]] = set()
        self._first_seen: dict[tuple[str, str], float] = {}

    async def settle(
        self, spec: ServerSpec, container_id: str, image_id: str, births: Mapping[str, str] | None = None
    ) -> None:
        """Make every folder of a server that is made and not started its user's, where it is root's and new.

        `births` tells when each volume was made, so that one that was removed and made again is looked at again.
        """
        if spec.guest is not None:
            return  # the hub made its home, as its account's
        uid, gid = account(self._settings.user)
        theirs: dict[Folder, Top] = {}
        for folder in folders(spec, self._settings):
            mark = (folder.source, (births or {}).get(folder.source, ""))
            if mark in self._settled:
                continue
            top = await self._engine.ask(partial(_look, container_id=container_id, target=folder.target))
            if top.uid == 0 and not top.lets_in(uid, gid) and (folder.is_volume or top.is_empty):
                theirs[folder] = Top(uid, top.gid if gid is None else gid, top.mode, top.is_empty)
            elif mark[1] and self._is_one_volumes(mark):
                self._settled.add(mark)
        if theirs:
            await self._give(spec, image_id, theirs)

    def _is_one_volumes(self, mark: tuple[str, str]) -> bool:
        """Whether no other volume of the name can have been made at the same time: the engine tells whole seconds."""
        now = time.monotonic()
        if now - self._first_seen.setdefault(mark, now) < SAME_TIME_S:
            return False
        del self._first_seen[mark]
        return True

    async def _give(self, spec: ServerSpec, image_id: str, theirs: Mapping[Folder, Top]) -> None:
        helper = HELPER.format(container=self._place.container(spec.ref.name))
        try:
            await self._engine.ask(partial(_give, helper=helper, image_id=image_id, theirs=theirs))
        except errors.APIError as error:
            names = ", ".join(repr(folder.source) for folder in theirs)
            raise SpawnRefused(
                f"user {self._settings.user} cannot write in {names}, and the engine cannot change that "
                f"({words(error)}); give it to that user by hand"
            ) from error

    async def clear(self, name: str) -> None:
        """Remove what a hub that was killed in the middle left; it would hold the volumes."""
        helper = HELPER.format(container=self._place.container(name))
        await self._engine.ask(partial(_remove, helper=helper))


def _look(client: Any, *, container_id: str, target: str) -> Top:
    """Whose `target` is. Its archive begins with itself; the rest is never read."""
    url = f"{client.base_url}/v{client.api_version}/containers/{container_id}/archive"
    plain = {"Accept-Encoding": "identity"}
    with client.get(
        url, params={"path": target}, headers=plain, stream=True, timeout=client.timeout
    ) as answer:
        client._raise_for_status(answer)
        start = answer.raw.read(2 * BLOCK)
    head = tarfile.TarInfo.frombuf(start[:BLOCK], tarfile.ENCODING, "surrogateescape")
    return Top(head.uid, head.gid, head.mode, is_empty=not any(start[BLOCK:]))


def _give(client: Any, *, helper: str, image_id: str, theirs: Mapping[Folder, Top]) -> None:
    """Unpack an archive that holds nothing but the folders themselves, with their new owner.

    The engine never changes the folder that it unpacks into. So they lie one level below it, in a container that is
    never started.
    """
    binds = [f"{folder.source}:{MOUNTED}/{number}" for number, folder in enumerate(theirs)]
    _remove(client, helper=helper)
    host = client.create_host_config(binds=binds, network_mode="none")
    made = client.create_container(image_id, command=["never-started"], name=helper, host_config=host)
    try:
        url = f"{client.base_url}/v{client.api_version}/containers/{made['Id']}/archive"
        answer = client.put(
            url, params={"path": MOUNTED}, data=_archive(list(theirs.values())), timeout=client.timeout
        )
        client._raise_for_status(answer)
    finally:
        _remove(client, helper=helper)


def _archive(tops: list[Top]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for number, top in enumerate(tops):
            head = tarfile.TarInfo(str(number))
            head.type, head.mode, head.uid, head.gid = tarfile.DIRTYPE, top.mode & 0o7777, top.uid, top.gid
            tar.addfile(head)
    return content.getvalue()


def _remove(client: Any, *, helper: str) -> None:
    try:
        client.remove_container(helper, v=True, force=True)
    except errors.NotFound:
        return
