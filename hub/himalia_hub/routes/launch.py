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
from pathlib import Path

import aiohttp
import structlog

from himalia_hub.errors import ConfigError, Unavailable
from himalia_hub.settings import HubSettings
from himalia_proxy.launch import proxy_argv

log = structlog.get_logger()

START_PATIENCE_S = 20.0


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
    """Starts the proxy or adopts the one a former hub left running; brings it back when it dies."""

    def __init__(self, settings: HubSettings, hub_url: str) -> None:
        self._settings, self._hub_url = settings, hub_url
        self._record = settings.data_dir / "proxy.json"
        self._log = settings.data_dir / "logs" / "proxy.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._pidfd = -1
        self.restarted = asyncio.Event()

    async def start(self) -> str:
        """Have a proxy that answers; "adopted" or "started". Unavailable says why there is none."""
        argv = self._argv()
        if await self._adopt(argv):
            return "adopted"
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
        """End the proxy: it drains for a moment; SIGKILL if it does not end."""
        if self._pidfd < 0:
            return
        for signum, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._ended()
                break
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
        )
        if not p.command:
            argv += ["--routes-file", str(self._settings.data_dir / "routes.json")]
        return argv + p.args

    async def _adopt(self, argv: list[str]) -> bool:
        try:
            record = json.loads(self._record.read_text())
            pid, born = int(record["pid"]), int(record["born"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if _born(pid) != born:
            return False
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        if _born(pid) == born and record.get("argv") == argv and await self._answers():
            return True
        await self.stop()  # of other settings, or deaf
        return False

    async def _launch(self, argv: list[str]) -> None:
        self.close()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": auth_token(self._settings)}
        with self._log.open("ab") as sink:
            try:
                child = subprocess.Popen(  # noqa: ASYNC220 -- a few milliseconds, once
                    argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, start_new_session=True
                )
            except OSError as error:
                raise Unavailable(f"the proxy {argv[0]!r} cannot be run: {error.strerror}") from None
        self._child, self._pid, self._pidfd = child, child.pid, os.pidfd_open(child.pid)
        scratch = self._record.with_suffix(".new")
        scratch.write_text(json.dumps({"pid": child.pid, "born": _born(child.pid), "argv": argv}))
        os.replace(scratch, self._record)
        ended = asyncio.create_task(self._ended())
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                while not await self._answers():
                    await asyncio.wait({ended}, timeout=0.02)
                    if ended.done():
                        raise Unavailable(f"the proxy ended at once: {_last_line(self._log)}")
        except TimeoutError:
            raise Unavailable(
                f"the proxy did not answer within {START_PATIENCE_S:g} s: {_last_line(self._log)}"
            ) from None
        finally:
            ended.cancel()

    async def _answers(self) -> bool:
        headers = {"Authorization": f"token {auth_token(self._settings)}"}
        url = f"{self._settings.proxy_api_url}/api/routes"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(url, headers=headers) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _ended(self) -> None:
        """Until the process is gone; reaps it when it is our child."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        descriptor = os.dup(self._pidfd)
        try:
            loop.add_reader(descriptor, gone.set)
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        if self._child is not None:
            self._child.poll()


def _born(pid: int) -> int:
    """Start time of a process in clock ticks after boot (proc(5), field 22); 0 when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").strip().splitlines()
        if lines:
            return f"{lines[-1]!r} (more in {path})"
    return f"nothing in {path}"
