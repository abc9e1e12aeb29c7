"""What ways to sign in gave to keep: encrypted, shown to few, and moved from key to key."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site, site
from component.hub.test_login_ways import outside
from himalia_hub.auth import state
from himalia_hub.auth.base import Person
from himalia_hub.auth.door import enter
from himalia_hub.auth.models import ExternalIdentity
from himalia_hub.auth.vault import VAULT, Vault
from himalia_hub.cli import main
from himalia_hub.errors import ConfigError
from himalia_hub.secrets import Secrets
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User

KEPT = {"token": {"access_token": "canary of the provider"}, "n": 1}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


def key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def vault(file: Path, *keys: str) -> Vault:
    file.write_text("\n".join(keys) + "\n")
    return Vault.of(HubSettings(data_dir=file.parent, auth={"crypt_keys_file": file}), Secrets(b"x" * 32))


async def visit(hub: Site, kept: dict[str, object] | None = KEPT) -> User:
    person = Person("7", "ann", state=kept)
    return await enter(hub.db, outside(allow_all=True), person, vault=hub.app[VAULT])


async def stored(hub: Site) -> str | None:
    async with hub.db.read() as db:
        return await db.scalar(sa.select(ExternalIdentity.state))


async def test_it_lies_encrypted_and_only_the_right_to_it_shows_it(hub: Site) -> None:
    await visit(hub)
    root = await hub.person("root", admin=True)

    assert "canary" not in str(await stored(hub))
    async with hub.client(await hub.token(root)) as admin:
        assert (await admin("GET", "/hub/api/users/ann")).json["auth_state"] == KEPT
        listed = (await admin("GET", "/hub/api/users")).text
    assert "canary" not in listed
    async with hub.client(await hub.token(root, "read:users")) as reader:
        assert "auth_state" not in (await reader("GET", "/hub/api/users/ann")).json


async def test_each_sign_in_replaces_it_and_one_without_forgets_it(hub: Site) -> None:
    ann = await visit(hub)
    await visit(hub, {"n": 2})
    async with hub.db.read() as db:
        assert await state.of_user(db, hub.app[VAULT], ann.id) == {"n": 2}

    await visit(hub, None)

    assert await stored(hub) is None


async def test_a_key_is_rotated_without_losing_anything(hub: Site, tmp_path: Path) -> None:
    await visit(hub)  # under the key made from the hub's secret
    old, new, file = key(), key(), tmp_path / "keys"
    for keys in ((old,), (new, old)):
        async with hub.db.begin() as db:
            assert await state.rekey(db, vault(file, *keys)) == (1, 0)

    assert vault(file, new).open(str(await stored(hub))) == KEPT
    assert vault(file, old).open(str(await stored(hub))) is None
    async with hub.db.begin() as db:
        assert await state.rekey(db, vault(file, old)) == (0, 1)  # kept as it is, and said


async def test_a_changed_row_is_not_read(hub: Site) -> None:
    ann = await visit(hub)
    locked = str(await stored(hub))
    async with hub.db.begin() as db:
        await db.execute(sa.update(ExternalIdentity).values(state=locked[:-6] + "AAAAAA"))
    async with hub.db.read() as db:
        assert await state.of_user(db, hub.app[VAULT], ann.id) is None


@pytest.mark.parametrize("content", ["", "short", "ä" * 44, "A" * 43 + "!"])
def test_a_file_without_a_usable_key_stops_the_start(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match="crypt_keys_file"):
        vault(tmp_path / "keys", content)


async def test_the_command_says_what_it_did(
    hub: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await visit(hub)
    (tmp_path / "secret").write_bytes(b"y" * 32)  # not the one that it was encrypted with
    (tmp_path / "secret").chmod(0o600)

    code = await asyncio.to_thread(main, ["db", "rekey", "--data", str(tmp_path)])

    said = capsys.readouterr()
    assert code == 1
    assert "1 value was encrypted with a key that is not in the file" in said.err
