from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from himalia_spawner.contract import ODD_NAMES
from himalia_spawner.names import NAME_MAX, backend_name, home_name, short_name

FROZEN = {
    "ada": "ada-w7usfyhrxjenbwdelq57ek66",
    "gpu": "ada-gpu-k756ys5yugkjec4sopvylpba",
    "odd": "u42-fesvxgwmdzttcb7jymwttea3",
    "home": "ada-lovelace--uh3u5wsefg5mi6q63h7sm2su",
}

hostile = st.text(st.characters(), max_size=40) | st.text("ab-.A/", max_size=6)


@given(hostile, hostile)
def test_a_name_is_a_short_dns_label_whatever_the_user_is_called(user: str, server: str) -> None:
    name = backend_name(user, server)

    assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name)
    assert len(name) <= NAME_MAX


@given(st.tuples(hostile, hostile), st.tuples(hostile, hostile))
def test_two_servers_never_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    """CVE-2020-15110: one's named server was called like another's own."""
    assert (backend_name(*one) == backend_name(*other)) == (one == other)


@given(st.text("ab-", max_size=5), st.text("ab-", max_size=5), st.text("ab-", max_size=5))
def test_moving_a_part_between_user_and_server_changes_the_name(one: str, two: str, three: str) -> None:
    moved = (one + two, three) == (one, two + three)
    assert (backend_name(one + two, three) == backend_name(one, two + three)) == moved


@given(hostile, hostile)
def test_nobody_can_be_called_like_anothers_generated_name(user: str, server: str) -> None:
    taken = backend_name(user, server)
    assert backend_name(taken) != taken


@given(hostile, hostile)
def test_two_users_never_share_a_home(one: str, other: str) -> None:
    assert (home_name(one) == home_name(other)) == (one == other)


@given(hostile)
def test_a_home_is_one_plain_path_component(user: str) -> None:
    name = home_name(user)
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_.-]*", name)
    assert name not in (".", "..")


def test_plain_users_keep_their_name_as_home() -> None:
    assert [home_name(user) for user in ("ada", "grace.hopper", "j_doe-2")] == [
        "ada",
        "grace.hopper",
        "j_doe-2",
    ]


def test_a_hashed_home_can_not_be_claimed_by_a_plain_user() -> None:
    hashed = home_name("Ada")
    assert hashed.startswith("ada--")
    assert home_name(hashed) != hashed


def test_names_do_not_change_between_releases() -> None:
    assert {
        "ada": backend_name("ada"),
        "gpu": backend_name("ada", "gpu"),
        "odd": backend_name("42", "!"),
        "home": home_name("Ada Lovelace"),
    } == FROZEN


def test_short_names_of_odd_servers_differ() -> None:
    assert len({short_name(backend_name(*names)) for names in ODD_NAMES}) == len(ODD_NAMES)
