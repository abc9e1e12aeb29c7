"""Small charts as numbers that a template draws as inline SVG: each says in words what it shows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from himalia_hub.languages import gettext, later
from himalia_hub.measures.store import SHOWN, Point
from himalia_hub.usage.quota import size

WIDTH, HEIGHT = 240, 40
GAP = timedelta(minutes=3)
"""Where nobody measured for longer, a line has a gap rather than a guess."""


@dataclass(frozen=True, slots=True)
class Line:
    """Figures over the last hour. `strokes` are values of SVG's `points` in a box of WIDTH by HEIGHT."""

    name: str
    now: str
    most: str
    strokes: tuple[str, ...]

    @property
    def words(self) -> str:
        """What a person who does not see the picture is told."""
        words = {"name": gettext(self.name), "now": self.now, "most": self.most}
        return gettext("%(name)s over the last hour: %(now)s now, %(most)s at most") % words


@dataclass(frozen=True, slots=True)
class Bar:
    """One day's hours: its words, and a rectangle in a box of WIDTH by HEIGHT."""

    words: str
    x: float
    y: float
    width: float
    height: float


def of_server(points: Sequence[Point], now: datetime) -> tuple[Line, ...]:
    """Memory and CPU of one server; none where fewer than two moments are known."""
    memory = line(later("Memory"), [(one.at, one.memory) for one in points], now, size)
    cpu = line(later("CPU"), [(one.at, one.cpus) for one in points], now, "{:.0%}".format)
    return tuple(one for one in (memory, cpu) if one is not None)


def line(
    name: str, points: Iterable[tuple[datetime, float | None]], now: datetime, words: Callable[[float], str]
) -> Line | None:
    """One figure; the top of the box is the most that it was."""
    known = [(at, value) for at, value in points if value is not None and at >= now - SHOWN]
    if len(known) < 2:
        return None
    most = max(value for _, value in known)
    strokes: list[list[str]] = [[]]
    before = known[0][0]
    for at, value in known:
        if at - before > GAP:
            strokes.append([])
        x = WIDTH * (1 - (now - at) / SHOWN)
        y = HEIGHT - 1 - (HEIGHT - 2) * (value / most if most else 0)
        strokes[-1].append(f"{x:.1f},{y:.1f}")
        before = at
    return Line(name, words(known[-1][1]), words(most), tuple(" ".join(stroke) for stroke in strokes))


def bars(hours: Sequence[tuple[date, float]]) -> tuple[Bar, ...]:
    """A bar for each day; the tallest fills the box."""
    if not hours:
        return ()
    most = max(value for _, value in hours) or 1.0
    wide = WIDTH / len(hours)
    return tuple(
        Bar(
            f"{day:%Y-%m-%d}: {value:.1f} h",
            round(index * wide, 1),
            round(HEIGHT - HEIGHT * value / most, 1),
            round(wide * 0.75, 1),
            round(HEIGHT * value / most, 1),
        )
        for index, (day, value) in enumerate(hours)
    )
