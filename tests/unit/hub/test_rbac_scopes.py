from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.errors import BadRequest
from himalia_hub.rbac import expand, roles
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.scopes import SCOPES, SELF

USERS = ("ann", "bob")
FILTERS = (
    "",
    *(f"!user={u}" for u in USERS),
    *(f"!server={u}/{s}" for u in USERS for s in ("", "x")),
    "!group=g",
)
scopes = st.builds(lambda name, tail: name + tail, st.sampled_from(sorted(SCOPES)), st.sampled_from(FILTERS))
sets = st.lists(scopes, max_size=6).map(lambda raw: expand.expand(tuple(raw), "ann"))
targets = st.tuples(st.sampled_from(sorted(SCOPES)), st.sampled_from(USERS), st.sampled_from(("", "x", "y")))


def allowed(held: frozenset[str], target: tuple[str, str, str]) -> bool:
    return Identity(1, "ann", admin=False, scopes=held).allows(target[0], user=target[1], server=target[2])


def test_every_included_scope_is_a_scope_and_none_includes_itself() -> None:
    for name, scope in SCOPES.items():
        assert set(scope.includes) <= set(SCOPES)
        assert all(name not in expand.subscopes(child) for child in scope.includes)


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("admin:users", "admin:auth_state users read:roles:users delete:users list:users read:users read:users:name read:users:groups read:users:activity users:activity"),
        ("users:activity", "read:users:activity"),
        ("list:users", "read:users:name"),
        ("read:roles", "read:roles:users read:roles:services read:roles:groups"),
        ("admin:servers", "admin:server_state servers read:servers start:servers delete:servers read:users:name"),
        ("tokens", "read:tokens"),
        ("admin:groups", "groups read:roles:groups delete:groups read:groups list:groups read:groups:name"),
        ("admin:services", "list:services read:services read:roles:services read:services:name"),
        ("shares", "access:servers read:shares users:shares groups:shares read:users:shares read:groups:shares"),
        ("admin-ui", ""), ("proxy", ""), ("shutdown", ""), ("read:metrics", ""), ("access:servers", ""),
    ],
)  # fmt: skip
def test_the_hierarchy_is_jupyterhubs(name: str, below: str) -> None:
    assert expand.subscopes(name) == {name, *below.split()}


def test_self_is_everything_of_ones_own_and_nothing_of_others() -> None:
    held = expand.expand(("self",), "ann")

    assert {f"{name}!user=ann" for name in SELF} <= held
    assert all(scope.endswith("!user=ann") for scope in held)
    assert "start:servers!user=ann" in held


def test_short_filters_stand_for_owner_and_server() -> None:
    assert expand.expand(roles.SERVER, "ann", "ann/x") == {
        "users:activity!user=ann",
        "read:users:activity!user=ann",
        "access:servers!server=ann/x",
    }
    assert expand.expand(("access:servers!server",), "ann") == frozenset()


def test_a_server_filter_says_nothing_of_the_person() -> None:
    assert expand.expand(("servers!server=ann/x",), "ann") == {
        f"{name}!server=ann/x" for name in ("servers", "read:servers", "start:servers", "delete:servers")
    }


def test_inherit_is_exactly_what_the_owner_may_do_now() -> None:
    owner = expand.expand(roles.USER, "ann")

    assert expand.of_token(("inherit",), "ann", owner) == owner
    assert expand.of_token(("admin:users",), "ann", owner) == expand.intersect(
        expand.expand(("admin:users",), "ann"), owner
    )
    assert not Identity(1, "ann", admin=False, scopes=expand.of_token(("admin:users",), "ann", owner)).allows(
        "read:users", user="bob"
    )


def test_a_server_under_a_persons_filter_is_the_overlap() -> None:
    left, right = frozenset({"servers!user=ann"}), frozenset({"servers!server=ann/x"})

    assert expand.intersect(left, right) == {"servers!server=ann/x"}
    assert expand.intersect(frozenset({"servers!user=bob"}), right) == frozenset()


def test_a_group_filter_reaches_its_members_only_when_they_are_said() -> None:
    held = frozenset({"read:users!group=g"})

    assert not expand.covers(held, "read:users!user=ann")
    assert expand.covers(held, "read:users!user=ann", {"g": {"ann"}})
    assert expand.intersect(held, frozenset({"read:users!user=ann"}), {"g": {"ann"}}) == {
        "read:users!user=ann"
    }


@given(left=sets, right=sets, target=targets)
def test_an_intersection_allows_what_both_allow_and_no_more(left, right, target) -> None:
    both = allowed(left, target) and allowed(right, target)

    assert allowed(expand.intersect(left, right), target) == both


@given(left=sets, right=sets)
def test_an_intersection_has_no_order(left, right) -> None:
    assert expand.intersect(left, right) == expand.intersect(right, left)


@given(held=sets, target=targets)
def test_a_token_never_exceeds_its_owner(held, target) -> None:
    owner = expand.expand(roles.USER, "ann")

    assert not allowed(expand.intersect(held, owner), target) or allowed(owner, target)


@given(raw=st.lists(st.text(max_size=12) | scopes, max_size=5), target=targets)
def test_an_unknown_stored_scope_gives_nothing(raw, target) -> None:
    known = [scope for scope in raw if expand.split(scope)[0] in (*SCOPES, "self")]

    assert expand.expand(tuple(raw), "ann") == expand.expand(tuple(known), "ann")


@pytest.mark.parametrize(
    "scope", ["", "users!", "users!user=", "users!planet=x", "nobody", "self!user=ann", "servers!server=ann"]
)
def test_what_is_no_scope_is_refused_by_name(scope: str) -> None:
    with pytest.raises(BadRequest):
        expand.check(scope)


@pytest.mark.parametrize(
    "scope", ["self", "inherit", "users", "users!user=ann", "servers!server=ann/", "users!user"]
)
def test_scopes_in_every_form_are_taken(scope: str) -> None:
    expand.check(scope)


def test_the_admin_role_covers_an_ordinary_person_entirely() -> None:
    assert expand.covers_all(expand.expand(roles.ADMIN, "root"), expand.expand(roles.USER, "ann"))
    assert not expand.covers_all(expand.expand(roles.USER, "ann"), expand.expand(roles.ADMIN, "ann"))


def test_only_all_rights_make_a_whole_admin() -> None:
    every = expand.expand((*roles.USER, *roles.ADMIN), "root")

    assert Identity(1, "root", admin=True, scopes=every).is_whole_admin
    for missing in roles.ADMIN:
        held = frozenset(scope for scope in every if expand.split(scope)[0] != missing)
        assert not Identity(1, "root", admin=True, scopes=held).is_whole_admin


CUSTOM = (("custom:a:write", ("custom:a:read",)), ("custom:a:read", ()), ("custom:loop", ("custom:loop",)))


def test_a_custom_scope_brings_what_the_configuration_says_and_nothing_of_the_hubs() -> None:
    assert expand.expand(("custom:a:write",), "ann", custom=CUSTOM) == {"custom:a:write", "custom:a:read"}
    assert expand.expand(("custom:loop",), "ann", custom=CUSTOM) == {"custom:loop"}
    assert expand.expand(("custom:a:write",), "ann") == frozenset()
    with pytest.raises(BadRequest):
        expand.check("custom:b", CUSTOM)


@given(raw=st.lists(scopes, max_size=4))
def test_a_service_is_no_person_whatever_its_name(raw: list[str]) -> None:
    given_to_a_service = expand.expand(("self", *(f"{scope.partition('!')[0]}!user" for scope in raw)), "")

    assert given_to_a_service == frozenset()


MEMBERS = {"g": frozenset({"ann"})}


@given(left=sets, right=sets, target=targets)
def test_an_intersection_under_known_groups_allows_what_both_allow_and_no_more(left, right, target) -> None:
    def under(held: frozenset[str]) -> bool:
        identity = Identity(1, "ann", admin=False, scopes=held, members=MEMBERS)
        return identity.allows(target[0], user=target[1], server=target[2])

    assert under(expand.intersect(left, right, MEMBERS)) == (under(left) and under(right))
