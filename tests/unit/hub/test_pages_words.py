from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.pages.words import ago, span, whole

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (86_400, "1 d"),
        (86_400 + 600, "1 d"),
        (180_000, "2 d 2 h"),
    ],
)
def test_a_span_has_at_most_two_units(seconds: int, words: str) -> None:
    assert span(NOW - timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-90, "just now"),
        (5, "just now"),
        (60, "1 min ago"),
        (7200, "2 h ago"),
        (30 * 86_400, "30 d ago"),
        (31 * 86_400, "on 2026-10-23"),
    ],
)
def test_ago_is_rough_and_becomes_a_date(seconds: int, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_what_never_happened_is_never() -> None:
    assert (ago(None, NOW), span(None, NOW)) == ("never", "")


@given(st.timedeltas(min_value=timedelta(days=-1000), max_value=timedelta(days=10_000)))
def test_every_age_has_words(age: timedelta) -> None:
    assert ago(NOW - age, NOW)
    assert span(NOW - age, NOW)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("ask an administrator", "Ask an administrator."),
        ("This code is wrong.", "This code is wrong."),
        ("himalia user add ann", "himalia user add ann."),
        ("'x/y' cannot be a user name", "'x/y' cannot be a user name."),
        ("cull.idle_s is 0", "cull.idle_s is 0."),
        ("", ""),
    ],
)
def test_an_error_stands_on_a_page_as_a_whole_sentence_and_what_is_code_stays_as_it_is(
    said: str, shown: str
) -> None:
    assert whole(said) == shown
