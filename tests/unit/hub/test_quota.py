"""The decision on quotas and its arithmetic: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.usage.hours import UsedUp, used_up
from himalia_hub.usage.quota import GIB, Asked, Limits, Period, Use, by_day, merged, refusal, window
from himalia_hub.usage.store import Running, Standing

RESETS = datetime(2026, 12, 1, tzinfo=UTC)
SMALL = Asked(memory=GIB, cpus=0.5)
moments = st.timedeltas(timedelta(0), timedelta(days=2500)).map(lambda ago: RESETS - ago)


def no(limits: Limits, use: Use, asked: Asked = SMALL) -> str:
    found = refusal("ann", limits, use, asked, RESETS)
    return "" if found is None else f"{found.message} {found.remedy}"


def test_without_limits_nothing_is_too_much() -> None:
    assert no(Limits(), Use(100, 10**15, 1e6, 1e6, 1e6), Asked()) == ""


@pytest.mark.parametrize(
    ("limits", "fits", "too_much", "words"),
    [
        (
            Limits(servers=2),
            Use(servers=1),
            Use(servers=2),
            "is 2 servers at once; running or waiting to start: 2.",
        ),
        (Limits(memory=3 * GIB), Use(memory=2 * GIB), Use(memory=2 * GIB + 1), "3 GB of memory at once"),
        (Limits(cpus=1), Use(cpus=0.5), Use(cpus=0.6), "1 of CPUs at once; in use: 0.6;"),
        (Limits(server_hours=10), Use(server_hours=9.99), Use(server_hours=10), "1 December 2026, 00:00 UTC"),
        (Limits(memory_hours=10), Use(memory_hours=9.99), Use(memory_hours=10), "GiB-hours of memory of ann"),
    ],
)
def test_a_limit_is_exact_and_says_what_it_is(limits: Limits, fits: Use, too_much: Use, words: str) -> None:
    assert no(limits, fits) == ""
    assert words in no(limits, too_much)


def test_a_server_without_a_limit_fits_no_quota_of_what_it_may_use_up() -> None:
    assert "would have no limit" in no(Limits(memory=GIB), Use(), Asked(cpus=1.0))
    assert "would have no limit" in no(Limits(cpus=1), Use(), Asked(memory=GIB))


def test_only_used_up_hours_come_back_by_themselves() -> None:
    hours = refusal("ann", Limits(server_hours=1), Use(server_hours=1), SMALL, RESETS)
    servers = refusal("ann", Limits(servers=1), Use(servers=1), SMALL, RESETS)

    assert hours is not None
    assert hours.wait
    assert servers is not None
    assert not servers.wait


def test_what_is_said_later_goes_before_and_nought_takes_a_limit_away() -> None:
    general, personal = Limits(servers=2, cpus=4.0), Limits(servers=5, cpus=0)

    assert merged(general, personal) == Limits(servers=5)
    assert merged(general, Limits()) == general


@given(now=moments, period=st.sampled_from(["day", "week", "month"]))
def test_every_moment_lies_in_its_period_and_periods_follow_each_other(now: datetime, period: Period) -> None:
    begins, ends = window(period, now)

    assert begins <= now < ends
    assert window(period, ends)[0] == ends
    assert window(period, ends - timedelta(microseconds=1)) == (begins, ends)


@given(began=moments, lasted=st.timedeltas(timedelta(0), timedelta(days=90)))
def test_a_life_is_split_into_days_and_loses_no_second(began: datetime, lasted: timedelta) -> None:
    days = list(by_day(began, began + lasted))

    assert sum(seconds for _, seconds in days) == pytest.approx(lasted.total_seconds())
    assert all(0 < seconds <= 86_400 for _, seconds in days)
    assert len({day for day, _ in days}) == len(days)


NOW = RESETS - timedelta(hours=6)


def up(limits: Limits, use: Use, running: Running) -> list[UsedUp]:
    return used_up([Standing("", limits, use, RESETS, "ann", running)], now=NOW)


def test_hours_are_used_up_the_sooner_the_more_servers_run() -> None:
    limits, use = Limits(server_hours=10, memory_hours=40), Use(server_hours=8, memory_hours=36)

    one, two = up(limits, use, Running(1, 1)), up(limits, use, Running(2, 4))

    assert [(found.at - NOW, found.memory) for found in one + two] == [
        (timedelta(hours=2), False), (timedelta(hours=4), True),
        (timedelta(hours=1), False), (timedelta(hours=1), True),
    ]  # fmt: skip
    assert [found.why for found in one] == [
        "the 10 server-hours of ann are used up", "the 40 GiB-hours of memory of ann are used up",
    ]  # fmt: skip
    assert up(limits, Use(server_hours=11), Running(1))[0].at == NOW, "what is used up is so now"


def test_hours_end_nothing_that_uses_none_nor_what_lasts_until_there_are_new_ones() -> None:
    assert up(Limits(server_hours=10, memory_hours=1), Use(server_hours=4, memory_hours=2), Running(1)) == []
    assert up(Limits(server_hours=10), Use(server_hours=12), Running()) == []
    assert up(Limits(), Use(), Running(9, 9)) == []
