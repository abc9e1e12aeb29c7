"""Signing in at an OpenID provider: a real one, and one that lies."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from component.hub.hub_site import Answer, Client, site
from component.hub.openid import SECRET, LyingProvider, RealProvider, asked_for, lying_provider, sign_in_there
from himalia_hub.auth import oidc
from himalia_hub.auth.base import Context, RedirectWay
from himalia_hub.auth.contract import RedirectWayContract
from himalia_hub.auth.models import ExternalIdentity
from himalia_hub.auth.oidc import Oidc
from himalia_hub.auth.registry import find_plugin
from himalia_hub.errors import ConfigError
from himalia_hub.users.models import User
from hubs import free_port

CALLBACK = "http://hub.test/hub/login/campus/callback"


def settings(issuer: str, **more: Any) -> dict[str, Any]:
    return {"client_id": "himalia", "client_secret": SECRET, "issuer": issuer} | more


def methods(issuer: str, **more: Any) -> dict[str, Any]:
    way = settings(issuer, kind="oidc", title="Campus", allow_all=True) | more
    return {"methods": {"campus": way, "here": {"kind": "local"}}}


@pytest.fixture
async def provider() -> AsyncIterator[LyingProvider]:
    async with lying_provider() as running:
        yield running


@pytest.fixture
async def way(provider: LyingProvider, tmp_path: Path) -> AsyncIterator[Oidc]:
    made = Oidc(Oidc.Settings(**settings(provider.url)), Context("campus", None, tmp_path))
    yield made
    await made.close()


class TestOidc(RedirectWayContract):
    @pytest.fixture
    def way(self, way: Oidc) -> RedirectWay:
        return way


# ------------------------------------------------------------------ a real provider


async def go(browser: Client, name: str) -> Answer:
    """Through the button, the provider's pages, and back."""
    departure = await browser("GET", "/hub/login/campus?next=/hub/account")
    assert departure.status == 302, departure.text
    back = await sign_in_there(departure.location, name)
    return await browser("GET", "/hub/login" + back.partition("/hub/login")[2])


async def test_people_sign_in_at_a_real_provider_through_new_keys_and_while_it_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "FRESH_KEYS_S", 0.0)
    port = free_port()
    async with site(tmp_path, auth=methods(f"http://127.0.0.1:{port}")) as hub:
        await hub.person("root", admin=True)
        real = RealProvider(port, f"{hub.url}/hub/login/campus/callback", tmp_path / "provider.out")
        try:
            await real.start("one")
            async with hub.client() as browser:
                assert 'href="/hub/login/campus"' in (await browser("GET", "/hub/login")).text
                answer = await go(browser, "Ann")
                assert (answer.status, answer.location) == (302, "/hub/account")
                assert (await browser("GET", "/hub/api/user")).json["name"] == "ann"

                real.stop()
                assert (await browser("GET", "/hub/home")).status == 200  # who is in stays in
                async with hub.client() as late:
                    departure = await late("GET", "/hub/login/campus")
                    assert departure.status == 302  # the addresses are known
                    code = asked_for(departure.location)
                    away = await late("GET", f"/hub/login/campus/callback?code=x&state={code['state']}")
                    assert away.status == 503
                    assert "does not answer as it should" in away.text

            await real.start("two")
            async with hub.client() as browser:
                assert (await go(browser, "Ann")).status == 302
                assert (await browser("GET", "/hub/api/user")).json["name"] == "ann"
            async with hub.client() as browser:  # same e-mail address, somebody else
                assert (await go(browser, "bob")).status == 302
                assert (await browser("GET", "/hub/api/user")).json["name"] == "bob"
        finally:
            real.stop()
        assert await hub.count(ExternalIdentity) == 2


# ------------------------------------------------------------------ one that lies


async def come_back(way: Oidc, provider: LyingProvider, **query: str) -> Any:
    departure = await way.begin(CALLBACK)
    asked = asked_for(departure.url)
    provider.nonce = asked["nonce"]
    return await way.finish(CALLBACK, {"code": "good", "state": asked["state"]} | query, departure.kept)


async def test_what_goes_along_is_state_nonce_and_a_challenge(way: Oidc) -> None:
    departure = await way.begin(CALLBACK)
    asked = asked_for(departure.url)

    assert asked["state"] == departure.kept["state"]
    assert asked["nonce"] == departure.kept["nonce"]
    assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
    assert departure.kept["verifier"] not in departure.url
    assert asked["redirect_uri"] == CALLBACK


async def test_a_genuine_token_tells_who(way: Oidc, provider: LyingProvider) -> None:
    person = await come_back(way, provider)

    assert (person.subject, person.name, person.state) == ("77", "ann", None)


NOW = int(time.time())


@pytest.mark.parametrize(
    "lie",
    [
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "another"}},
        {"claims": {"aud": ["himalia", "another"]}},
        {"claims": {"aud": ["himalia", "another"], "azp": "another"}},
        {"claims": {"azp": "another"}},
        pytest.param({"claims": {"exp": NOW - 3600}}, id="an hour over"),
        {"claims": {"nonce": "of another departure"}},
        {"claims": {"sub": ""}},
        {"claims": {"sub": None}},
        {"claims": {"sub": ["77"]}},
        {"drop": ("sub",)},
        {"drop": ("nonce",)},
        {"drop": ("exp",)},
        {"drop": ("aud",)},
        {"drop": ("iss",)},
        {"drop": ("preferred_username",)},
        {"claims": {"preferred_username": 7}},
    ],
    ids=str,
)
async def test_a_token_that_is_not_quite_right_is_nobody(
    way: Oidc, provider: LyingProvider, lie: dict[str, Any]
) -> None:
    for key, value in lie.items():
        setattr(provider, key, value)

    assert await come_back(way, provider) is None


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({"groups": ["maths", "staff", 7, None]}, ["maths", "staff"]),
        ({"groups": "staff"}, ["staff"]),
        ({"groups": {"staff": True}}, []),
        ({}, []),
    ],
    ids=str,
)
async def test_a_claim_names_groups_and_only_its_strings_do(
    provider: LyingProvider, tmp_path: Path, claims: dict[str, Any], groups: list[str]
) -> None:
    provider.claims = claims | {"name": "Ann Ärmel"}
    way = Oidc(
        Oidc.Settings(**settings(provider.url)), Context("campus", None, tmp_path, groups_from="groups")
    )
    try:
        person = await come_back(way, provider)
    finally:
        await way.close()

    assert (person.groups, person.display_name) == (set(groups), "Ann Ärmel")


def unsigned(provider: LyingProvider) -> str:
    body = provider.made().split(".")[1]
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    return f"{head}.{body}."


async def test_a_token_without_a_right_signature_is_nobody(way: Oidc, provider: LyingProvider) -> None:
    """CVE-2023-25574, CVE-2026-46354: the signature was not looked at."""
    departure = await way.begin(CALLBACK)
    provider.nonce = departure.kept["nonce"]
    right = provider.made()
    forger = RSAKey.generate_key(2048, {"kid": "one"})
    for token in (
        unsigned(provider),
        right[:-4] + "AAAA",
        right.rpartition(".")[0] + ".",
        LyingProvider(provider.url, forger, nonce=provider.nonce).made(),
        "x",
        "",
    ):
        provider.token = token or " "
        query = {"code": "good", "state": departure.kept["state"]}
        assert await way.finish(CALLBACK, query, departure.kept) is None, token


async def test_a_new_key_is_fetched_once_it_is_used(
    way: Oidc, provider: LyingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await come_back(way, provider) is not None
    provider.key, provider.header = RSAKey.generate_key(2048, {"kid": "two"}), {"alg": "RS256", "kid": "two"}
    assert await come_back(way, provider) is None  # not asked more often than every 10 s
    assert provider.asked.count("keys") == 1

    monkeypatch.setattr(oidc, "FRESH_KEYS_S", 0.0)

    assert await come_back(way, provider) is not None
    assert provider.asked.count("description") == 1


@pytest.mark.parametrize(
    "query",
    [{"state": "of another browser"}, {"code": "stolen"}, {"iss": "https://evil.example"}, {"code": ""}],
)
async def test_an_answer_that_was_not_asked_for_is_nobody(
    way: Oidc, provider: LyingProvider, query: dict[str, str]
) -> None:
    assert await come_back(way, provider, **query) is None


async def test_another_browsers_way_back_signs_nobody_in(provider: LyingProvider, tmp_path: Path) -> None:
    async with (
        site(tmp_path, auth=methods(provider.url)) as hub,
        hub.client() as mallory,
        hub.client() as ann,
    ):
        await hub.person("root", admin=True)
        asked = asked_for((await mallory("GET", "/hub/login/campus")).location)
        provider.nonce = asked["nonce"]
        back = f"/hub/login/campus/callback?code=good&state={asked['state']}"

        refused = await ann("GET", back)

        assert refused.status == 403
        assert "Signing in with Campus did not work" in refused.text
        assert (await mallory("GET", back)).status == 302
        assert (await mallory("GET", back)).status == 403  # and only once


# ------------------------------------------------------------------ who may come in

UNVERIFIED = [None, False, "true", "false", 0, 1, [], {}]


@pytest.mark.parametrize("verified", UNVERIFIED, ids=repr)
async def test_an_address_is_a_name_only_when_it_is_verified(
    provider: LyingProvider, tmp_path: Path, verified: object
) -> None:
    """CVE-2026-33175, CVE-2026-55076: an address that nobody had verified, or of which that was said in another type."""
    way = Oidc(Oidc.Settings(**settings(provider.url, name_claim="email")), Context("g", None, tmp_path))
    try:
        provider.claims = {"email": "ann@example.org", "email_verified": verified}
        assert await come_back(way, provider) is None
        provider.claims = {"email": "ann@example.org", "email_verified": True}
        assert (await come_back(way, provider)).name == "ann"
    finally:
        await way.close()


@pytest.mark.parametrize(
    ("more", "claims", "comes_in"),
    [
        ({"hosted_domain": "example.org"}, {"hd": "example.org"}, True),
        ({"hosted_domain": "example.org"}, {}, False),
        ({"hosted_domain": "example.org"}, {"hd": "evil-example.org"}, False),
        ({"hosted_domain": "example.org"}, {"hd": "example.org.evil"}, False),
        ({"required": {"groups": ["staff"]}}, {"groups": ["staff", "x"]}, True),
        ({"required": {"groups": ["staff"]}}, {"groups": "staff"}, True),
        ({"required": {"groups": ["staff"]}}, {"groups": ["staffs"]}, False),
        ({"required": {"groups": ["staff"]}}, {"groups": {"staff": True}}, False),
        ({"required": {"groups": ["staff"]}}, {}, False),
        ({"required": {"groups": ["a"], "x": ["b"]}}, {"groups": ["a"]}, False),
    ],
)
async def test_restrictions_only_take_away(
    provider: LyingProvider, tmp_path: Path, more: dict[str, Any], claims: dict[str, Any], comes_in: bool
) -> None:
    """CVE-2024-29033, CVE-2024-37300: a domain by the end of an address; a permission that undid a restriction."""
    way = Oidc(Oidc.Settings(**settings(provider.url, **more)), Context("g", None, tmp_path))
    try:
        provider.claims = claims
        assert (await come_back(way, provider) is not None) is comes_in
    finally:
        await way.close()


async def test_nobody_gets_an_account_by_its_name(provider: LyingProvider, tmp_path: Path) -> None:
    async with site(tmp_path, auth=methods(provider.url)) as hub, hub.client() as browser:
        await hub.person("ann", admin=True)
        asked = asked_for((await browser("GET", "/hub/login/campus")).location)
        provider.nonce = asked["nonce"]
        answer = await browser("GET", f"/hub/login/campus/callback?code=good&state={asked['state']}")

        assert answer.status == 403
        assert "belongs to another account" in answer.text
        assert await hub.count(User) == 1


async def test_one_that_speaks_plain_oauth_tells_who_by_its_own_claims(
    provider: LyingProvider, tmp_path: Path
) -> None:
    addresses = {
        "authorize_url": f"{provider.url}/auth",
        "token_url": f"{provider.url}/token",
        "userinfo_url": f"{provider.url}/user",
    }
    given = {"client_id": "himalia", "client_secret": SECRET, "preset": "github"} | addresses
    way = Oidc(Oidc.Settings(**given), Context("github", None, tmp_path))
    provider.profile = {"id": 4711, "login": "Ann-S", "email": None}
    try:
        departure = await way.begin(CALLBACK)
        query = {"code": "good", "state": departure.kept["state"]}
        person = await way.finish(CALLBACK, query, departure.kept)
        assert person is not None
        assert (person.subject, person.name) == ("4711", "Ann-S")
        provider.profile = {"login": "Ann-S"}
        assert await way.finish(CALLBACK, query, departure.kept) is None
    finally:
        await way.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"client_id": "x", "client_secret": "y"}, "set issuer"),
        ({"client_id": "x", "issuer": "https://id.example"}, "client_secret"),
        ({"client_id": "x", "client_secret": "y", "preset": "azure"}, "tenant"),
        ({"client_id": "x", "client_secret": "y", "issuer": "http://id.example"}, "must be https"),
        ({"client_id": "x", "client_secret": "y", "presets": "google"}, "did you mean 'preset'"),
        ({"client_secret": "y", "preset": "google"}, "client_id"),
    ],
)
def test_a_provider_that_is_half_described_stops_the_start(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        find_plugin("oidc").validate("campus", given)
    assert "'y'" not in str(caught.value)


@pytest.mark.parametrize("preset", ["google", "gitlab", "github", "azure"])
def test_every_preset_is_complete_with_a_client(preset: str) -> None:
    Oidc.Settings(preset=preset, client_id="x", client_secret="y", tenant="t")
