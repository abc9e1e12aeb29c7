"""The page that compares us with configurable-http-proxy names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_that_the_comparison_names_exists() -> None:
    page = (ROOT / "docs/reference/proxy-and-chp.md").read_text()
    files = [*ROOT.glob("tests/component/proxy/test_*.py"), *ROOT.glob("tests/unit/proxy/test_*.py")]
    defined = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 60
    assert named <= defined, sorted(named - defined)
