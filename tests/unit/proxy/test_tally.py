"""What several processes count in memory that they share is what one would have counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_proxy import tally
from himalia_proxy.tally import Tally, shared_memory

ADDRESSES = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "::ffff:10.0.0.1", "fe80::1%eth0", "::1"]


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = shared_memory(3)
    yield descriptor
    os.close(descriptor)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(ADDRESSES), st.booleans()), max_size=60))
def test_each_hears_how_many_all_have(steps: list[tuple[int, str, bool]]) -> None:
    descriptor = shared_memory(3)
    each = [Tally(descriptor, number, 3) for number in range(3)]
    open_: Counter[tuple[int, str]] = Counter()
    same = lambda address: "10.0.0.1" if address == "::ffff:10.0.0.1" else address
    for number, address, ends in steps:
        if not ends:
            open_[number, same(address)] += 1
            total = sum(count for (_, one), count in open_.items() if one == same(address))
            assert each[number].enter(address) == total
        elif open_[number, same(address)]:
            open_[number, same(address)] -= 1
            each[number].leave(address)
    for one in each:
        one.close()
    os.close(descriptor)


def test_what_a_killed_process_had_is_gone_with_the_one_in_its_place(memory: int) -> None:
    first, second = Tally(memory, 0, 3), Tally(memory, 1, 3)
    second.enter("10.0.0.1")
    assert first.enter("10.0.0.1") == 2
    assert Tally(memory, 1, 3).enter("10.0.0.1") == 2
    assert Tally(memory, 1, 3).enter("10.0.0.2") == 1


def test_addresses_without_a_place_are_counted_all_the_same(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "_BUCKETS", 1)
    one = Tally(memory, 0, 3)
    addresses = [f"10.0.0.{number}" for number in range(40)]
    for times in (1, 2, 3):
        assert [one.enter(address) for address in addresses] == [times] * 40
    for _ in range(3):
        for address in addresses:
            one.leave(address)
    assert [one.enter(address) for address in addresses] == [1] * 40


def test_a_key_that_lies_across_two_others_is_none(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_BUCKETS", 1)
    one = Tally(memory, 0, 3)
    one.enter("1111:1111:1111:1111:2222:2222:2222:2222")
    one.enter("3333:3333:3333:3333:4444:4444:4444:4444")
    assert one.enter("2222:2222:2222:2222:3333:3333:3333:3333") == 1
