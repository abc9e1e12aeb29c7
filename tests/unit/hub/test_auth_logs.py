from __future__ import annotations

import io
import json
import logging
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.logs import configure, mask_secrets
from himalia_hub.settings import LogSection

CANARY = "kX9vQ2mC7tR4wZ8nB3yL6p"


@pytest.fixture
def log_lines(monkeypatch):
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sink)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    configure(LogSection(level="debug", format="json"))
    yield lambda: [json.loads(line) for line in sink.getvalue().splitlines()]
    root.handlers[:], root.level = before, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "event",
    [
        {"token": CANARY},
        {"api_token": CANARY, "headers": {"Cookie": f"jupyterhub-hub-login={CANARY}", "X-XSRFToken": CANARY}},
        {"headers": {"Authorization": f"token {CANARY}"}},
        {"text": f"Authorization: Bearer {CANARY}"},
        {"url": f"/hub/setup?token={CANARY}&x=1"},
        {"url": f"/user/ann/oauth_callback?code={CANARY}&state={CANARY}"},
        {"url": f"/hub/password?ticket={CANARY}", "ticket": CANARY},
        {"list": [f"jupyterhub-hub-login={CANARY}; a=b"]},
        {"url": f"postgresql://himalia:{CANARY}@db/himalia"},
        {"form": {"password": CANARY, "password_repeat": f"password={CANARY}"}},
        {"exception": f"... WHERE hashed = ?]\n[parameters: ('{CANARY}',)]\n(Background"},
        {"exception": f"{{'Authorization': 'token {CANARY}'}}"},
    ],
)
def test_no_event_carries_a_secret(event: dict) -> None:
    """CVE-2025-66411: an environment with its secrets in the log."""
    masked = mask_secrets(None, "info", {"event": "x.y", **event})

    assert CANARY not in json.dumps(masked)


@given(
    st.dictionaries(
        st.sampled_from(["user", "path", "status", "code", "token_id"]), st.text() | st.integers()
    )
)
def test_masking_never_fails_and_keeps_what_is_harmless(event: dict) -> None:
    masked = mask_secrets(None, "info", dict(event))

    assert masked.keys() == event.keys()
    assert masked.get("status") == event.get("status")


def test_both_loggers_write_json_and_mask(log_lines) -> None:
    structlog.get_logger().info("login.done", user="ann", cookie=CANARY)
    logging.getLogger("some.library").warning("GET /x?token=%s", CANARY)
    try:
        raise ValueError(f"token={CANARY}")
    except ValueError:
        structlog.get_logger().exception("request.failed")

    lines = log_lines()
    assert [line["event"] for line in lines] == ["login.done", "GET /x?token=***", "request.failed"]
    assert "ValueError" in lines[2]["exception"]
    assert CANARY not in json.dumps(lines)


def test_the_access_log_of_the_web_server_is_silent(log_lines) -> None:
    logging.getLogger("aiohttp.access").info("GET /hub/setup?token=%s", CANARY)

    assert log_lines() == []
