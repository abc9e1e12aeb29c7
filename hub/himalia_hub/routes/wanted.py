"""From the rows and the proxy's table to what must be done about the difference. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from himalia_proxy.base import Route


@dataclass(frozen=True, slots=True)
class Expected:
    """What one server's row says of its route. `settled` rows are at rest; others are being worked on."""

    routespec: str
    backend_name: str
    target: str
    ready: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What to do: routes of our own to put, routes of nobody to delete, servers whose row must look again."""

    put: tuple[Route, ...]
    delete: tuple[str, ...]
    wake: tuple[str, ...]


def difference(fixed: Iterable[Route], rows: Iterable[Expected], table: Mapping[str, Route]) -> Difference:
    """Compare. A server's own route is never touched here: its row is woken, and the one reconciler acts.

    Routes without our mark (`jupyterhub` in their data) are other people's and stay.
    """
    fixed = list(fixed)
    by_spec = {row.routespec: row for row in rows}
    put = tuple(r for r in fixed if r.routespec not in table or table[r.routespec].target != r.target)
    wake = [
        row.backend_name
        for spec, row in by_spec.items()
        if row.settled and row.ready and (spec not in table or table[spec].target != row.target)
    ]
    wake += [
        row.backend_name for spec, row in by_spec.items() if row.settled and not row.ready and spec in table
    ]
    keep = {route.routespec for route in fixed} | set(by_spec)
    delete = tuple(spec for spec, route in table.items() if spec not in keep and route.data.get("jupyterhub"))
    return Difference(put, delete, tuple(wake))
