from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from himalia_hub import clock
from himalia_hub.auth.backoff import BUCKETS, FORGET_AFTER, LONGEST_WAIT_S, account_key, wait_s

NOW = clock.now()


def test_the_wait_begins_at_the_fifth_failure_and_doubles_to_its_most() -> None:
    waits = [wait_s(count, NOW, free=5, now=NOW) for count in range(14)]

    assert waits[:5] == [0] * 5
    assert waits[5:9] == [5, 10, 20, 40]
    assert waits[-1] == LONGEST_WAIT_S


@given(count=st.integers(0, 10**6), ago_s=st.floats(0, 10**6))
def test_every_wait_ends(count: int, ago_s: float) -> None:
    wait = wait_s(count, NOW - timedelta(seconds=ago_s), free=5, now=NOW)

    assert 0 <= wait <= LONGEST_WAIT_S
    assert wait_s(count, NOW - FORGET_AFTER - timedelta(seconds=1), free=5, now=NOW) == 0


def test_guessed_names_share_a_fixed_number_of_rows() -> None:
    keys = {account_key(f"name{number}", known=False) for number in range(20_000)}

    assert len(keys) <= BUCKETS
    assert account_key("ann", known=True) == "user:ann"
