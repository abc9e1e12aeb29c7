"""Where a proxy listens when it is told nothing of addresses."""

from __future__ import annotations

import contextlib
import socket

import pytest

from himalia_proxy import listeners
from himalia_proxy.listeners import Place, bind_all, listens_at

EVERYWHERE = Place(None, "", 0, "--port")


def machine_has_ipv6() -> bool:
    """Asked in another way than the proxy does."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def reached(address: str, port: int) -> None:
    """A connection can be had there."""
    with socket.create_connection((address, port), timeout=30):
        pass


def test_all_interfaces_are_those_of_both_families_where_the_machine_has_them() -> None:
    sock = bind_all({"public": EVERYWHERE})["public"]
    with sock:
        for address in ("127.0.0.1", *(["::1"] if machine_has_ipv6() else [])):
            reached(address, sock.getsockname()[1])


def test_without_ipv6_all_interfaces_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_has_ipv6", lambda: False)

    with bind_all({"public": EVERYWHERE})["public"] as sock:
        port = sock.getsockname()[1]
        reached("127.0.0.1", port)

        assert sock.family == socket.AF_INET
        assert listens_at(sock.getsockname(), Place(None, "", port, "--port"))
