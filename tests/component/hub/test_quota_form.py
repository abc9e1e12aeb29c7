"""Quotas set from pages: at the next start, and on the member's home."""

from __future__ import annotations

from component.hub.hub_site import Client, Site
from himalia_hub.groups import store as groups
from himalia_hub.usage.models import Quota

FORM = {"of": "user", "name": "ann"}


async def opened(hub: Site, name: str, client: Client) -> str:
    assert (await client.login(name)).status == 302
    return (await client("GET", "/hub/home")).xsrf


async def test_a_quota_of_a_group_counts_at_the_next_start_and_shows_on_a_members_home(
    hub_on_each: Site,
) -> None:
    hub = hub_on_each
    ann = await hub.person("ann")
    await hub.person("root", admin=True)
    async with hub.db.begin() as db:
        await groups.add(db, await groups.create(db, "ml"), [ann])
    async with hub.client() as root, hub.client() as member:
        xsrf = await opened(hub, "root", root)
        own = await opened(hub, "ann", member)
        form = {"_xsrf": xsrf, "of": "group", "name": "ml", "servers": "1", "memory": "8G"}

        done = await root("POST", "/hub/admin/quota", data=form)
        shown = (await root("GET", "/hub/admin/groups")).text
        home = (await member("GET", "/hub/home")).text
        refused = await member("POST", "/hub/spawn/ann", data={"_xsrf": own})
        await root("POST", "/hub/admin/quota", data=form | {"memory": ""})
        started = await member("POST", "/hub/spawn/ann", data={"_xsrf": own})
        second = await member("POST", "/hub/home/start", data={"_xsrf": own, "server": "two"})

    assert (done.status, done.location) == (303, "/hub/admin/groups#group-ml")
    assert 'name="memory" autocomplete="off" size="7" maxlength="20" value="8G"' in shown
    assert "0 of 1 server with the group <bdi>ml</bdi>" in home
    assert "0 GB of 8 GB memory with the group <bdi>ml</bdi>" in home
    assert "counts memory, and this server would have no limit of it" in refused.text
    assert started.status in (302, 303)
    assert "The quota of the group &#39;ml&#39; is 1 server at once" in second.text


async def test_what_is_no_amount_is_named_and_all_fields_empty_is_the_configuration_again(
    hub_on_each: Site,
) -> None:
    hub = hub_on_each
    for name in ("ann", "root"):
        await hub.person(name, admin=name == "root")
    async with hub.client() as root, hub.client() as ann:
        xsrf, own = await opened(hub, "root", root), await opened(hub, "ann", ann)
        wrong = await root("POST", "/hub/admin/quota", data=FORM | {"_xsrf": xsrf, "memory": "much"})
        less = await root("POST", "/hub/admin/quota", data=FORM | {"_xsrf": xsrf, "servers": "-1"})
        done = await root("POST", "/hub/admin/quota", data=FORM | {"_xsrf": xsrf, "cpus": "0.5"})
        page = (await root("GET", "/hub/admin/people?name=ann")).text
        assert await hub.count(Quota) == 1
        await root("POST", "/hub/admin/quota", data=FORM | {"_xsrf": xsrf})
        nobody = await root("POST", "/hub/admin/quota", data={"_xsrf": xsrf, "of": "user", "name": "gone"})
        not_hers = await ann("POST", "/hub/admin/quota", data=FORM | {"_xsrf": own, "servers": "9"})

    assert wrong.status == less.status == 400
    assert "&#39;much&#39; is no amount of memory" in wrong.text
    assert (done.status, done.location) == (303, "/hub/admin/people?name=ann")
    assert 'value="0.5"' in page
    assert await hub.count(Quota) == 0
    assert (nobody.status, not_hers.status) == (404, 403)
