"""What the server leaves out at its start, and that nothing becomes unsafe by it."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys

import pytest

from himalia_singleuser.app import hub_connector
from himalia_singleuser.settings import HubSettings

ASKS = """
import json, ssl, sys
import himalia_singleuser.warm
from aiohttp import connector
aiohttp_knows = connector._SSL_CONTEXT_VERIFIED
print(json.dumps({
    "rich": sys.modules.get("rich") is not None,
    "authorities": aiohttp_knows.cert_store_stats()["x509"],
    "refuses": aiohttp_knows.verify_mode == ssl.CERT_REQUIRED and aiohttp_knows.check_hostname,
    "kept": [ssl.SSLContext.load_default_certs.__qualname__, ssl.SSLContext.set_default_verify_paths.__qualname__],
}))
"""


def test_the_start_reads_no_certificates_and_what_it_does_not_know_it_refuses():
    done = subprocess.run([sys.executable, "-I", "-c", ASKS], capture_output=True, check=True, text=True)

    assert json.loads(done.stdout) == {
        "rich": False,
        "authorities": 0,
        "refuses": True,
        "kept": ["SSLContext.load_default_certs", "_SSLContext.set_default_verify_paths"],
    }


def test_what_only_pages_need_is_not_imported_before_one_is_asked_for():
    asks = "import sys, himalia_singleuser.lean as lean; lean.import_aiohttp(); import himalia_singleuser.serve; "
    asks += "print(*({'importlib.metadata', 'jinja2', 'nbformat', 'zmq'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-I", "-c", asks], capture_output=True, check=True, text=True)

    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("url", "has_context"), [("https://hub.example/hub/api", True), ("http://h/hub/api", False)]
)
async def test_a_hub_with_https_is_known_by_the_authorities_of_the_system(url: str, has_context: bool):
    hub = HubSettings(api_url=url, api_token="secret", base_url="/", client_id="c", user="ada")
    async with hub_connector(hub) as connector:
        context = connector._ssl

    assert isinstance(context, ssl.SSLContext) == has_context
    if has_context:
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()
