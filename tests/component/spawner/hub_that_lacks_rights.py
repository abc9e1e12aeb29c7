"""A hub of these tests without a capability: starts one server as a system user and prints what came of it.

Its argument is JSON: `settings`, `data`, `username`, `own` (command), `entry`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from himalia_spawner import launch, nest_client
from himalia_spawner.base import ServerRef, ServerSpec
from himalia_spawner.errors import SpawnError
from himalia_spawner.process import ProcessSpawner
from himalia_spawner.settings import ProcessSettings


async def main() -> None:
    told = json.loads(sys.argv[1])
    launch.OWN_COMMAND = tuple(told["own"])  # a small server in place of ours
    launch.OWN_ENTRY = told["entry"]
    nest_client.EXTRA_PATH = (str(Path(__file__).parent),)
    settings = ProcessSettings.model_validate(told["settings"])
    spawner = ProcessSpawner(settings, hub_id="tests", data_dir=Path(told["data"]))
    try:
        handle = await spawner.start(
            ServerSpec(ServerRef("it", "1"), told["username"], "", "/user/it/", {"A": "1"})
        )
        print(f"started: {handle}")
    except SpawnError as error:
        print(f"{type(error).__name__}: {error}")
    finally:
        await spawner.close()


if __name__ == "__main__":
    asyncio.run(main())
