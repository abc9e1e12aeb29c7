"""Every figure of this hub, under the names that JupyterHub gives them, so that dashboards made for it go on.

Labels have few values: never a person, never a path. Each replica has figures of its own; those that come from rows
(people, running servers) are the same in all of them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from himalia_spawner.base import Presence

PREFIX = "jupyterhub"
QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
START_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 180, 300, 600)
STOP_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ENDED = ("success", "failure")
LOOKED = ("running", "stopped", "failure")
PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
"""`active_users`: by how long ago somebody was last seen."""


class Figures:
    """One hub's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        labels = ["status"]
        self.requests = self._timer("request_duration_seconds", "Requests.", ["method", "handler", "code"])
        self.starts = self._timer(
            "server_spawn_duration_seconds",
            "From the wish to the first answer.",
            ["status", "reason"],
            START_S,
        )
        self.stops = self._timer("server_stop_seconds", "From the wish to its end.", labels, STOP_S)
        self.looks = self._timer(
            "server_poll_duration_seconds", "Asking what became of a server.", labels, among=LOOKED
        )
        self.route_puts = self._timer("proxy_add_duration_seconds", "Adding a route.", labels)
        self.route_deletes = self._timer("proxy_delete_duration_seconds", "Removing a route.", labels)
        self.route_polls = self._timer("proxy_poll_duration_seconds", "Reading the proxy's whole table.", [])
        self.route_checks = self._timer(
            "check_routes_duration_seconds", "Comparing the table with the rows.", []
        )
        self.logins = self._timer("login_duration_seconds", "Signing in.", labels)
        self.logouts = self._timer("logout_duration_seconds", "Signing out.", [])
        self.ticks = self._timer(
            "event_loop_interval_seconds",
            "Between two turns of the event loop that ask for 0.1 s.",
            [],
            QUICK_S,
        )
        self.started = self._timer(
            "hub_startup_duration_seconds", "From the first line to the first request.", [], START_S
        )
        self.first_looks = self._timer(
            "init_spawners_duration_seconds",
            "Until a hub that starts has looked at all that ran.",
            [],
            START_S,
        )
        self.running = self._gauge("running_servers", "Servers that are ready.")
        self.users = self._gauge("total_users", "People with an account.")
        self.active = self._gauge("active_users", "People seen within the period.", ["period"])
        self.csp_reports = Counter(
            f"{PREFIX}_csp_reports", "Violations that browsers reported.", registry=self.registry
        )

    def _timer(
        self,
        name: str,
        text: str,
        labels: list[str],
        buckets: tuple[float, ...] = QUICK_S,
        among: tuple[str, ...] = ENDED,
    ) -> Histogram:
        """Each status (`among`) is there from the beginning, as rates of what comes later need a zero before it."""
        timer = Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=self.registry)
        if labels[:1] == ["status"]:
            for status in among:
                timer.labels(*[status, *[""] * (len(labels) - 1)])
        return timer

    def _gauge(self, name: str, text: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels or [], registry=self.registry)

    def start_ended(self, since: datetime, now: datetime, *, failed_by: str = "") -> None:
        """A start came to its end: by a cause of ours, or with a server that answers."""
        status = "failure" if failed_by else "success"
        self.starts.labels(status, failed_by.replace(" ", "_")).observe(_seconds(since, now))

    def looked(self, presence: Presence | None, seconds: float) -> None:
        """The spawner was asked about a server; None: it could not be."""
        word = {Presence.PRESENT: "running", Presence.ABSENT: "stopped"}.get(presence, "failure")  # type: ignore[arg-type]
        self.looks.labels(word).observe(seconds)

    def stop_ended(self, since: datetime, now: datetime) -> None:
        """A server that was stopping is gone."""
        self.stops.labels("success").observe(_seconds(since, now))


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
