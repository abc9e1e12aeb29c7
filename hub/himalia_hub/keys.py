"""Typed keys of what the application and a request carry. There are no string keys and no globals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import asyncio

    from himalia_hub.db.engine import Database
    from himalia_hub.db.memo import Memo
    from himalia_hub.ephemeral.admission import Admission
    from himalia_hub.ephemeral.listeners import Listeners
    from himalia_hub.ephemeral.queue import Queue
    from himalia_hub.metrics.figures import Figures
    from himalia_hub.rbac.identity import Identity
    from himalia_hub.replicas.together import Together
    from himalia_hub.secrets import Secrets
    from himalia_hub.servers.doorbell import Doorbell
    from himalia_hub.servers.world import World
    from himalia_hub.settings import HubSettings
    from himalia_proxy.base import Proxy
    from himalia_spawner.base import Spawner

SETTINGS: web.AppKey[HubSettings] = web.AppKey("settings")
DB: web.AppKey[Database] = web.AppKey("db")
MEMO: web.AppKey[Memo] = web.AppKey("memo")
FIGURES: web.AppKey[Figures] = web.AppKey("figures")
SECRETS: web.AppKey[Secrets] = web.AppKey("secrets")
SPAWNER: web.AppKey[Spawner] = web.AppKey("spawner")
PROXY: web.AppKey[Proxy] = web.AppKey("proxy")
DOORBELL: web.AppKey[Doorbell] = web.AppKey("doorbell")
WORLD: web.AppKey[World] = web.AppKey("world")
TOGETHER: web.AppKey[Together] = web.AppKey("together")
ROUTES_WAKE_UP: web.AppKey[asyncio.Event] = web.AppKey("routes_wake_up")
LAUNCH_BELL: web.AppKey[Doorbell] = web.AppKey("launch_bell")
LAUNCH_DOOR: web.AppKey[Admission] = web.AppKey("launch_door")
LAUNCH_LISTENERS: web.AppKey[Listeners] = web.AppKey("launch_listeners")
LAUNCH_QUEUE: web.AppKey[Queue] = web.AppKey("launch_queue")

IDENTITY: web.RequestKey[Identity | None] = web.RequestKey("identity")
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id")
