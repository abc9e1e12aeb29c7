"""The page on which people make a link to a repository, and the badge for its README."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from urllib.parse import quote, urlencode

from aiohttp import web

from himalia_hub.auth import origin
from himalia_hub.ephemeral import sources
from himalia_hub.errors import HimaliaError, NotFound
from himalia_hub.keys import SETTINGS
from himalia_hub.pages.assets import answer
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public

BADGE = "badge_logo.svg"
BADGES = (BADGE, "badge.svg", "assets/images/badge.svg")
"""Where READMEs look for it at a BinderHub."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of the form."""

    provider: str = "gh"
    repository: str = ""
    ref: str = ""
    path: str = ""

    @property
    def spec(self) -> str:
        """What a link says of the repository; of an address at GitHub or GitLab only its path."""
        name = sources.over_https(self.repository.strip()) or self.repository.strip()
        ref = quote(self.ref.strip() or sources.DEFAULT_REF, safe="/")
        if self.provider in ("git", "archive", "ckan"):
            return f"{quote(name, safe='')}/{ref}"
        path = re.sub(r"^(https?://)?([^/]+\.[a-z]+/)?", "", name).strip("/").removesuffix(".git")
        return f"{quote(path, safe='' if self.provider == 'gl' else '/')}/{ref}"


def routes(prefix: str, base_url: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix; BinderHub's badge beside it is led there."""
    return [
        web.get(prefix + "links", links),
        web.get(prefix + BADGE, badge),
        *(web.get(base_url + name, badge) for name in BADGES),
    ]


@public
async def links(request: web.Request) -> web.Response:
    """200 the form and, once it is filled in, the link; 400 with what is wrong in the form."""
    settings, query = request.app[SETTINGS], request.query
    section = settings.ephemeral
    if not section.on:
        raise NotFound("This hub opens no links to repositories.")
    asked = Asked(*(str(query.get(field.name, field.default)) for field in fields(Asked)))
    site = settings.public_url.rstrip("/") or f"{origin.scheme(request)}://{request.host}"
    link, error = "", None
    if asked.repository:
        try:
            source = sources.read(asked.provider, asked.spec, section.hosts)
            file = asked.path.strip("/")
            opens = f"?{urlencode({'labpath': file}, quote_via=quote)}" if file else ""
            link = f"{site}{settings.base_url}v2/{source.provider}/{source.spec}{opens}"
        except HimaliaError as caught:
            error = caught
    return await page(
        request, "links.html", status=400 if error else 200, asked=asked, link=link, error=error,
        badge=f"{site}{settings.base_url}{BADGE}", open_to=section.open_to,
        providers=[sources.PROVIDERS[name] for name in section.providers],
    )  # fmt: skip


@public
async def badge(request: web.Request) -> web.Response:
    """200 the picture that READMEs show."""
    return answer(request, BADGE)
