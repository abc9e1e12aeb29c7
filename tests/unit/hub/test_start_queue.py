"""Whose turn it is: pure."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.servers.queue import Load, Waiting, in_turn, room, words
from himalia_hub.settings import ServersSection

queues = st.lists(st.integers(1, 5), max_size=30).map(
    lambda people: [Waiting(100 + index, person) for index, person in enumerate(people)]
)
under_way = st.dictionaries(st.integers(1, 5), st.integers(1, 4))


def test_first_come_first_served_for_people_who_ask_for_one_each() -> None:
    assert in_turn([Waiting(7, 3), Waiting(5, 1), Waiting(6, 2)], {}) == [7, 5, 6]


def test_who_asks_for_many_delays_nobody_who_asks_for_one() -> None:
    greedy = [Waiting(number, 1) for number in range(10)]

    assert in_turn([*greedy, Waiting(50, 2), Waiting(51, 3)], {})[:3] == [0, 50, 51]
    assert in_turn([*greedy, Waiting(50, 2)], {1: 1})[0] == 50


@given(waiting=queues, starting=under_way)
def test_everybody_gets_a_turn_and_nobody_two_before_another_had_one(
    waiting: list[Waiting], starting: dict[int, int]
) -> None:
    order = in_turn(waiting, starting)

    assert sorted(order) == [one.server_id for one in waiting]
    owner = {one.server_id: one.user_id for one in waiting}
    had, left = Counter(starting), Counter(owner.values())
    for server_id in order:
        person = owner[server_id]
        assert all(had[person] <= had[other] for other in left if left[other])
        had[person] += 1
        left[person] -= 1


@given(
    active=st.integers(0, 20), starting=under_way, limits=st.tuples(st.integers(0, 20), st.integers(0, 20))
)
def test_no_bound_is_ever_passed(active: int, starting: dict[int, int], limits: tuple[int, int]) -> None:
    settings = ServersSection(active_limit=limits[0], concurrent_start_limit=limits[1])
    free = room(Load(starting, active), settings)

    assert free >= 0
    for limit, used in ((limits[0], active), (limits[1], sum(starting.values()))):
        assert not limit or not free or used + free <= limit


def test_people_read_their_place() -> None:
    assert words(1) == "Waiting for a free place: you are next"
    assert "number 3" in words(3)
