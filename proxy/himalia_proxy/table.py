"""The routing table: prefixes by segments, the longest wins. Pure; nothing here knows of sockets.

A dict of prefixes, probed at the depths that are in use, from the deepest: with thousands of
`/user/NAME` routes that is two look-ups, whatever their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from himalia_proxy.activity import iso, parse_time
from himalia_proxy.errors import BadTarget
from himalia_proxy.paths import normal, readable, without_prefix
from himalia_proxy.target import Target, parse_target

MAX_CACHED: Final = 4096


class Entry:
    """One route. It stays the same object while its data is replaced, so open tunnels keep counting."""

    __slots__ = ("data", "last_activity", "path", "target")

    def __init__(self, path: str, target: Target, data: dict[str, Any], last_activity: float) -> None:
        self.path = path
        self.target = target
        self.data = data
        self.last_activity = last_activity


class Way:
    """A request path resolved: its route and the path to forward."""

    __slots__ = ("entry", "path")

    def __init__(self, entry: Entry, path: bytes) -> None:
        self.entry = entry
        self.path = path


def clean(path: str) -> str:
    """A route's path as the table keeps it: a leading slash, no trailing one, the root as `/`."""
    if not path.startswith("/"):
        path = "/" + path
    return path.rstrip("/") or "/"


class RouteTable:
    """Routes by path. With `by_host`, the first segment of a route is a host name, in any case of letters."""

    def __init__(
        self, *, by_host: bool = False, prepend_path: bool = True, include_prefix: bool = True
    ) -> None:
        self.by_host = by_host
        self._prepend_path = prepend_path
        self._include_prefix = include_prefix
        self._entries: dict[str, Entry] = {}
        self._depths: Counter[int] = Counter()
        self._probes: tuple[int, ...] = ()
        self._cache: dict[tuple[bytes, bytes], Way | None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, path: str) -> Entry | None:
        """The route with exactly this path."""
        return self._entries.get(self._key(clean(path)))

    def put(self, path: str, data: Mapping[str, Any], now: float) -> Entry:
        """Add a route, or give the one with this path new data. BadTarget if its target is none."""
        path = clean(path)
        target = parse_target(data["target"])
        kept = self._kept(path, data)
        key = self._key(path)
        entry = self._entries.get(key)
        self._cache.clear()
        if entry is not None:
            entry.target, entry.data, entry.last_activity = target, kept, now
            return entry
        entry = self._entries[key] = Entry(path, target, kept, now)
        self._count(key, 1)
        return entry

    def remove(self, path: str) -> bool:
        """Remove a route; False if there was none. Longer paths beneath it stay."""
        key = self._key(clean(path))
        if self._entries.pop(key, None) is None:
            return False
        self._cache.clear()
        self._count(key, -1)
        return True

    def update(
        self, routes: Mapping[str, Mapping[str, Any] | None], now: float, *, whole: bool = False
    ) -> None:
        """Many changes in one step: None removes a route; with `whole`, so does not being named.

        Routes named with the data they have keep their time of activity. BadTarget, which names the route, changes
        nothing.
        """
        for path, data in routes.items():
            if data is not None:
                try:
                    parse_target(data["target"])
                except BadTarget as error:
                    raise BadTarget(f"route {path!r}: {error}") from None
        if whole:
            named = {self._key(clean(path)) for path, data in routes.items() if data is not None}
            for path in [one.path for key, one in self._entries.items() if key not in named]:
                self.remove(path)
        for path, data in routes.items():
            if data is None:
                self.remove(path)
                continue
            entry = self.get(path)
            same = entry is not None and entry.data == self._kept(clean(path), data)
            self.put(path, data, entry.last_activity if same and entry is not None else now)

    def load(self, routes: Iterable[tuple[str, Mapping[str, Any], float]]) -> None:
        """Routes with their data and times of activity, in place of all there are. Later times that are known stay."""
        routes = list(routes)
        named = {self._key(clean(path)) for path, _, _ in routes}
        for path in [one.path for key, one in self._entries.items() if key not in named]:
            self.remove(path)
        for path, data, last_activity in routes:
            known = self.get(path)
            self.put(path, data, max(last_activity, known.last_activity if known else 0))

    def _kept(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        kept = dict(data)
        kept.pop("last_activity", None)
        if self.by_host:
            kept["host"] = path.split("/")[1]
        return kept

    def find(self, path: str) -> Entry | None:
        """The route whose prefix of whole segments is the longest for a decoded path."""
        parts = path.split("/")
        entries = self._entries
        for depth in self._probes:
            if depth < len(parts):
                entry = entries.get("/".join(parts[: depth + 1]))
                if entry is not None:
                    return entry
        return None

    def way(self, host: bytes | None, path: bytes) -> Way | None:
        """Resolve a request. ValueError for a path with a malformed escape.

        Answers are kept until the table changes, at most MAX_CACHED of them.
        """
        at = (_host_name(host) if self.by_host else b"", path)
        try:
            return self._cache[at]
        except KeyError:
            pass
        way = self._resolve(*at)
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        if len(path) <= 512:
            self._cache[at] = way
        return way

    def _resolve(self, host: bytes, path: bytes) -> Way | None:
        path = normal(path)
        shown = readable(path)
        entry = self.find(f"/{host.decode('latin-1')}{shown}" if self.by_host else shown)
        if entry is None:
            return None
        if not self._include_prefix and entry.path != "/":
            prefix = entry.path
            if self.by_host:
                prefix = prefix[len(prefix.split("/")[1]) + 1 :]
            path = without_prefix(path, prefix)
        if self._prepend_path and entry.target.path:
            path = entry.target.path + path
        return Way(entry, path)

    def _key(self, path: str) -> str:
        if path == "/":
            return ""
        if self.by_host:
            host, slash, rest = path[1:].partition("/")
            return f"/{host.lower()}{slash}{rest}"
        return path

    def _count(self, key: str, change: int) -> None:
        depth = key.count("/")
        self._depths[depth] += change
        if not self._depths[depth]:
            del self._depths[depth]
        if len(self._depths) != len(self._probes):
            self._probes = tuple(sorted(self._depths, reverse=True))


def loadable(routes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any], float]]:
    """Routes as the API writes them, for `RouteTable.load`."""
    for path, data in routes.items():
        yield path, data, parse_time(data["last_activity"])


def shown(entry: Entry) -> dict[str, Any]:
    """A route as the API and the snapshot write it."""
    return {**entry.data, "last_activity": iso(entry.last_activity)}


def _host_name(host: bytes | None) -> bytes:
    """The name in a Host header, in small letters, without the port."""
    if not host:
        return b""
    if host.startswith(b"["):
        return host[: host.find(b"]") + 1].lower()
    return host.partition(b":")[0].lower()
