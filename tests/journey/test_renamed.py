"""Who is renamed finds their files, and who gets the name next does not."""

from __future__ import annotations

from hubs import Client, Hub, Launch
from support import eventually


async def look(admin: Client, hub: Hub, name: str) -> tuple[int, str]:
    """Start this person's server, ask it for the file, stop it."""
    status, body = await admin.call("POST", f"/users/{name}/server")
    assert status == 201, body
    url = f"{hub.url}/user/{name}/files/thesis.txt"
    async with admin.session.get(url, headers=admin.headers) as answer:
        found = answer.status, await answer.text()
    assert (await admin.call("DELETE", f"/users/{name}/server"))[0] in (202, 204)

    async def stopped() -> bool:
        return bool((await admin.server(name))["stopped"])

    await eventually(stopped, within_s=60, what=f"the server of {name} has stopped")
    return found


async def test_a_renamed_persons_server_has_their_files_and_the_next_of_the_name_none(launch: Launch) -> None:
    hub, admin = await launch()
    home = hub.data / "homes" / "ada"
    home.mkdir(parents=True)
    (home / "thesis.txt").write_text("precious")
    assert (await admin.call("POST", "/users/ada"))[0] == 201
    assert await look(admin, hub, "ada") == (200, "precious")

    status, model = await admin.call("PATCH", "/users/ada", json={"name": "grace"})
    assert (status, model["name"]) == (200, "grace")
    assert (await admin.call("POST", "/users/ada"))[0] == 201

    assert await look(admin, hub, "grace") == (200, "precious")
    assert (await look(admin, hub, "ada"))[0] == 404
