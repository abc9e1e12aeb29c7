"""What containers use, as the engine counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from docker import errors

from himalia_spawner.base import Measure
from himalia_spawner.containers.engine import Engine
from himalia_spawner.errors import BackendGone

AT_ONCE = 2
"""Starts have the engine's other threads."""


async def measured(engine: Engine, containers: Mapping[str, str]) -> dict[str, Measure]:
    """By the names that `containers` maps to the engine's; who cannot be asked, or does not run, is left out."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(container: str) -> Measure | None:
        async with places:
            with suppress(BackendGone, errors.APIError):
                return measure_of(await engine.ask(partial(_stats, container=container)))
        return None

    found = await asyncio.gather(*map(one, containers.values()))
    return {name: each for name, each in zip(containers, found, strict=True) if each is not None}


def _stats(client: Any, *, container: str) -> Mapping[str, Any]:
    # Without `one-shot` the engine waits a second for a second sample.
    stats: Mapping[str, Any] = client.stats(container, stream=False, one_shot=True)
    return stats


def measure_of(stats: Mapping[str, Any]) -> Measure | None:
    """From the engine's figures (Engine API, ContainerStats); None for a container that does not run.

    Memory as `docker stats` shows it: without cached files that nobody reads.
    """
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    counted = memory.get("stats") or {}
    cached = counted.get("total_inactive_file", counted.get("inactive_file", 0))
    return Measure(max(0, memory["usage"] - cached), stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9)
