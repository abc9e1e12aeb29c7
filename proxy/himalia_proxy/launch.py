"""The command line of a proxy process, in words that ours and configurable-http-proxy both understand."""

from __future__ import annotations

from collections.abc import Sequence


def proxy_argv(
    command: Sequence[str],
    *,
    ip: str,
    port: int,
    api_ip: str,
    api_port: int,
    error_target: str | None = None,
    log_level: str = "info",
    ssl_key: str | None = None,
    ssl_cert: str | None = None,
    host_routing: bool = False,
    pid_file: str | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """`command` followed by its options. The API token goes by CONFIGPROXY_AUTH_TOKEN, never by argument.

    An empty `ip` means all interfaces. `extra` comes last; `--routes-file` belongs there, and only for ours.
    """
    argv = [*command, "--port", str(port), "--api-ip", api_ip, "--api-port", str(api_port)]
    argv += ["--log-level", {"warning": "warn", "critical": "error"}.get(log_level, log_level)]
    for option, value in (
        ("--ip", ip),
        ("--error-target", error_target),
        ("--ssl-key", ssl_key),
        ("--ssl-cert", ssl_cert),
        ("--pid-file", pid_file),
    ):
        if value:
            argv += [option, value]
    if host_routing:
        argv.append("--host-routing")
    return [*argv, *extra]
