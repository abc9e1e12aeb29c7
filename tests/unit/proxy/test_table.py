"""The routing table: whole segments, the longest prefix, one form for look-up and forwarding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_proxy.errors import BadTarget
from himalia_proxy.table import MAX_CACHED, RouteTable

TARGET = {"target": "http://127.0.0.1:1"}
segments = st.sampled_from(["a", "b", "ab", "user", "", "é", "constructor", "__proto__", "%", "x y"])
paths = st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts))
prefixes = st.lists(segments.filter(bool), max_size=4).map(lambda parts: "/" + "/".join(parts))


def table_of(*routes: str, **options: bool) -> RouteTable:
    table = RouteTable(**options)
    for path in routes:
        table.put(path, TARGET, 0)
    return table


def found(table: RouteTable, path: bytes, host: bytes | None = None) -> str | None:
    way = table.way(host, path)
    return way and way.entry.path


def forwarded(table: RouteTable, path: bytes, host: bytes | None = None) -> bytes | None:
    way = table.way(host, path)
    return way and way.path


def is_prefix_by_segments(prefix: str, path: str) -> bool:
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


@given(routes=st.lists(prefixes, unique=True), path=paths)
def test_the_longest_matching_prefix_wins(routes: list[str], path: str) -> None:
    table = table_of(*routes)
    matching = [prefix for prefix in routes if is_prefix_by_segments(prefix, path)]

    entry = table.find(path)

    assert (entry and entry.path) == max(matching, key=len, default=None)


@given(steps=st.lists(st.tuples(st.booleans(), prefixes)), path=paths)
def test_any_order_of_adding_and_removing_leaves_a_table_that_matches_its_content(
    steps: list[tuple[bool, str]], path: str
) -> None:
    table, model = RouteTable(), set()
    for adding, prefix in steps:
        if adding:
            table.put(prefix, TARGET, 0)
            model.add(prefix)
        else:
            assert table.remove(prefix) == (prefix in model)
            model.discard(prefix)

    entry = table.find(path)

    matching = [prefix for prefix in model if is_prefix_by_segments(prefix, path)]
    assert (entry and entry.path) == max(matching, key=len, default=None)
    assert {one.path for one in table} == model


@pytest.mark.parametrize("name", ["constructor", "toString", "__proto__", "hasOwnProperty", "keys", "get"])
def test_names_that_mean_something_to_a_language_mean_nothing_to_the_table(name: str) -> None:
    assert found(table_of("/"), f"/{name}/x".encode()) == "/"
    assert found(table_of("/user"), f"/{name}/x".encode()) is None
    assert found(table_of(f"/{name}"), f"/{name}/x".encode()) == f"/{name}"


def test_a_name_is_not_matched_by_its_beginning() -> None:
    assert found(table_of("/user/a"), b"/user/ab") is None


def test_an_encoded_name_finds_the_route_of_the_decoded_one() -> None:
    table = table_of("/user/é@x")
    assert found(table, b"/user/%C3%A9%40x/lab") == "/user/é@x"
    assert forwarded(table, b"/user/%C3%A9%40x/lab") == b"/user/%C3%A9%40x/lab"


def test_a_path_that_is_not_utf8_reaches_the_prefix_before_it() -> None:
    assert found(table_of("/user"), b"/user/%ff") == "/user"


@pytest.mark.parametrize("path", [b"/a%", b"/%zz", b"/%1", b"/%+1/"])
def test_a_malformed_escape_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="percent"):
        table_of("/").way(None, path)


@pytest.mark.parametrize(
    ("path", "route", "sent"),
    [
        (b"//user/b", "/", b"//user/b"),
        (b"/user/a/../b/x", "/user/b", b"/user/b/x"),
        (b"/user/a/%2e%2E/b/x", "/user/b", b"/user/b/x"),
        (b"/user/a/./x", "/user/a", b"/user/a/x"),
        (b"/user/a/..", "/", b"/user/"),
        (b"/../../user/a", "/user/a", b"/user/a"),
        (b"/user/a/.config", "/user/a", b"/user/a/.config"),
        (b"/user/a/...", "/user/a", b"/user/a/..."),
    ],
)
def test_the_form_that_is_looked_up_is_the_form_that_is_forwarded(
    path: bytes, route: str, sent: bytes
) -> None:
    table = table_of("/", "/user/a", "/user/b")
    assert (found(table, path), forwarded(table, path)) == (route, sent)


def test_a_target_with_a_path_puts_it_before_the_request() -> None:
    table = RouteTable()
    table.put("/svc", {"target": "http://h:1/base/"}, 0)
    assert forwarded(table, b"/svc/x") == b"/base/svc/x"


def test_without_prepend_path_the_targets_path_is_left_out() -> None:
    table = RouteTable(prepend_path=False)
    table.put("/svc", {"target": "http://h:1/base"}, 0)
    assert forwarded(table, b"/svc/x") == b"/svc/x"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (b"/user/%C3%A9/x%2Fy", b"/x%2Fy"),
        (b"/user/%c3%a9", b"/"),
        (b"/%75ser/%C3%A9/", b"/"),
        (b"/user%2F%C3%A9/q", b"/q"),
    ],
)
def test_without_include_prefix_an_encoded_prefix_is_cut_as_it_was_spelt(path: bytes, sent: bytes) -> None:
    assert forwarded(table_of("/user/é", include_prefix=False), path) == sent


def test_with_host_routing_the_host_is_the_first_segment_in_any_case() -> None:
    table = table_of("/Ada.example.org/", "/hub.example.org", by_host=True)
    assert found(table, b"/lab", b"ADA.example.org:8000") == "/Ada.example.org"
    assert found(table, b"/lab", b"other.example.org") is None
    assert found(table, b"/ada.example.org/", b"x") is None
    assert table.get("ada.example.org") is not None


def test_with_host_routing_the_prefix_that_is_cut_is_without_the_host() -> None:
    table = table_of("/h/svc", by_host=True, include_prefix=False)
    assert forwarded(table, b"/svc/x", b"h") == b"/x"


def test_data_is_replaced_whole_and_the_route_stays_the_same_object() -> None:
    table = RouteTable()
    first = table.put("/a", {**TARGET, "user": "ada", "extra": 1}, 1)

    second = table.put("/a/", {"target": "http://127.0.0.1:2"}, 2)

    assert second is first
    assert second.data == {"target": "http://127.0.0.1:2"}
    assert second.last_activity == 2


def test_a_change_of_the_table_is_seen_by_the_next_request() -> None:
    table = table_of("/")
    assert found(table, b"/user/a") == "/"
    table.put("/user/a", TARGET, 0)
    assert found(table, b"/user/a") == "/user/a"
    table.remove("/user/a")
    assert found(table, b"/user/a") == "/"


def test_remembered_paths_are_bounded() -> None:
    table = table_of("/")
    for number in range(MAX_CACHED * 2 + 5):
        table.way(None, b"/%d" % number)
    assert len(table._cache) <= MAX_CACHED


def test_a_bad_target_leaves_the_table_as_it_was() -> None:
    table = table_of("/a")
    with pytest.raises(BadTarget):
        table.put("/a", {"target": "ftp://h"}, 0)
    assert table.get("/a").data == TARGET
