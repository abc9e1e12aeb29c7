"""Alone on TCP, only names of this machine are answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from himalia_singleuser.auth.origin import check_host
from himalia_singleuser.errors import Forbidden
from himalia_singleuser.keys import SETTINGS
from himalia_singleuser.settings import Settings


def asked(host: str, **settings: object) -> web.Request:
    app = web.Application()
    app[SETTINGS] = Settings(root_dir=Path("/tmp"), **settings)  # type: ignore[arg-type]
    return make_mocked_request("GET", "/", headers={"Host": host}, app=app)


@pytest.mark.parametrize("host", ["localhost", "localhost:8888", "127.0.0.1:1", "[::1]:8888", "a.localhost"])
def test_names_of_this_machine_are_answered(host: str) -> None:
    check_host(asked(host))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8888", "10.0.0.1", "localhost.evil.example", "", "[::bad", "[::1"]
)
def test_other_names_are_refused(host: str) -> None:
    with pytest.raises(Forbidden):
        check_host(asked(host))


def test_who_listens_for_others_is_reached_by_any_name() -> None:
    check_host(asked("lab.example", allow_remote_access=True))
    check_host(asked("lab.example", listen_fd=3))
