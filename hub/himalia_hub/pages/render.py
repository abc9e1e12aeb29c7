"""Templates to responses: one environment, autoescaped and strict (a missing name is an error, no blank)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup

from himalia_hub import clock, domains
from himalia_hub.auth.xsrf import xsrf_token
from himalia_hub.errors import ConfigError
from himalia_hub.keys import DB, IDENTITY, REQUEST_ID, SETTINGS
from himalia_hub.languages import gettext, ngettext, sentence, spoken
from himalia_hub.languages.choosing import offered
from himalia_hub.notices import board
from himalia_hub.pages import assets, words
from himalia_hub.pages.cards import own
from himalia_hub.pages.compiled import Kept, Packed, broken, compile_all
from himalia_hub.settings import HubSettings
from himalia_hub.usage.quota import written

TEMPLATES = Path(__file__).parent.parent / "templates"
FRAGMENT = "X-Himalia-Fragment"
"""Request header with which our script asks for the changing part of a page only; htmx says `HX-Request`."""


@functools.lru_cache(maxsize=4)
def environment(overrides: tuple[str, ...] = (), readings: int = 0) -> jinja2.Environment:
    """The Jinja environment. Folders in `overrides` win; our own files stay reachable as `templates/…`. Each is read
    once in the life of an environment: another number of `readings` gives another one.

    So a site's `page.html` may say `{% extends "templates/page.html" %}`, as JupyterHub's administrators do.
    """
    ours = jinja2.FileSystemLoader(TEMPLATES)
    loader = Packed(
        jinja2.ChoiceLoader(
            [jinja2.FileSystemLoader(list(overrides)), ours, jinja2.PrefixLoader({"templates": ours})]
        )
    )
    env = jinja2.Environment(
        loader=loader,
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        undefined=jinja2.StrictUndefined,
        auto_reload=False,  # else every row asks the file system whether its templates are still the same
        bytecode_cache=Kept(
            TEMPLATES / "__pycache__", made_by=[Path(__file__), Path(jinja2.compiler.__file__)]
        ),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.policies["ext.i18n.trimmed"] = True
    env.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    env.globals["_"] = said
    env.globals["script_words"] = words.for_script
    env.filters.update(
        sentence=sentence,
        whole=words.whole,
        own=own,
        amount=written,
        ago=words.ago,
        span=words.span,
        moment=words.moment,
        minute=clock.minute,
        until=words.until,
        iso=clock.iso,
    )
    return env


def said(message: str, /, **values: object) -> Markup:
    """A message of a template in the reader's language, its values escaped: what Jinja's own `_` does, in a third of
    the time.
    """
    text = _marked(gettext(message))
    return text % values if "%" in text else text


@functools.lru_cache(maxsize=4096)
def _marked(text: str) -> Markup:
    return Markup(text)  # noqa: S704 -- ours, and translators'


def environment_of(settings: HubSettings) -> jinja2.Environment:
    """The Jinja environment of a hub."""
    theirs = tuple(map(str, settings.pages.template_paths))
    return environment(theirs, settings.readings if theirs else 0)


def check_templates(settings: HubSettings) -> None:
    """ConfigError with every template of the site's own folders that cannot be read or is no template."""
    folders = settings.pages.template_paths
    fresh = environment.__wrapped__(tuple(map(str, folders)))
    problems = [problem for folder in folders for problem in broken(fresh, folder)]
    if problems:
        raise ConfigError("; ".join(problems))


def warm_up(settings: HubSettings) -> None:
    """Do what the first visitors would otherwise wait for: a tenth of a second for a page, while nobody else is served.
    Half a second at the first start after an installation.
    """
    compile_all(environment_of(settings), TEMPLATES)
    assets.warm_up()


def content_security_policy(settings: HubSettings) -> str:
    """What our pages may do: their own script, style and images, nothing inline, never inside a frame.

    A form may lead to a server's own host, where there is one.
    """
    beside = f"'self' {domains.pattern(settings)}".rstrip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action {beside}; base-uri 'none'; frame-ancestors 'none'; "
        f"report-uri {settings.hub_prefix}security/csp-report"
    )


def render(request: web.Request, template: str, context: Mapping[str, Any]) -> str:
    """The text of a template with what every page knows, and `context`."""
    settings = request.app[SETTINGS]
    prefix = settings.hub_prefix
    common = {
        "identity": request.get(IDENTITY),
        "base_url": settings.base_url,
        "hub": prefix,
        "static": lambda name: assets.static_url(prefix, name),
        "xsrf": xsrf_token(request),
        "request_id": request.get(REQUEST_ID, ""),
        "announcements": (),
        "language": spoken().tag,
        "languages": offered(settings),
        "here_again": request.path_qs if request.method in ("GET", "HEAD") else prefix,
        "now": clock.now(),
    }
    return environment_of(settings).get_template(template).render(common | dict(context))


async def page(request: web.Request, template: str, *, status: int = 200, **context: Any) -> web.Response:
    """A template as an HTML answer. It is not packed: its size would tell of the secrets on it, beside what somebody
    typed (BREACH); the one large page is (`kept.py`).
    """
    context.setdefault("announcements", await board.shown_if_readable(request.app))
    return as_page(request, render(request, template, context).encode(), status=status)


def as_page(request: web.Request, body: bytes, *, status: int = 200) -> web.Response:
    """HTML with its headers. Never stored by caches: nearly every page shows who is signed in."""
    response = web.Response(body=body, status=status, content_type="text/html", charset="utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = content_security_policy(request.app[SETTINGS])
    response.headers["Content-Language"] = spoken().tag
    response.headers["Vary"] = f"Accept-Encoding, Accept-Language, Cookie, {FRAGMENT}, HX-Request"
    return response


def wants_fragment(request: web.Request) -> bool:
    """Whether our own script asks for the changing part of the page only."""
    again = "HX-History-Restore-Request" in request.headers  # htmx then wants the page whole
    return FRAGMENT in request.headers or ("HX-Request" in request.headers and not again)


async def moment_of_rows(request: web.Request) -> str:
    """A name for the state of the database, by which a page that was just drawn knows that it missed nothing."""
    return hashlib.sha256(repr(await request.app[DB].revision.now()).encode()).hexdigest()[:12]
