"""From a row to JupyterHub's token model. Pure."""

from __future__ import annotations

from typing import Any

from himalia_hub.clock import iso
from himalia_hub.rbac.expand import of_token
from himalia_hub.rbac.identity import token_scopes
from himalia_hub.rbac.rights import Rights
from himalia_hub.rbac.rules import Rules
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User


def token_model(
    token: ApiToken, owner: User, theirs: Rights, rules: Rules, server: str | None = None
) -> dict[str, Any]:
    """The model; its scopes are what the token may do at this moment. Never the secret, nor its hash."""
    raw = token_scopes(token, rules)
    scopes = of_token(raw, owner.name, theirs.scopes, server, members=theirs.members, custom=rules.custom)
    return {
        "user": owner.name,
        "id": f"a{token.id}",
        "kind": "api_token",
        "roles": [],
        "scopes": sorted(scopes),
        "created": iso(token.created),
        "last_activity": iso(token.last_activity),
        "expires_at": iso(token.expires_at),
        "note": token.note,
        "session_id": token.session_id,
        "oauth_client": "JupyterHub" if token.client_id == "jupyterhub" else token.client_id,
    }
