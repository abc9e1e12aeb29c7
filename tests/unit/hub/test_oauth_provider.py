from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.oauth.provider import (
    Refusal,
    ServerClient,
    ServiceClient,
    Wish,
    answer_url,
    possible_servers,
    read_wish,
    verifier_fits,
)
from himalia_hub.rbac.rules import Rules
from himalia_hub.rbac.settings import RoleSection
from himalia_hub.servers.spec import client_id

ANN = ServerClient("jupyterhub-user-ann", "/user/ann/oauth_callback", "ann", "")
# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
names = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=20)


@given(user=names, server=st.text(st.sampled_from("abz019-"), max_size=12))
def test_a_client_id_always_leads_back_to_its_server(user: str, server: str) -> None:
    assert (user, server) in possible_servers(client_id(user, server))


def test_an_ambiguous_id_names_every_server_it_can_mean() -> None:
    assert set(possible_servers("jupyterhub-user-a-b")) == {("a-b", ""), ("a", "b")}


@given(st.text(max_size=40) | st.text(max_size=40).map(lambda t: "jupyterhub-user-" + t))
def test_only_exact_spellings_mean_anything(text: str) -> None:
    assert all(client_id(*pair) == text for pair in possible_servers(text))


def test_the_proof_of_rfc_7636_fits_and_no_other() -> None:
    assert verifier_fits(CHALLENGE, "S256", VERIFIER)
    assert not verifier_fits(CHALLENGE, "S256", VERIFIER[:-1] + "x")
    assert not verifier_fits(CHALLENGE, "S256", None)
    assert not verifier_fits(CHALLENGE, "S256", CHALLENGE)
    assert verifier_fits(VERIFIER, "plain", VERIFIER)
    assert not verifier_fits(VERIFIER, "plain", "short")
    assert verifier_fits(None, None, "anything")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code", "scope": "admin:users"}, "invalid_scope"),
        ({"response_type": "code", "code_challenge": CHALLENGE, "code_challenge_method": "S512"}, "invalid_request"),
        ({"response_type": "code", "code_challenge": "short"}, "invalid_request"),
        ({"response_type": "code", "code_challenge_method": "S256"}, "invalid_request"),
        ({"response_type": "code", "state": "x" * 5000}, "invalid_request"),
    ],
)  # fmt: skip
def test_a_malformed_wish_is_refused_by_its_name(query: dict[str, str], error: str) -> None:
    refusal = read_wish(query, ANN)

    assert isinstance(refusal, Refusal)
    assert refusal.error == error


def test_without_a_scope_it_is_the_visit_that_is_asked_for() -> None:
    wish = read_wish({"response_type": "code", "state": "s", "scope": "identify"}, ANN)

    assert wish == Wish(("access:servers!server=ann/",), "s", None, None)


def test_a_service_is_given_what_it_names_in_part_or_spelled_out_and_all_it_may_where_it_names_nothing() -> (
    None
):
    service = ServiceClient(
        "service-x", "/services/x/oauth_callback", "x", ("read:servers!user", "read:users")
    )
    visit = "access:services!service=x"
    for named, wanted in (
        ("", ("read:servers!user", "read:users", visit)),
        ("identify", (visit,)),
        ("read:servers!user=ann", ("read:servers!user=ann", visit)),
        ("read:users:name", ("read:users:name", visit)),
        ("read:servers!user=bob", None),
        ("read:servers", None),
        ("nonsense", None),
    ):
        query = {"response_type": "code"} | ({"scope": named} if named else {})
        wish = read_wish(query, service, visitor="ann")
        assert (wish.scopes if isinstance(wish, Wish) else None) == wanted, named


def test_the_name_of_a_role_stands_for_its_scopes_which_must_be_allowed() -> None:
    roles = {
        name: RoleSection(name=name, scopes=[scope])
        for name, scope in (("reader", "read:users"), ("visitor", "access:servers!server=ann/"))
    }
    wishes = {
        name: read_wish({"response_type": "code", "scope": f"{name} identify"}, ANN, rules=Rules(roles))
        for name in roles
    }

    assert isinstance(wishes["reader"], Refusal)
    assert wishes["visitor"] == Wish(("access:servers!server=ann/",), "", None, None)


def test_the_answer_is_added_to_the_redirect_uri() -> None:
    assert answer_url("/x", code="a b", state="") == "/x?code=a+b"
    assert answer_url("/x?y=1", error="e", state="&") == "/x?y=1&error=e&state=%26"
