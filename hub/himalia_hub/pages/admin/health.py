"""What `himalia doctor` finds, and what only the running hub knows, as a page; and ending the hub."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.audit.record import tell
from himalia_hub.ending import ENDING
from himalia_hub.health import running
from himalia_hub.health.examine import examine
from himalia_hub.health.finding import Grade
from himalia_hub.keys import SETTINGS, WORLD
from himalia_hub.languages import gettext, later, sentence
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in

CHOICES = {"keep": False, "stop": True}
WORD = "shut down"
ABOUT = frozenset(
    {
        later("data folder"),
        later("disk"),
        later("secret"),
        later("open files"),
        later("kernels"),
        later("database"),
        later("rows"),
        later("clock"),
        later("proxy"),
        later("hub"),
        later("accounts"),
        later("reconcile"),
        later("orphans"),
        later("routes"),
    }
)
"""What is looked at. Words like these may be names of people elsewhere, so they are no sentences."""


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "admin/health", health),
        web.get(prefix + "admin/shutdown", ask),
        web.post(prefix + "admin/shutdown", shut_down),
    ]


@signed_in
async def health(request: web.Request) -> web.Response:
    """200 everything that was looked at, what is wrong first, each with what to do."""
    viewer.must_be(request, "read:hub")
    world = request.app[WORLD]
    findings = [finding async for finding in examine(request.app[SETTINGS], world.spawner)]
    findings += await running.examine(world)
    order = [Grade.PROBLEM, Grade.ADVICE, Grade.OK]
    return await page(
        request,
        "admin_health.html",
        findings=[
            (gettext(one.about) if one.about in ABOUT else sentence(one.about), one)
            for one in sorted(findings, key=lambda finding: order.index(finding.grade))
        ],
        wrong=sum(finding.grade is Grade.PROBLEM for finding in findings),
        better=sum(finding.grade is Grade.ADVICE for finding in findings),
    )


@signed_in
async def ask(request: web.Request) -> web.Response:
    """200 the two ways in which a hub can end."""
    viewer.must_be(request, "shutdown")
    return await page(request, "admin_shutdown.html", word=WORD, problem="", servers="keep")


@signed_in
async def shut_down(request: web.Request) -> web.Response:
    """200 the page that waits for the hub, which ends now; or the form again, when the words were not typed."""
    viewer.must_be(request, "shutdown")
    fields = await request.post()
    servers = str(fields.get("servers", "keep"))
    if str(fields.get("sure", "")).strip().lower() != WORD or servers not in CHOICES:
        return await page(
            request,
            "admin_shutdown.html",
            status=400,
            word=WORD,
            servers=servers,
            problem=gettext("Type “%(word)s” to confirm.") % {"word": WORD},
        )
    tell(request, change={"after": {"servers": servers}})
    response = await page(request, "admin_down.html", servers=servers)
    ending = request.app[ENDING]
    ending.servers, ending.proxy = CHOICES[servers], False
    ending.wished.set()
    return response
