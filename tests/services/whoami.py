"""Who asks, as JupyterHub's own client library tells it; run with the official environment's interpreter.

Below the prefix `oauth/` people sign in through the hub (HubOAuth), `token/` takes API tokens only (HubAuth).
"""

from __future__ import annotations

import asyncio
import json
import os
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubAuth, HubAuthenticated, HubOAuthCallbackHandler, HubOAuthenticated
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler, authenticated


class Answer(RequestHandler):
    @authenticated
    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(self.get_current_user()))


class ByCookie(HubOAuthenticated, Answer): ...


class ByToken(HubAuthenticated, Answer):
    hub_auth = HubAuth()  # its `instance()` is HubOAuth's too


async def main() -> None:
    prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    application = Application(
        [
            (prefix + "oauth_callback", HubOAuthCallbackHandler),
            (prefix + "oauth/", ByCookie),
            (prefix + "token/", ByToken),
        ],
        cookie_secret=os.urandom(32),
    )
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    HTTPServer(application).listen(address.port, address.hostname)
    await asyncio.Event().wait()


asyncio.run(main())
