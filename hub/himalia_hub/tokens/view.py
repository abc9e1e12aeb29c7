"""From a row to JupyterHub's token model. Pure."""

from __future__ import annotations

from typing import Any

from himalia_hub.clock import iso
from himalia_hub.rbac.expand import of_token
from himalia_hub.rbac.identity import of_user
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User


def token_model(token: ApiToken, owner: User, server: str | None = None) -> dict[str, Any]:
    """The model; its scopes are what the token may do at this moment. Never the secret, nor its hash."""
    return {
        "user": owner.name,
        "id": f"a{token.id}",
        "kind": "api_token",
        "roles": [],
        "scopes": sorted(of_token(tuple(token.scopes), owner.name, of_user(owner), server)),
        "created": iso(token.created),
        "last_activity": iso(token.last_activity),
        "expires_at": iso(token.expires_at),
        "note": token.note,
        "session_id": token.session_id,
        "oauth_client": "JupyterHub" if token.client_id == "jupyterhub" else token.client_id,
    }
