"""A person's files go with the person, not with the name: by whichever name they are kept, it is nobody else's."""

from __future__ import annotations

from component.hub.hub_site import Site
from himalia_hub.users import changes, homes
from himalia_hub.users.models import User


async def files_of(hub: Site, user: User) -> str:
    return await hub.db.write(lambda db: homes.files_of(db, user.id))


async def rename(hub: Site, user: User, wanted: str) -> None:
    async with hub.db.begin() as db:
        await changes.rename(db, await db.get_one(User, user.id), wanted)


async def test_files_stay_with_the_renamed_and_never_pass_to_who_has_the_name_next(hub_on_each: Site) -> None:
    hub = hub_on_each
    first = await hub.person("ada")
    assert await files_of(hub, first) == "ada"

    await rename(hub, first, "grace")
    namesake = await hub.person("ada-2")  # whom the second Ada's files must not be put with
    second = await hub.person("ada")
    found = [await files_of(hub, user) for user in (first, namesake, second)]
    await rename(hub, second, "mary")
    third = await hub.person("ada-3")
    await rename(hub, first, "ada")

    assert found == ["ada", "ada-2", "ada-3"]
    assert [await files_of(hub, user) for user in (first, second)] == ["ada", "ada-3"]
    assert await files_of(hub, third) == "ada-3-2"


async def test_who_was_renamed_at_once_has_files_of_their_own_too(hub_on_each: Site) -> None:
    hub = hub_on_each
    first = await hub.person("ada")
    await rename(hub, first, "grace")
    second = await hub.person("ada")
    await rename(hub, second, "mary")

    assert await files_of(hub, first) != await files_of(hub, second)
