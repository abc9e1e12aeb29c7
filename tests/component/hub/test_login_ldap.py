"""A directory as a way to sign in, at Debian's own slapd; its programs `ldapsearch` and `ldapwhoami` ask it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import slapd
from component.hub.hub_site import site
from himalia_hub.auth.base import Context, WayDown
from himalia_hub.auth.contract import PasswordRig, PasswordWayContract
from himalia_hub.auth.ldap import Ldap, escaped, read_entries
from himalia_hub.auth.registry import find_plugin
from himalia_hub.errors import ConfigError

PEOPLE = {"ann": "Correct horse, battery", "bob": "another: ä long one", "cat": ""}


@pytest.fixture(scope="module")
def directory() -> Iterator[slapd.Directory]:
    with slapd.directory(PEOPLE) as running:
        yield running


@pytest.fixture
def settings(directory: slapd.Directory, tmp_path: Path) -> dict[str, object]:
    (tmp_path / "reader").write_text(slapd.READER_PASSWORD + "\n")
    return {
        "url": directory.tls,
        "base": slapd.PEOPLE,
        "bind_dn": slapd.READER,
        "bind_password_file": "reader",
        "ca_file": directory.ca,
    }


def way(settings: dict[str, object], folder: Path, **more: object) -> Ldap:
    return Ldap(Ldap.Settings.model_validate(settings | more), Context("campus", None, folder))


class TestLdap(PasswordWayContract):
    @pytest.fixture
    def rig(self, settings: dict[str, object], tmp_path: Path) -> PasswordRig:
        found = way(settings, tmp_path)
        return PasswordRig(found, "ann", PEOPLE["ann"], "bob", PEOPLE["bob"], spellings=("ANN", "Ann"))


class TestLdapByStartTls(PasswordWayContract):
    @pytest.fixture
    def rig(self, settings: dict[str, object], directory: slapd.Directory, tmp_path: Path) -> PasswordRig:
        found = way(settings, tmp_path, url=directory.plain)
        return PasswordRig(found, "ann", PEOPLE["ann"], "bob", PEOPLE["bob"])


async def test_somebody_without_a_password_does_not_come_in(settings, tmp_path: Path) -> None:
    for given_ in ("", "x", PEOPLE["ann"]):
        assert await way(settings, tmp_path).check("cat", given_) is None


async def test_an_entry_says_how_its_person_is_shown_and_what_groups_they_are_in(
    settings, tmp_path: Path
) -> None:
    context = Context("campus", None, tmp_path, groups_from="DepartmentNumber")

    ann = await Ldap(Ldap.Settings.model_validate(settings), context).check("ann", PEOPLE["ann"])

    assert ann is not None
    assert (ann.display_name, ann.groups) == ("ann", {"maths", "staff"})


async def test_a_filter_that_fits_several_people_lets_in_none_of_them(settings, tmp_path: Path) -> None:
    anybody = way(settings, tmp_path, filter="(|(uid={name})(objectClass=inetOrgPerson))")

    assert await anybody.check("ann", PEOPLE["ann"]) is None


async def test_a_filter_leaves_out_whom_it_does_not_fit(settings, tmp_path: Path) -> None:
    some = way(settings, tmp_path, filter="(&(uid={name})(!(sn=bob)))")

    assert await some.check("ann", PEOPLE["ann"]) is not None
    assert await some.check("bob", PEOPLE["bob"]) is None


async def test_a_directory_that_cannot_be_asked_is_no_wrong_password(
    settings, directory: slapd.Directory, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = nobody.getsockname()[1]
    (tmp_path / "wrong").write_text("not the reader's")
    for change in (
        {"url": f"ldap://127.0.0.1:{closed}"},
        {"bind_password_file": "wrong"},
        {"ca_file": None},  # the system trusts no such authority
    ):
        with pytest.raises(WayDown, match="directory cannot be asked"):
            await way(settings, tmp_path, **change).check("ann", PEOPLE["ann"])


async def test_without_the_attribute_that_never_changes_nobody_comes_in(settings, tmp_path: Path) -> None:
    assert (
        await way(settings, tmp_path, subject_attribute="employeeNumber").check("ann", PEOPLE["ann"]) is None
    )


async def test_people_of_a_directory_get_accounts_by_the_rules_of_the_hub(settings, tmp_path: Path) -> None:
    campus = settings | {"kind": "ldap", "allowed_users": ["c-ann"], "prefix": "c-"}
    async with site(tmp_path, auth={"methods": {"campus": campus}}) as hub:
        for name, password, status in (
            ("ann", PEOPLE["ann"], 302),
            ("Ann", PEOPLE["ann"], 302),
            ("ann", "wrong", 403),
            ("bob", PEOPLE["bob"], 403),
        ):
            async with hub.client() as browser:
                assert (await browser.login(name, password)).status == status, name
                if status == 302:
                    assert (await browser("GET", "/hub/api/user")).json["name"] == "c-ann"


async def test_no_password_stands_among_the_arguments_of_a_process(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ldapsearch", "ldapwhoami"):
        real = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        spy = folder / name
        spy.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/seen\nenv >> {tmp_path}/seen\nexec {real} "$@"\n'
        )
        spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    assert await way(settings, tmp_path).check("ann", PEOPLE["ann"]) is not None

    seen = (tmp_path / "seen").read_text()
    assert slapd.PEOPLE in seen
    for secret in (PEOPLE["ann"], slapd.READER_PASSWORD):
        assert secret not in seen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filter": "(uid=ann)"}, "no {name}"),
        ({"bind_dn": ""}, "or neither"),
        ({"without_tls": True}, "contradicts"),
        ({"url": "http://x"}, "pattern"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_words(settings, change, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Ldap.Settings.model_validate(settings | change)


def test_a_machine_without_the_programs_says_what_to_install(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="install OpenLDAP's clients"):
        way(settings, tmp_path)


def test_it_is_found_by_its_kind() -> None:
    assert find_plugin("ldap").factory is Ldap


@given(st.text(max_size=40))
def test_a_name_in_a_filter_is_only_a_value(name: str) -> None:
    written = escaped(name)

    assert not set(written) & set("()*&|=<>~!\n\0 ")
    assert all(part[:2].isalnum() for part in written.split("\\")[1:])


def test_ldif_is_read_with_its_encoded_values() -> None:
    entries = read_entries(
        "dn:: dWlkPcOkCg==\nuid: ann\nobjectGUID:: AP8B\n\n# comment\n\ndn: uid=bob\nuid: bob\nuid: x\n"
    )

    assert entries[0]["uid"] == ["ann"]
    assert entries[0]["objectguid"] == ["00ff01"]
    assert entries[1] == {"dn": ["uid=bob"], "uid": ["bob", "x"]}
