"""Running the hub in this process: the event loop, the log, and errors that end it as one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop

from himalia_hub import logs
from himalia_hub.cli.terminal import Terminal
from himalia_hub.errors import HimaliaError, sentence
from himalia_hub.serve import Plan, serve
from himalia_hub.settings import HubSettings
from himalia_spawner.errors import SpawnError


def run_hub(
    settings: HubSettings,
    *,
    migrate: bool,
    keep_servers: bool,
    keep_proxy: bool,
    load: Callable[[], HubSettings],
    reload_on_hangup: bool = False,
) -> int:
    """Exit code 0 after a clean end, 1 when it could not run; the reason is on the terminal.

    `load` reads the configuration once more, for a reload.
    """
    logs.configure(settings.log)
    terminal = Terminal()
    plan = Plan(
        migrate=migrate,
        keep_servers=keep_servers,
        keep_proxy=keep_proxy,
        reporter=terminal,
        load=load,
        reload_on_hangup=reload_on_hangup,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, plan))
    except (HimaliaError, SpawnError) as error:
        terminal.fail(sentence(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
