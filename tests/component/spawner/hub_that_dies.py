"""A hub of these tests: starts or stops one server and is killed by SIGKILL at a named point.

Its argument is JSON: `settings`, `data`, `hub_id`, `own` (command), `entry`, `verb` (start or stop), `point`, `spec`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from himalia_spawner import launch, nest_client
from himalia_spawner.base import ServerRef, ServerSpec
from himalia_spawner.process import ProcessSpawner
from himalia_spawner.settings import ProcessSettings


async def main() -> None:
    told = json.loads(sys.argv[1])

    def fault(point: str) -> None:
        if point == told["point"]:
            os.kill(os.getpid(), signal.SIGKILL)

    launch.OWN_COMMAND = tuple(told["own"])  # a small server in place of ours
    launch.OWN_ENTRY = told["entry"]
    nest_client.EXTRA_PATH = (str(Path(__file__).parent),)
    settings = ProcessSettings.model_validate(told["settings"])
    spawner = ProcessSpawner(settings, hub_id=told["hub_id"], data_dir=Path(told["data"]), fault=fault)
    ref = ServerRef(told["spec"]["name"], told["spec"]["incarnation"])
    if told["verb"] == "stop":
        await spawner.stop(ref)
    else:
        command = tuple(told["spec"]["command"])
        await spawner.start(ServerSpec(ref, "ada", "", "/user/ada/", {"A": "1"}, command))
    await spawner.close()


if __name__ == "__main__":
    asyncio.run(main())
