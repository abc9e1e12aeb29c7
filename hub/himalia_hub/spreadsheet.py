"""Rows as CSV (RFC 4180) that is safe to open in a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from typing import Any

_BEGINS = "=+\\-@\uff1d\uff0b\uff0d\uff20\t\r\n"
_FORMULA = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=[{_BEGINS}])")
"""Where a cell that a spreadsheet computes may begin: at the start, or where one that splits lines at semicolons
(German, French …) begins the next. The signs of Chinese and Japanese keyboards count too.
"""


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """The rows as UTF-8, every value as `cell` writes it."""
    sink = io.StringIO()
    csv.writer(sink).writerows([cell(value) for value in row] for row in rows)
    return sink.getvalue().encode(errors="replace")


def cell(value: Any) -> str:
    """A value as text that no spreadsheet takes for a formula: people choose their names."""
    text = "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)
    return _FORMULA.sub("'", text)
