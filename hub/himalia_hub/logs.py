"""The log: event names with fields, as JSON or for a terminal, and never a secret.

Whatever carries a secret by name is masked, and so is what looks like one inside a text or a traceback. That
is the net, not the rule: nothing should log a token in the first place.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from himalia_hub.settings import LogSection

MASK = "***"

SECRET_KEY = re.compile(
    r"(?i)(token|ticket|secret|passw(or)?d(_repeat)?|cookies?|authorization|xsrf|verifier|hashed|[_-]hash|(^|[_-])code)$"
)
HARMLESS = frozenset({"code"})
"""`code` names an error's kind in our own events."""

SECRET_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b((?:token|bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)\b(token|ticket|code|state|_xsrf|password|secret|client_secret|code_verifier|access_token)=[^&\s\"';]+"
        ),
        rf"\1={MASK}",
    ),
    (re.compile(r"(?i)\b((?:jupyterhub|himalia|_xsrf)[\w%.-]*)=[^;\s\"']+"), rf"\1={MASK}"),
    (
        re.compile(r"(?i)(['\"](?:x-xsrftoken|authorization|cookie|set-cookie)['\"]:\s*['\"])[^'\"]*"),
        rf"\1{MASK}",
    ),
    (re.compile(r"(\w+://[^:/\s]+:)[^@/\s]+@"), rf"\1{MASK}@"),
    # SQLAlchemy quotes the values of the statement that failed.
    (re.compile(r"\[parameters: .*?\]\n", re.DOTALL), f"[parameters: {MASK}]\n"),
)


def mask_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: the event without its secrets."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: Any) -> Any:
    if SECRET_KEY.search(key) and key not in HARMLESS and value is not None:
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {k: _masked(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked("", item) for item in value]
    return value


def mask_text(text: str) -> str:
    """A text with what looks like a secret covered."""
    for pattern, replacement in SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


KEPT, LONGEST = 1000, 2000
"""Events that a process remembers for the page of its log, and characters of each value: two megabytes at the most."""
RECENT: deque[EventDict] = deque(maxlen=KEPT)


def remember(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A structlog processor, after the masking one: keep the event for the log page."""
    RECENT.append({key: str(value)[:LONGEST] for key, value in event.items() if not key.startswith("_")})
    return event


def configure(settings: LogSection) -> None:
    """Set up structlog and the standard library's logging, both through the same mask, to standard error."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
        remember,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its lines have query strings and referrers, where secrets may be.
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    logging.getLogger("sqlalchemy").setLevel(max(level, logging.WARNING))
    logging.getLogger("aiosqlite").setLevel(max(level, logging.WARNING))
