from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from himalia_hub.measures.store import Point
from himalia_hub.measures.work import Sampler, noticeable
from himalia_hub.pages import charts
from himalia_spawner.base import Measure

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ONE = [(1, "ann", "1.1")]
MB = 2**20


def test_cpu_is_a_rate_between_two_measures_and_a_new_life_begins_anew() -> None:
    sampler = Sampler()

    def take(at_s: float, cpu_s: float, incarnation: str = "1.1") -> list[float | None]:
        changed, _ = sampler.take([(1, "ann", incarnation)], {"ann": Measure(MB, cpu_s)}, now=NOW, at_s=at_s)
        return [point.cpus for point in changed]

    assert take(100, 3.0) == [None]
    assert take(110, 8.0) == [0.5]
    assert take(120, 13.0) == []  # as before: nothing is worth writing
    assert take(130, 2.0) == [0.0]  # what counted has ended: never less than nothing
    assert take(140, 90.0, "1.2") == [None]


def test_a_figure_that_stays_is_written_once_a_minute_and_each_minute_is_a_point() -> None:
    sampler, written, points = Sampler(), 0, []
    for turn in range(0, 301, 15):
        changed, minutes = sampler.take(ONE, {"ann": Measure(MB, turn / 10)}, now=NOW, at_s=turn)
        written, points = written + len(changed), points + minutes

    # The first has no rate, the second has one, and from then on nothing is new.
    assert written == 2 + 4
    assert [point.cpus for point in points] == [0.1] * 5


def test_who_could_not_be_measured_is_left_out_and_measured_anew_later() -> None:
    sampler = Sampler()
    sampler.take(ONE, {"ann": Measure(MB, 1)}, now=NOW, at_s=0)

    assert sampler.take(ONE, {}, now=NOW, at_s=15) == ([], [])
    changed, _ = sampler.take(ONE, {"ann": Measure(MB, 9)}, now=NOW, at_s=30)
    assert [point.cpus for point in changed] == [None]


def test_only_new_lives_are_asked_for_before_their_turn_and_twice() -> None:
    sampler, bob, again = Sampler(), (2, "bob", "1.1"), [(1, "ann", "1.2")]

    assert sampler.ask(ONE) == sampler.ask(ONE) == ONE
    assert sampler.ask(ONE) == []
    assert sampler.ask([*ONE, bob]) == [bob]
    assert sampler.ask(again) == again


def test_who_was_not_asked_for_keeps_the_measure_before() -> None:
    sampler = Sampler()
    sampler.take(ONE, {"ann": Measure(MB, 1)}, now=NOW, at_s=0)
    sampler.take([(2, "bob", "1.1")], {"bob": Measure(MB, 1)}, now=NOW, at_s=5)

    changed, _ = sampler.take(ONE, {"ann": Measure(MB, 6)}, now=NOW, at_s=10)
    assert [point.cpus for point in changed] == [0.5]


def test_who_runs_no_longer_is_forgotten() -> None:
    sampler = Sampler()
    sampler.take(sampler.ask(ONE), {"ann": Measure(MB, 1)}, now=NOW, at_s=0)
    assert sampler.known() == {1}
    sampler.forget(sampler.known())

    changed, _ = sampler.take(ONE, {"ann": Measure(MB, 6)}, now=NOW, at_s=10)
    assert [point.cpus for point in changed] == [None]
    assert sampler.ask(ONE) == sampler.ask(ONE) == ONE


def test_a_change_is_noticeable_when_a_page_would_show_it() -> None:
    before = Point(1, NOW, 100 * MB, 0.5)

    assert noticeable(None, before)
    assert not noticeable(before, Point(1, NOW, 101 * MB, 0.505))
    assert noticeable(before, Point(1, NOW, 103 * MB, 0.5))
    assert noticeable(before, Point(1, NOW, 100 * MB, 0.52))
    assert noticeable(before, Point(1, NOW, None, 0.5))
    assert noticeable(before, Point(1, NOW, 100 * MB, None))


def test_a_line_says_in_words_what_it_shows_and_has_gaps_where_nobody_measured() -> None:
    minutes = [*range(60, 40, -1), *range(10, -1, -1)]
    points = [Point(1, NOW - timedelta(minutes=left), left * MB, None) for left in minutes]

    (memory,) = charts.of_server(points, NOW)

    assert memory.words == "Memory over the last hour: 0 GB now, 60 MB at most"
    assert len(memory.strokes) == 2
    assert memory.strokes[0].startswith("0.0,1.0 ")
    assert memory.strokes[1].endswith("240.0,39.0")
    assert charts.of_server(points[:1], NOW) == ()


def test_bars_fill_the_box_with_the_tallest_day() -> None:
    days = [(date(2026, 11, day), hours) for day, hours in ((1, 0.0), (2, 4.0), (3, 2.0))]

    bars = charts.bars(days)

    assert [bar.height for bar in bars] == [0.0, 40.0, 20.0]
    assert bars[1].words == "2026-11-02: 4.0 h"
    assert charts.bars([]) == ()
    assert [bar.height for bar in charts.bars(days[:1])] == [0.0]
