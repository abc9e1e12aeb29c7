"""From the rows and the proxy's table to what must be done about the difference. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from himalia_proxy.base import Route


class Expected(NamedTuple):
    """What one server's row says of its route. `settled` rows are at rest; others are being worked on."""

    routespec: str
    backend_name: str
    target: str
    ready: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What to do: routes of our own to put, routes of nobody to delete, servers whose row must look again (by their
    names for the spawner).
    """

    put: tuple[Route, ...]
    delete: tuple[str, ...]
    wake: tuple[str, ...]


def to_wake(rows: Iterable[Expected], table: Mapping[str, Route]) -> list[Expected]:
    """Those whose route is not as their row says.

    A server's own route is never touched here: its row is woken, and the one reconciler acts.
    """
    return [row for row in rows if row.settled and _differs(row, table.get(row.routespec))]


def _differs(row: Expected, route: Route | None) -> bool:
    return route is not None if not row.ready else route is None or route.target != row.target


def to_put(fixed: Iterable[Route], table: Mapping[str, Route]) -> tuple[Route, ...]:
    """Those routes of our own that the table has not, or with another target."""
    return tuple(r for r in fixed if r.routespec not in table or table[r.routespec].target != r.target)


def strays(fixed: Iterable[Route], known: Collection[str], table: Mapping[str, Route]) -> tuple[str, ...]:
    """The routes of nobody. `known` are the routespecs of all rows.

    Routes without our mark (`jupyterhub` in their data) are other people's and stay.
    """
    stray = table.keys() - known - {route.routespec for route in fixed}
    return tuple(spec for spec in sorted(stray) if table[spec].data.get("jupyterhub"))
