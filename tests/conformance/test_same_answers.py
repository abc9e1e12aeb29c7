"""The official hub and ours are asked the same, one call after the other, and answer the same."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from conformance.calls import ANN, CALLS, WEB, Step
from conformance.official_hub import ADMIN, official_hub
from hubs import Hub
from small_servers import SERVE

pytestmark = pytest.mark.timeout(300)

SERVER = [sys.executable, "-I", "-c", SERVE + "s.serve_forever()"]
OFFICIAL = f"""
c.JupyterHub.allow_named_servers = True
c.Spawner.cmd = {SERVER!r}
c.Spawner.args = []
c.SimpleLocalProcessSpawner.interrupt_timeout = c.SimpleLocalProcessSpawner.term_timeout = 1
c.JupyterHub.services = [
    {{"name": "admin", "api_token": {ADMIN!r}, "admin": True}},
    {{"name": "web", "api_token": {WEB!r}, "info": {{"a": 1}}}},
]
"""
OURS = f"""
[spawner]
command = {json.dumps(SERVER)}
[spawner.process]
interrupt_timeout_s = 1
term_timeout_s = 1
[[services]]
name = "admin"
api_token = {json.dumps(ADMIN + "-of-ours-that-is-long-enough")}
admin = true
[[services]]
name = "web"
info = {{a = 1}}
api_token = {json.dumps(WEB)}
"""
FREE = {
    "state",
    "created",
    "last_activity",
    "started",
    "created_at",
    "expires_at",
    "token",
    "code",
    "accept_url",
    "id",
}
"""Keys whose values differ from run to run, and those of the spawner's own."""
MORE = {"audit", "logs", "roles", "announcements", "maintenance", "links"}
"""Scopes that only we know end in these."""


@dataclass
class Side:
    """One of the two hubs, with the tokens that were made on it."""

    api: str
    token: str
    made: dict[str, str] = field(default_factory=lambda: {"web": WEB})

    async def answer(self, session: aiohttp.ClientSession, step: Step) -> tuple[int, Any]:
        """Status, and what of the body must be the same on both sides."""
        headers = {
            "Authorization": f"token {self.made[step.by] if step.by else self.token}",
            "Accept": step.accept,
        }
        body = step.body if step.body is None or isinstance(step.body, str) else json.dumps(step.body)
        path = step.path.replace("MADE", self.made.get(ANN, "")).replace("OWN", self.token)
        url = yarl.URL(self.api + path, encoded=True)
        async with session.request(step.method, url, data=body, headers=headers) as got:
            text = await got.text()
            model = json.loads(text) if got.content_type == "application/json" and text else None
        if got.status == 201 and step.path.endswith("/tokens"):
            self.made.setdefault(step.path.removesuffix("/tokens"), model["token"])
        if got.status >= 400 or (got.status == 201 and "/server" in step.path and step.method == "POST"):
            return got.status, None  # words are our own; a started server is shown by us only
        return got.status, comparable(model)


def comparable(value: Any) -> Any:
    """Without what cannot be the same: moments, numbers of rows, secrets, addresses, order of sets."""
    if isinstance(value, dict):
        kept = {key: comparable(item) for key, item in value.items() if key not in FREE}
        if "user_options" in kept:  # of what never started there are none, or none yet
            kept["user_options"] = kept["user_options"] or {}
        for key in ("roles", "scopes", "users", "groups"):
            if isinstance(kept.get(key), list) and all(isinstance(item, str) for item in kept[key]):
                kept[key] = sorted(
                    item for item in kept[key] if item.rpartition(":")[2] not in MORE or "!" in item
                )
        return kept
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"http://127\.0\.0\.1:\d{2,}", "", value)
        return re.sub(r"offset=(\d+)&limit=(\d+)", r"limit=\2&offset=\1", value)
    return value


def differences(step: Step, theirs: tuple[int, Any], ours: tuple[int, Any]) -> Iterator[str]:
    """What is not as it must be."""
    if step.better:
        if ours[0] != step.better:
            yield f"{step}: {ours[0]}, and it should be {step.better}"
    elif theirs != ours:
        yield f"{step}:\n  official {theirs}\n  ours     {ours}"


async def test_each_call_is_answered_as_the_official_hub_does(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "ours", config=OURS)
    (tmp_path / "official").mkdir()
    found: list[str] = []
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        await hub.start()
        async with (
            official_hub(tmp_path / "official", config=OFFICIAL) as official,
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            theirs = Side(f"{official.url}hub/api", ADMIN)
            ours = Side(hub.api, ADMIN + "-of-ours-that-is-long-enough")
            for calls in CALLS.values():
                for step in calls:
                    both = [await side.answer(session, step) for side in (theirs, ours)]
                    found += differences(step, both[0], both[1])
        await hub.stop()
    finally:
        hub.clean_up()
    assert not found, "\n".join(found)
