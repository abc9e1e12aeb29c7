"""`himalia scaletest`: many made-up people at once, on this machine only."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from yarl import URL

from himalia_hub.cli.common import open_database, settings_from
from himalia_hub.cli.terminal import Terminal
from himalia_hub.errors import BadRequest, HimaliaError
from himalia_hub.languages import counted
from himalia_hub.scaletest.people import Crowd, crowd
from himalia_hub.scaletest.report import Measured, summary, table
from himalia_hub.scaletest.visitor import Place, Visitor
from himalia_hub.settings import HubSettings

HELP = "let many made-up people log in, start, run a cell, idle and stop; print how long each step took"

UP_S = 60.0
DOWN_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, how hard, and against which hub."""
    parser.add_argument("--users", type=_at_least_one, default=10, metavar="N", help="people (default: 10)")
    parser.add_argument(
        "--at-once", type=_at_least_one, metavar="N", help="visits at one time (default: all of them)"
    )
    parser.add_argument(
        "--idle", type=float, default=2.0, metavar="S", help="seconds between cell and stop (default: 2)"
    )
    parser.add_argument(
        "--running",
        action="store_true",
        help="use the hub that runs on the data folder; otherwise one is started in a folder that is thrown away",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """The table on standard output; 1 when anything went wrong."""
    measured = asyncio.run(_run(args))
    print(json.dumps(summary(measured), indent=2) if args.json else table(measured))
    return 1 if measured.errors else 0


def _at_least_one(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of people; write 1 or more")
    return number


async def _run(args: argparse.Namespace) -> Measured:
    terminal = Terminal(sys.stderr)
    measured = Measured()
    async with _hub(args, terminal) as settings:
        place = _place(settings)
        async with (
            open_database(settings, make=True) as database,
            crowd(database, place, args.users) as people,
        ):
            terminal.done(counted("%(num)s person made", "%(num)s people made", args.users))
            await _visits(args, terminal, place, people, measured)
    terminal.done("Everything it made is removed")
    return measured


async def _visits(
    args: argparse.Namespace, terminal: Terminal, place: Place, people: Crowd, measured: Measured
) -> None:
    room = asyncio.Semaphore(args.at_once or args.users)
    ended = 0

    async def one(name: str) -> None:
        nonlocal ended
        async with room:
            await Visitor(place, name, people.password, measured).visit(args.idle)
        ended += 1
        terminal.progress("visits", ended, args.users)

    await asyncio.gather(*(one(name) for name in people.names))


def _place(settings: HubSettings) -> Place:
    """Where the proxy listens. BadRequest when that is not this machine alone: load goes nowhere else."""
    address = settings.proxy.ip.strip("[]")
    if address != "localhost" and not ip_address(address).is_loopback:
        raise BadRequest(
            f"the proxy listens on {address}, and scaletest loads this machine's own addresses only",
            remedy="give --proxy.ip 127.0.0.1, or leave --running out",
        )
    host = f"[{address}]" if ":" in address else address
    return Place(f"http://{host}:{settings.proxy.port}", settings.base_url, settings.hub_prefix)


@asynccontextmanager
async def _hub(args: argparse.Namespace, terminal: Terminal) -> AsyncIterator[HubSettings]:
    if args.running:
        settings = settings_from(args)
        await _answering(_place(settings))
        yield settings
        return
    folder = Path(tempfile.mkdtemp(prefix="himalia-scaletest-"))
    port = _free_ports()
    ours = {
        "proxy.ip": "127.0.0.1", "proxy.port": str(port), "hub.port": str(port + 2), "log.level": "warning",
        # The test is of many at once; what the site allows of them is not the question.
        "servers.concurrent_start_limit": "0", "servers.active_limit": "0",
    }  # fmt: skip
    args.data = folder
    settings = settings_from(args, ours)
    flags = [word for key, value in {**args.overrides, **ours}.items() for word in (f"--{key}", value)]
    config = ["--config", str(args.config)] if args.config else []
    log = (folder / "himalia.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "himalia_hub", "up", "--data", str(folder), *config, *flags,
        stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    log.close()
    try:
        await _answering(_place(settings), process)
        terminal.done(f"Hub started on {_place(settings).origin}")
        yield settings
    finally:
        await _end(process)
        shutil.rmtree(folder, ignore_errors=True)


async def _answering(place: Place, process: asyncio.subprocess.Process | None = None) -> None:
    """Wait for a hub that was just started; one that runs answers at once."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (UP_S if process else 0)
    url = URL(f"{place.origin}{place.hub_prefix}health")
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if process is not None and process.returncode is not None:
                raise HimaliaError("the hub ended at once; try `himalia up` with the same options to see why")
            if loop.time() > deadline:
                raise HimaliaError(f"no hub answers at {url}", remedy="start it with `himalia up`")
            await asyncio.sleep(0.1)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), DOWN_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_ports() -> int:
    """The first of three free ports in a row, as far as one can know."""
    for _attempt in range(100):
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
        try:
            for other in (port, port + 1, port + 2):
                socket.create_server(("127.0.0.1", other)).close()
        except OSError:
            continue
        return port
    raise HimaliaError("no three free ports in a row on 127.0.0.1")
