"""Whether the running parts answer each other: the proxy, the hub, what servers are started with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp

from himalia_hub import domains, secrets
from himalia_hub.auth.door import configured
from himalia_hub.auth.registry import find_plugin
from himalia_hub.errors import ConfigError, sentence
from himalia_hub.folder import Running, where_it_runs
from himalia_hub.health.finding import Finding, advice, ok, problem
from himalia_hub.languages import counted
from himalia_hub.routes.launch import auth_token
from himalia_hub.settings import HubSettings, local_url
from himalia_hub.spawning import make_spawner
from himalia_proxy.base import ProxyError
from himalia_proxy.client import HttpProxy
from himalia_spawner.base import Spawner
from himalia_spawner.errors import SpawnError

PATIENCE_S = 5.0


async def proxy(settings: HubSettings) -> Finding:
    """Whether the proxy's REST API answers to our token and knows the hub."""
    runs = where_it_runs(settings.data_dir)
    where = runs.proxy_api if runs else settings.proxy_api_url
    if not (settings.data_dir / "proxy.token").exists() and not _token_elsewhere(settings):
        return ok("proxy", "never started here")
    client = HttpProxy(where, auth_token(settings))
    try:
        table = await client.routes()
    except ProxyError as error:
        return problem(
            "proxy",
            f"{where} does not answer as it should: {error}",
            "start the hub, or correct proxy.api_url and token",
        )
    finally:
        await client.close()
    if domains.hub_route(settings) not in table:
        return problem(
            "proxy", f"{where} answers, but has no route to the hub", "start the hub: it sets its route"
        )
    return ok(
        "proxy",
        counted(
            "%(address)s answers and has %(num)s route",
            "%(address)s answers and has %(num)s routes",
            len(table),
            address=where,
        ),
    )


def _token_elsewhere(settings: HubSettings) -> bool:
    return settings.proxy.auth_token is not None or settings.proxy.auth_token_file is not None


async def hub(settings: HubSettings) -> Finding:
    """Whether the hub answers through the proxy, as it would to a person."""
    runs = where_it_runs(settings.data_dir)
    said = local_url(settings.proxy.ip, settings.proxy.port) + settings.hub_prefix
    url = f"{runs.through_proxy if runs else said}health"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session,
            session.get(url) as answer,
        ):
            if answer.status == 200 and runs and _is_elsewhere(settings, runs):
                return advice(
                    "hub",
                    f"{url} answers, and the configuration has another address by now",
                    "it counts after a restart; himalia config reload names what does",
                )
            if answer.status == 200:
                return ok("hub", f"{url} answers")
            return problem("hub", f"{url} answers {answer.status}", "look into the hub's log")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return advice(
            "hub", f"{url} does not answer", "himalia up, or systemctl start himalia-hub himalia-proxy"
        )


def _is_elsewhere(settings: HubSettings, runs: Running) -> bool:
    hub, proxy, prefix = settings.hub, settings.proxy, settings.hub_prefix
    here = local_url(hub.ip, hub.port) + prefix if hub.port else runs.hub
    wanted = here, local_url(proxy.ip, proxy.port) + prefix, settings.proxy_api_url
    return wanted != (runs.hub, runs.through_proxy, runs.proxy_api)


async def spawner(settings: HubSettings) -> Finding:
    """Whether what starts servers accepts its settings and answers; how many servers it holds."""
    path = settings.hub.secret_file or settings.data_dir / "secret"
    if not path.exists():
        return ok(_spawner_of(settings), "never used here")
    try:
        chosen = make_spawner(settings, secrets.load_or_create(path))
    except ConfigError as error:
        return problem(_spawner_of(settings), str(error), "himalia config schema lists its settings")
    try:
        return await held_by(settings, chosen)
    finally:
        await chosen.close()


async def held_by(settings: HubSettings, chosen: Spawner) -> Finding:
    """The same of a spawner that is there: to make another takes 20 ms or more, in which nobody else is served."""
    try:
        held = await chosen.list()
    except SpawnError as error:
        remedy = "start what it names, or correct the spawner's settings"
        return problem(_spawner_of(settings), str(error), remedy)
    return ok(_spawner_of(settings), counted("holds %(num)s server", "holds %(num)s servers", len(held)))


def _spawner_of(settings: HubSettings) -> str:
    return f"spawner {settings.spawner.kind}"


async def names(settings: HubSettings) -> list[Finding]:
    """Whether hosts below the hub's are found, where servers have such; nothing where they have none."""
    if not settings.subdomain_host:
        return []
    host = urlsplit(domains.person_origin(settings, "somebody")).hostname
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        remedy = (
            f"add a DNS record for *.{urlsplit(settings.subdomain_host).hostname} that leads to the proxy"
        )
        return [problem("subdomains", f"{host} is not found, so nobody reaches a server", remedy)]
    return [ok("subdomains", f"{host} is found")]


def ways(settings: HubSettings) -> Iterator[Finding]:
    """Ways to sign in that keep a hub from starting. One that runs has none, so what is well is not said."""
    for name, section in configured(settings).items():
        try:
            find_plugin(section.kind).validate(name, section.model_extra or {})
        except ConfigError as error:
            yield problem(f"sign-in {name}", sentence(error), f"correct [auth.methods.{name}]")


def account(settings: HubSettings) -> Finding:
    """Whose account servers run as."""
    if settings.spawner.kind != "process":
        return ok("accounts", f"servers run as {settings.spawner.kind} gives them")
    if settings.spawner.process.get("system_users"):
        return ok("accounts", "each server runs as the system user of its person's name")
    if os.geteuid() == 0:
        return advice(
            "accounts",
            "everyone's server runs as root",
            "spawner.process.system_users = true, or the Docker spawner, or a hub that is not root",
        )
    return advice(
        "accounts",
        "everyone's server runs as the hub's own account: people can read each other's files",
        "spawner.process.system_users = true with a hub that is root, or the Docker spawner",
    )
