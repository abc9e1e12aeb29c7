"""What to do about a difference between rows and the proxy's table."""

from __future__ import annotations

from collections.abc import Mapping

from himalia_hub.routes.wanted import Difference, Expected, strays, to_put, to_wake
from himalia_proxy.base import Route

HUB = Route("/", "http://127.0.0.1:8081", {"jupyterhub": True, "hub": True})
ANN = "/user/ann/"


def ann(*, ready: bool = True, settled: bool = True) -> Expected:
    return Expected(ANN, "ann-1", "http://127.0.0.1:5000", ready=ready, settled=settled)


def route(spec: str, target: str = "http://127.0.0.1:5000") -> Route:
    return Route(spec, target, {"jupyterhub": True})


def compared(rows: list[Expected], table: Mapping[str, Route]) -> Difference:
    known = {row.routespec for row in rows}
    return Difference(
        to_put([HUB], table),
        strays([HUB], known, table),
        tuple(row.backend_name for row in to_wake(rows, table)),
    )


def test_an_agreeing_table_needs_nothing() -> None:
    found = compared([ann()], {"/": HUB, ANN: route(ANN)})

    assert (found.put, found.delete, found.wake) == ((), (), ())


def test_an_empty_table_gets_the_hub_and_wakes_the_ready() -> None:
    found = compared([ann()], {})

    assert found.put == (HUB,)
    assert found.wake == ("ann-1",)


def test_a_wrong_target_wakes_its_server() -> None:
    assert compared([ann()], {"/": HUB, ANN: route(ANN, "http://10.0.0.1")}).wake == ("ann-1",)


def test_a_route_of_a_stopped_server_wakes_its_row_instead_of_being_deleted_here() -> None:
    found = compared([ann(ready=False)], {"/": HUB, ANN: route(ANN)})

    assert found.delete == ()
    assert found.wake == ("ann-1",)


def test_a_server_that_is_being_worked_on_is_left_alone() -> None:
    assert compared([ann(ready=False, settled=False)], {"/": HUB, ANN: route(ANN)}).wake == ()


def test_a_route_of_nobody_is_deleted_and_other_peoples_stay() -> None:
    table = {
        "/": HUB,
        "/user/gone/": route("/user/gone/"),
        "/wiki/": Route("/wiki/", "http://127.0.0.1:9", {}),
    }

    assert compared([], table).delete == ("/user/gone/",)
