"""The SDK's unix socket transport, with its one leak closed.

The SDK forgets a socket whose connect failed and leaves it to the garbage collector. While an engine is away that is
one open socket a try, and an interpreter that treats warnings as errors ends over it.
"""

from __future__ import annotations

import socket
from typing import Any

from docker.api.client import APIClient
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

SCHEME = "http+docker://"


def close_failed_connects(client: APIClient) -> None:
    """Have `client` close what it cannot connect. Only unix sockets are concerned; others are left as they are."""
    theirs = client.adapters.get(SCHEME)
    if isinstance(theirs, UnixHTTPAdapter):
        client.mount(SCHEME, _Adapter(f"http+unix://{theirs.socket_path}", theirs.timeout))


class _Connection(UnixHTTPConnection):  # type: ignore[misc]
    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _Pool(UnixHTTPConnectionPool):  # type: ignore[misc]
    def _new_conn(self) -> _Connection:
        return _Connection(self.base_url, self.socket_path, self.timeout)


class _Adapter(UnixHTTPAdapter):  # type: ignore[misc]
    def get_connection(self, url: str, proxies: Any = None) -> _Pool:
        """One pool an address, as the SDK keeps them."""
        with self.pools.lock:
            pool: _Pool | None = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _Pool(
                    url, self.socket_path, self.timeout, maxsize=self.max_pool_size
                )
        return pool
