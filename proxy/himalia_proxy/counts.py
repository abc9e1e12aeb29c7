"""What a process counts, and how Prometheus reads it: configurable-http-proxy's names, then some of our own. Pure."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

_STARTED: Final = time.time()


class Counts:
    """Since the start; plain numbers that the paths of requests add to."""

    __slots__ = (
        "api",
        "lookup_s",
        "lookups",
        "proxied",
        "refused",
        "route_add",
        "route_delete",
        "route_get",
        "touched",
        "web",
        "ws",
    )

    def __init__(self) -> None:
        self.route_get = self.route_add = self.route_delete = 0
        self.web = self.ws = self.touched = self.lookups = self.refused = 0
        self.lookup_s = 0.0
        self.proxied: Counter[int] = Counter()
        self.api: Counter[int] = Counter()

    def plain(self) -> dict[str, Any]:
        """For another process, as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what another process sent."""
        for name in self.__slots__:
            value = other[name]
            if isinstance(value, Mapping):
                getattr(self, name).update({int(status): count for status, count in value.items()})
            else:
                setattr(self, name, getattr(self, name) + value)


def exposition(counts: Counts, gauges: Mapping[str, float]) -> bytes:
    """The text format of Prometheus 0.0.4. `gauges`: what is the case now, by name behind `himalia_proxy_`."""
    lines: list[str] = []

    def tell(name: str, kind: str, words: str, *samples: tuple[str, float]) -> None:
        lines.extend((f"# HELP {name} {words}", f"# TYPE {name} {kind}"))
        lines.extend(f"{name}{suffix} {value:.10g}" for suffix, value in samples)

    for name, words, value in (
        ("api_route_get", "Count of API route get requests", counts.route_get),
        ("api_route_add", "Count of API route add requests", counts.route_add),
        ("api_route_delete", "Count of API route delete requests", counts.route_delete),
        ("requests_ws", "Count of websocket requests", counts.ws),
        ("requests_web", "Count of web requests", counts.web),
        ("himalia_proxy_refused_total", "Requests refused as malformed or beyond a limit.", counts.refused),
    ):
        tell(name, "counter", words, ("", value))
    for name, words, each in (
        ("requests_proxy", "Count of proxy requests", counts.proxied),
        ("requests_api", "Count of API requests", counts.api),
    ):
        labelled = ((f'{{status="{status}"}}', count) for status, count in sorted(each.items()))
        tell(name, "counter", words, *labelled)
    found = ("_sum", counts.lookup_s), ("_count", counts.lookups)
    tell("find_target_for_req", "summary", "Summary of find target requests", *found)
    # An assignment here, too short for a timer.
    touched = ("_sum", 0.0), ("_count", counts.touched)
    tell("last_activity_updating", "summary", "Summary of last activity updating requests", *touched)
    for name, number in gauges.items():
        tell(f"himalia_proxy_{name}", "gauge", f"Number of {name.replace('_', ' ')} now.", ("", number))
    _tell_process(tell)
    return ("\n".join(lines) + "\n").encode()


def _tell_process(tell: Any) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    descriptors = len(os.listdir("/proc/self/fd")) - 1
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for name, kind, words, value in (
        (
            "cpu_seconds_total",
            "counter",
            "User and system CPU time in seconds.",
            used.ru_utime + used.ru_stime,
        ),
        ("resident_memory_bytes", "gauge", "Resident memory in bytes.", pages * resource.getpagesize()),
        ("open_fds", "gauge", "Open file descriptors.", descriptors),
        ("max_fds", "gauge", "Most file descriptors there may be.", limit),
        ("start_time_seconds", "gauge", "Start of the process, in seconds since 1970.", _STARTED),
    ):
        tell(f"process_{name}", kind, words, ("", value))
