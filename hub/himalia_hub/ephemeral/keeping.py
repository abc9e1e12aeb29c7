"""Moving a session's work into a person's account: a copy first, then the session's end, safe to be killed anywhere."""

from __future__ import annotations

from typing import BinaryIO

from sqlalchemy.orm import Session

from himalia_hub.ephemeral import tree
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.models import Launch
from himalia_hub.ephemeral.session import slug_of
from himalia_hub.errors import HimaliaError, NotFound, SpawnProblem
from himalia_hub.faults import fault
from himalia_hub.servers.world import World
from himalia_hub.users import homes
from himalia_hub.users.models import User
from himalia_spawner.base import Person, TakesFiles, end_of
from himalia_spawner.errors import BackendGone, SpawnError


async def keep(world: World, folders: Folders, launch: Launch) -> str:
    """Copy the files into a new folder in the home of who asked; its name. HimaliaError says why they are not there.

    The session runs on meanwhile: should the copy fail, nothing is lost.
    """
    spawner, person = await _parties(world, launch)
    home, most = folders.home(launch), world.settings.ephemeral.download_max_bytes

    def write(sink: BinaryIO) -> None:
        tree.packed(home, sink, owner=launch.uid, most=most, end=end_of(launch.key))
        fault("launch.half_kept")

    try:
        return await spawner.take_in(person, slug_of(launch), launch.key, write)
    except BackendGone:
        raise
    except SpawnError as error:
        raise SpawnProblem(f"Your work could not be kept: {error}.") from error
    except OSError as error:
        raise SpawnProblem(f"The files of the session could not be read: {error.strerror}.") from error


async def forget(world: World, launch: Launch) -> None:
    """Once it is recorded, nothing in the home need remember it. A home that is gone forgot."""
    try:
        spawner, person = await _parties(world, launch)
        await spawner.taken_in(person, launch.key)
    except (HimaliaError, SpawnError):
        return


async def _parties(world: World, launch: Launch) -> tuple[TakesFiles, Person]:
    if not isinstance(world.spawner, TakesFiles):
        raise SpawnProblem("This hub cannot reach people's homes, so nothing can be kept there.")

    def whose(db: Session) -> Person | None:
        user = db.get(User, launch.keep_for) if launch.keep_for else None
        return None if user is None else Person(user.name, homes.files_of(db, user.id))

    person = await world.db.write(whose)
    if person is None:
        raise NotFound("The account that this was to be kept for is gone.")
    return world.spawner, person
