"""What a hub's process does not load before it is needed."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ssl, sys
from himalia_hub.cli import verbs as cli
print([name for name in ("aiohttp", "sqlalchemy", "jinja2", "structlog") if name in sys.modules])
cli._module("hub")
print([name for name in ("alembic", "difflib", "himalia_hub.ephemeral.works", "tarfile") if name in sys.modules])
from aiohttp.connector import _SSL_CONTEXT_VERIFIED as context
before = len(context.get_ca_certs())
context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")
system = ssl.create_default_context()
print(before, context.get_ca_certs() == system.get_ca_certs())
print(context.verify_mode == system.verify_mode, context.check_hostname, context.verify_flags == system.verify_flags)
"""


def test_the_command_line_loads_no_hub_and_a_hub_no_certificates_before_it_connects_to_https() -> None:
    said = subprocess.check_output([sys.executable, "-I", "-c", PROGRAM], text=True, timeout=60)

    assert said.splitlines() == ["[]", "[]", "0 True", "True True True"]
