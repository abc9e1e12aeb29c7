"""When a server is stopped for not being used or for its age, and how that is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from himalia_hub.pages.words import until
from himalia_hub.servers.cull import Rule, ending, rule_of, spoken
from himalia_hub.settings import HubSettings

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MOMENTS = st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
LIMITS = st.sampled_from([0, 60, 3600, 86400])


def settings(**cull: Any) -> HubSettings:
    profiles = [{"name": "small"}, {"name": "large"}]
    return HubSettings.model_validate({"profiles": profiles, "cull": cull})


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_by_default_nothing_is_ever_stopped() -> None:
    assert rule_of(HubSettings(), "ann", [], {}) == Rule(0, 0)
    assert ending(Rule(), started=NOON, last_activity=NOON) is None
    assert not HubSettings().cull.limits


def test_the_nearer_word_wins_and_zero_is_a_word() -> None:
    hub = settings(
        idle_s=100,
        max_age_s=1000,
        profiles={"large": {"idle_s": 50}},
        groups={"a": {"idle_s": 70}, "b": {"idle_s": 80}},
        users={"ann": {"idle_s": 0}},
    )
    assert rule_of(hub, "bob", [], {}) == Rule(100, 1000)
    assert rule_of(hub, "bob", [], {"profile": "large"}) == Rule(50, 1000)
    assert rule_of(hub, "bob", ["a"], {"profile": "large"}) == Rule(70, 1000)
    assert rule_of(hub, "bob", ["b", "a"], {"profile": "large"}) == Rule(80, 1000)
    assert rule_of(hub, "ann", ["b", "a"], {"profile": "large"}) == Rule(0, 1000)


def test_idle_time_counts_from_the_last_use_and_age_from_the_start() -> None:
    rule = Rule(idle_s=600, max_age_s=3600)
    soon = ending(rule, started=NOON, last_activity=NOON + minutes(5))
    assert soon is not None
    assert (soon.at, soon.why, soon.idle) == (NOON + minutes(15), "idle for 10 minutes", True)
    late = ending(rule, started=NOON, last_activity=NOON + minutes(59))
    assert late is not None
    assert (late.at, late.idle) == (NOON + minutes(60), False)


def test_activity_of_an_earlier_life_does_not_end_this_one() -> None:
    end = ending(Rule(idle_s=600), started=NOON, last_activity=NOON - minutes(500))
    assert end is not None
    assert end.at == NOON + minutes(10)


@given(idle=LIMITS, age=LIMITS, started=MOMENTS, used=MOMENTS)
def test_no_server_ends_before_both_its_start_and_its_last_use_allow(
    idle: int, age: int, started: datetime | None, used: datetime | None
) -> None:
    end = ending(Rule(idle, age), started=started, last_activity=used)
    if end is not None and end.idle:
        assert all(end.at - moment >= timedelta(seconds=idle) for moment in (started, used) if moment)
    elif end is not None:
        assert started is not None
        assert end.at - started == timedelta(seconds=age)
    else:
        assert not (idle and (started or used))
        assert not (age and started)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (90, "90 seconds"),
        (60, "1 minute"),
        (3600, "60 minutes"),
        (7200, "2 hours"),
        (86400, "24 hours"),
        (172800, "2 days"),
    ],
)
def test_a_limit_is_said_in_its_largest_whole_unit(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "any moment"), (59, "any moment"), (60, "in 1 min"), (4000, "in 1 h 6 min")]
)
def test_a_countdown_never_goes_below_any_moment(seconds: int, words: str) -> None:
    assert until(NOON + timedelta(seconds=seconds), NOON) == words


def test_servers_report_often_enough_for_the_shortest_limit() -> None:
    assert HubSettings().cull.report_every_s == 300
    assert settings(idle_s=3600, users={"ann": {"idle_s": 90}}).cull.report_every_s == 30


@pytest.mark.parametrize(
    ("cull", "said"),
    [({"idle_s": -1}, "greater than or equal to 0"), ({"profiles": {"huge": {}}}, "cull.profiles.huge")],
)
def test_a_limit_that_cannot_be_is_refused_by_name(cull: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**cull)
