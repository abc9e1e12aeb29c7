"""The proxy as a process of its own: started in a session of its own, found again after the hub's restart, watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from himalia_hub.errors import ConfigError, Unavailable
from himalia_hub.settings import HubSettings
from himalia_proxy.launch import proxy_argv

log = structlog.get_logger()

START_PATIENCE_S = 20.0
END_PATIENCE_S = 10.0


def auth_token(settings: HubSettings) -> str:
    """The token of the proxy's REST API: configured, or made once and kept in the data folder (0600)."""
    if settings.proxy.auth_token is not None:
        return settings.proxy.auth_token.get_secret_value()
    path = settings.proxy.auth_token_file or settings.data_dir / "proxy.token"
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    token = path.read_text().strip()
    if not token:
        raise ConfigError(f"{path} is empty; write the proxy's token into it, or remove it to have one made")
    return token


class ProxyProcess:
    """Starts the proxy or adopts the one a former hub left running; brings it back when it dies.

    One of other settings or of another release is replaced through `--handover-socket`: nobody is refused, and it
    lives on for as long as its tunnels do. Such predecessors are kept in the record as `former`, to be ended too.
    """

    def __init__(self, settings: HubSettings, hub_url: str) -> None:
        self._settings, self._hub_url = settings, hub_url
        self._record = settings.data_dir / "proxy.json"
        self._log = settings.data_dir / "logs" / "proxy.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._pidfd = -1
        self.restarted = asyncio.Event()

    async def start(self) -> str:
        """Have a proxy that answers; "adopted", "replaced" or "started". Unavailable says why there is none.

        One that could not be replaced, because the new settings do not work, goes on as it was.
        """
        argv, record = self._argv(), self._recorded()
        if record is None:
            await self._launch(argv)
            return "started"
        answers = await self._answers(record)
        if answers == 200 and record.get("argv") == argv and record.get("version") == version("himalia"):
            return "adopted"
        if answers and _hands_over(record["argv"], argv):
            # Two proxies cannot be told apart by asking, so the new one's own pid file says that it serves.
            await self._launch(argv, record)
            return "replaced"
        await self.stop()
        await self._launch(argv)
        return "started"

    async def watch(self) -> None:
        """Bring the proxy back whenever it dies, until cancelled."""
        while True:
            await self._ended()
            log.error("proxy.died", pid=self._pid, log=str(self._log))
            delay = 0.1
            while True:
                try:
                    await self._launch(self._argv())
                    break
                except (Unavailable, OSError) as error:
                    log.error("proxy.not_started", error=str(error))
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 10.0)
            log.info("proxy.restarted", pid=self._pid)
            self.restarted.set()

    async def stop(self) -> None:
        """End the proxy, which drains for a moment, and predecessors that still hold tunnels."""
        if self._pidfd < 0:
            return
        former = self._former().values()
        await asyncio.gather(_end(self._pidfd), *map(_end, former))
        for pidfd in former:
            os.close(pidfd)
        if self._child is not None:
            self._child.poll()
        self._record.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the process; it goes on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._child is not None:
            # It outlives us on purpose; without a return code Popen would warn of that when it is collected.
            self._child.returncode = self._child.poll() or 0
            self._child = None

    def _argv(self) -> list[str]:
        p = self._settings.proxy
        command = p.command or [sys.executable, "-I", "-m", "himalia_proxy"]
        argv = proxy_argv(
            command,
            ip=p.ip,
            port=p.port,
            api_ip=p.api_ip,
            api_port=self._settings.proxy_api_port,
            error_target=f"{self._hub_url}{self._settings.hub_prefix}error",
            log_level={"warning": "warn"}.get(self._settings.log.level, self._settings.log.level),
            host_routing=bool(self._settings.subdomain_host),
        )
        if not p.command:
            folder = self._settings.data_dir
            argv += ["--routes-file", str(folder / "routes.json"), "--pid-file", str(folder / "proxy.pid")]
            # A unix socket's name has 107 bytes; a folder too deep for one has its proxy stopped and started.
            if len(os.fsencode(folder / "proxy.handover")) < 96:
                argv += ["--handover-socket", str(folder / "proxy.handover")]
        return argv + p.args

    def _recorded(self) -> dict[str, Any] | None:
        """What was noted of the proxy that runs, whose process is held from now on; None if there is none."""
        try:
            record = json.loads(self._record.read_text())
            pid, born = int(record["pid"]), int(record["born"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if _born(pid) != born:
            return None
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        return record if _born(pid) == born else None

    def _former(self) -> dict[tuple[int, int], int]:
        """Predecessors that still live: pid and start time → an open descriptor of theirs."""
        found: dict[tuple[int, int], int] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            for pid, born in json.loads(self._record.read_text()).get("former", ()):
                with contextlib.suppress(OSError):
                    found[pid, born] = os.pidfd_open(pid)
                    if _born(pid) != born:
                        os.close(found.pop((pid, born)))
        return found

    async def _launch(self, argv: list[str], old: dict[str, Any] | None = None) -> None:
        """Start it and wait until it serves; in place of `old`, which stays recorded if that fails."""
        former = self._former()
        for pidfd in former.values():
            os.close(pidfd)
        self.close()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": auth_token(self._settings)}
        with self._log.open("ab") as sink:
            try:
                child = subprocess.Popen(  # noqa: ASYNC220 -- a few milliseconds, once
                    argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, start_new_session=True
                )
            except OSError as error:
                raise Unavailable(
                    f"the proxy {argv[0]!r} cannot be run: {error.strerror}", remedy="change proxy.command"
                ) from None
        self._child, self._pid, self._pidfd = child, child.pid, os.pidfd_open(child.pid)
        self._note(
            {
                "pid": child.pid,
                "born": _born(child.pid),
                "argv": argv,
                "version": version("himalia"),
                "api": self._settings.proxy_api_url,
                "former": [*former, *([(old["pid"], old["born"])] if old else [])],
            }
        )
        try:
            await self._serves(argv)
        except Unavailable:
            if old is not None:
                await _end(self._pidfd)
                self._note(old)
            raise

    def _note(self, record: dict[str, Any]) -> None:
        scratch = self._record.with_suffix(".new")
        scratch.write_text(json.dumps(record))
        os.replace(scratch, self._record)

    async def _serves(self, argv: list[str]) -> None:
        """Until the process that was just started serves. Unavailable."""
        ended = asyncio.create_task(_gone(self._pidfd))
        pid_file = option(argv, "--pid-file")

        async def up() -> bool:
            # While it takes over from another, that one answers: its own pid file says which of them does.
            if pid_file is not None and _text(pid_file) != str(self._pid):
                return False
            return await self._answers() == 200

        try:
            async with asyncio.timeout(START_PATIENCE_S):
                while not await up():
                    await asyncio.wait({ended}, timeout=0.02)
                    if ended.done():
                        raise Unavailable(f"the proxy ended at once: {_last_line(self._log)}")
        except TimeoutError:
            raise Unavailable(
                f"the proxy did not answer within {START_PATIENCE_S:g} s: {_last_line(self._log)}"
            ) from None
        finally:
            ended.cancel()

    async def _answers(self, record: Mapping[str, Any] | None = None) -> int:
        """The status of a look at the table, here or where `record` says; 0 if nobody answers."""
        headers = {"Authorization": f"token {auth_token(self._settings)}"}
        url = (record or {}).get("api") or self._settings.proxy_api_url
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(f"{url}/api/routes", headers=headers) as answer,
            ):
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    async def _ended(self) -> None:
        """Until the process is gone; reaps it when it is our child."""
        await _gone(self._pidfd)
        if self._child is not None:
            self._child.poll()


def option(argv: Sequence[str], name: str) -> str | None:
    """What a command line says of `name`: the last one counts, as for argparse."""
    said = None
    for number, word in enumerate(argv):
        if word == name and number + 1 < len(argv):
            said = argv[number + 1]
        elif word.startswith(f"{name}="):
            said = word.partition("=")[2]
    return said


def _hands_over(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether one can take over from the other: not with a port that stays at an address that changes."""
    at = option(old, "--handover-socket")
    same = all(option(old, name) == option(new, name) for name in ("--ip", "--api-ip", "--metrics-ip"))
    return at is not None and at == option(new, "--handover-socket") and same


async def _gone(pidfd: int) -> None:
    """Until that process has ended."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.dup(pidfd)
    try:
        loop.add_reader(descriptor, gone.set)
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _end(pidfd: int) -> None:
    """Ask it to end, and kill it if it does not."""
    for signum, patience_s in ((signal.SIGTERM, END_PATIENCE_S), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signum)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await _gone(pidfd)
            return


def _born(pid: int) -> int:
    """Start time of a process in clock ticks after boot (proc(5), field 22); 0 when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").strip().splitlines()
        if lines:
            return f"{lines[-1]!r} (more in {path})"
    return f"nothing in {path}"
