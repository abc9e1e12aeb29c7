"""Signing in at an OpenID provider, or at one that speaks OAuth 2 only (GitHub).

Authorization code with PKCE, state and nonce. The OAuth part is Authlib's, signatures are joserfc's; what is checked is
listed here, because that is where others have failed: issuer, audience, authorized party, time, nonce, and that
only asymmetric signatures count.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx2
import structlog
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import BaseModel, Field, SecretStr, model_validator

from himalia_hub.auth.base import Context, Departure, Person, RedirectWay, Traits, WayDown
from himalia_hub.errors import ConfigError
from himalia_hub.secrets import mint

log = structlog.get_logger()

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""No `none`, and no HMAC: with it the client secret, or a public key taken for one, would sign."""
DISCOVERY_S = 3600.0
FRESH_KEYS_S = 10.0
"""An unknown key has the keys fetched again, but not more often than this."""
TIMEOUT_S = 10.0
LEEWAY_S = 60

PRESETS: dict[str, dict[str, Any]] = {
    "": {},
    "google": {"issuer": "https://accounts.google.com", "name_claim": "email"},
    "gitlab": {"issuer": "https://gitlab.com"},
    "azure": {"issuer": "https://login.microsoftonline.com/{tenant}/v2.0"},
    "github": {
        "authorize_url": "https://github.com/login/oauth/authorize",
        "token_url": "https://github.com/login/oauth/access_token",
        "userinfo_url": "https://api.github.com/user",
        "subject_claim": "id",
        "name_claim": "login",
        "scopes": [],
    },
}


class NotProven(Exception):
    """What came back does not prove who it is; the text is for the log only."""


class Oidc:
    """One provider."""

    traits = Traits(tells=True)

    class Settings(BaseModel, extra="forbid", frozen=True):
        """[auth.methods.NAME] with `kind = "oidc"` — an OpenID provider, such as Google, GitLab, Azure; or GitHub."""

        preset: Literal["", "google", "github", "gitlab", "azure"] = Field(
            "", description="where the addresses come from; what is set besides it wins"
        )
        issuer: str = Field("", description="the provider's issuer, such as `https://id.example.org`")
        tenant: str = Field(
            "", description="Azure's directory (tenant) id; `common` would let in everybody's"
        )
        client_id: str = Field(description="what the provider calls this hub")
        client_secret: SecretStr | None = Field(None, description="what the hub proves itself with")
        client_secret_file: str = Field("", description="file that holds it; relative: in the data folder")
        scopes: list[str] = Field(["openid", "profile", "email"], description="what is asked for")
        name_claim: str = Field(
            "preferred_username",
            description="claim that becomes the user name; of an e-mail address its first part",
        )
        subject_claim: str = Field("sub", description="claim that never changes; for plain OAuth 2 only")
        hosted_domain: str = Field("", description="let in only this Google Workspace domain (claim `hd`)")
        required: dict[str, list[str]] = Field(
            default_factory=dict, description="by claim: values of which one must be there, such as groups"
        )
        authorize_url: str = Field("", description="for plain OAuth 2 only: where people sign in")
        token_url: str = Field("", description="for plain OAuth 2 only: where codes become tokens")
        userinfo_url: str = Field("", description="for plain OAuth 2 only: what tells who they are")
        keep_tokens: bool = Field(
            False, description="keep the provider's tokens, encrypted, for hooks (auth_state)"
        )

        @model_validator(mode="before")
        @classmethod
        def _from_preset(cls, values: Any) -> Any:
            if not isinstance(values, dict) or values.get("preset", "") not in PRESETS:
                return values
            return PRESETS[values.get("preset", "")] | values

        @model_validator(mode="after")
        def _complete(self) -> Self:
            plain = (self.authorize_url, self.token_url, self.userinfo_url)
            if not self.issuer and not all(plain):
                raise ValueError("set issuer, a preset, or authorize_url, token_url and userinfo_url")
            if "{tenant}" in self.issuer and not self.tenant:
                raise ValueError("set tenant, the id of your directory")
            if (self.client_secret is None) == (not self.client_secret_file):
                raise ValueError("set client_secret or client_secret_file, one of them")
            for url in filter(None, (self.issuer, *plain)):
                parts = urlsplit(url)
                if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
                    raise ValueError(f"{url!r} must be https; plain http is for loopback only")
            return self

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings, self._name, self._groups_from = settings, context.name, context.groups_from
        self._issuer = settings.issuer.replace("{tenant}", settings.tenant)
        self.realm = f"oidc:{self._issuer or settings.authorize_url}"
        self._secret = self._read_secret(context)
        self._http = httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
        self._described: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._asking = asyncio.Lock()

    def _read_secret(self, context: Context) -> str:
        if self._settings.client_secret is not None:
            return self._settings.client_secret.get_secret_value()
        try:
            return (context.data_dir / self._settings.client_secret_file).read_text().strip()
        except OSError as error:
            raise ConfigError(f"auth.methods.{context.name}.client_secret_file: {error}") from None

    async def begin(self, callback: str) -> Departure:
        """To the provider, with a state, a nonce and a PKCE challenge of this departure only."""
        where = await self._addresses()
        kept = {"state": mint(), "nonce": mint(), "verifier": mint(48)}
        async with self._client(callback) as client:
            nonce = {"nonce": kept["nonce"]} if self._issuer else {}
            url, _ = client.create_authorization_url(
                where["authorization_endpoint"], state=kept["state"], code_verifier=kept["verifier"], **nonce
            )
        return Departure(str(url), kept)

    async def finish(self, callback: str, query: Mapping[str, str], kept: Mapping[str, str]) -> Person | None:
        """Who came back, by the ID token (or by what GitHub and its like tell); None when anything does not fit."""
        try:
            return await self._proven(callback, query, kept)
        except NotProven as why:
            log.info("login.provider_refused", method=self._name, why=str(why)[:200])
            return None

    async def _proven(self, callback: str, query: Mapping[str, str], kept: Mapping[str, str]) -> Person:
        state, code = query.get("state", ""), query.get("code", "")
        if (
            not code
            or not kept.get("state")
            or not hmac.compare_digest(state.encode(), kept["state"].encode())
        ):
            raise NotProven(query.get("error") or "state or code missing or wrong")
        if query.get("iss", self._issuer) != self._issuer:
            raise NotProven("answer of another issuer")  # RFC 9207
        where = await self._addresses()
        try:
            async with self._client(callback) as client:
                token = await client.fetch_token(
                    where["token_endpoint"], code=code, code_verifier=kept["verifier"]
                )
        except OAuthError as error:
            raise NotProven(f"code not taken: {error.error}") from None
        except (httpx2.HTTPError, ValueError, KeyError) as error:
            raise self._down(error) from None
        return self._person(await self._claims(where, token, kept["nonce"]), token)

    async def _claims(
        self, where: Mapping[str, Any], token: Mapping[str, Any], nonce: str
    ) -> Mapping[str, Any]:
        if not self._issuer:
            return await self._userinfo(where["userinfo_endpoint"], token)
        claims = await self._checked(where, str(token.get("id_token") or ""), nonce)
        wanted = {self._settings.name_claim, *filter(None, [self._groups_from])}
        if not wanted <= claims.keys() and "userinfo_endpoint" in where:
            more = await self._userinfo(where["userinfo_endpoint"], token)
            # Required by OpenID Connect Core §5.3.2, lest another's claims be mixed in.
            if more.get("sub") == claims["sub"]:
                return {**more, **claims}
        return claims

    async def _checked(self, where: Mapping[str, Any], id_token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that is genuine, meant for us, and of this departure."""
        try:
            try:
                decoded = jwt.decode(id_token, await self._key_set(where), algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                # Perhaps signed with a key that is new since we last looked.
                decoded = jwt.decode(id_token, await self._key_set(where, fresh=True), algorithms=ALGORITHMS)
            wanted: dict[str, Any] = {
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": self._settings.client_id},
                "sub": {"essential": True},
                "exp": {"essential": True},
                "iat": {"essential": True},
                "nonce": {"essential": True, "value": nonce},
            }
            jwt.JWTClaimsRegistry(leeway=LEEWAY_S, **wanted).validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise NotProven(f"ID token: {error}") from None
        claims: dict[str, Any] = decoded.claims
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._settings.client_id) != self._settings.client_id:
            raise NotProven("ID token: made for another client")
        return claims

    def _person(self, claims: Mapping[str, Any], token: Mapping[str, Any]) -> Person:
        wanted = self._settings
        subject = claims.get("sub" if self._issuer else wanted.subject_claim)
        name = claims.get(wanted.name_claim)
        usable = isinstance(subject, (str, int)) and not isinstance(subject, bool) and subject != ""
        if not usable or not isinstance(name, str):
            raise NotProven(f"no {wanted.name_claim!r} or no subject among the claims")
        if wanted.hosted_domain and claims.get("hd") != wanted.hosted_domain:
            raise NotProven("another hosted domain")
        for claim, values in wanted.required.items():
            if _words(claims.get(claim)).isdisjoint(values):
                raise NotProven(f"claim {claim!r} lacks the required value")
        if wanted.name_claim == "email":
            # Only a spelling of the name: who somebody is stays the subject. Unverified, it may be anybody's.
            if claims.get("email_verified") is not True:
                raise NotProven("e-mail address not verified")
            name = name.partition("@")[0]
        state = {"token": dict(token), "claims": dict(claims)} if wanted.keep_tokens else None
        return Person(
            subject=str(subject),
            name=name.strip().replace("/", "-"),
            state=state,
            groups=_words(claims.get(self._groups_from)) if self._groups_from else frozenset(),
            display_name=shown if isinstance(shown := claims.get("name"), str) else "",
        )

    # -------------------------------------------------------------- asking the provider

    def _client(self, callback: str) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._secret,
            scope=" ".join(self._settings.scopes) or None,
            redirect_uri=callback,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
        )

    async def _addresses(self) -> dict[str, Any]:
        """The provider's endpoints: by discovery, kept for an hour, or as configured."""
        if not self._issuer:
            return {
                "authorization_endpoint": self._settings.authorize_url,
                "token_endpoint": self._settings.token_url,
                "userinfo_endpoint": self._settings.userinfo_url,
            }
        async with self._asking:
            if self._described is None or time.monotonic() - self._described[0] > DISCOVERY_S:
                found = await self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
                missing = [
                    key
                    for key in ("authorization_endpoint", "token_endpoint", "jwks_uri")
                    if key not in found
                ]
                if found.get("issuer") != self._issuer or missing:
                    raise self._down(f"it says it is {found.get('issuer')!r}, and lacks {missing}")
                self._described = time.monotonic(), found
            return self._described[1]

    async def _key_set(self, where: Mapping[str, Any], *, fresh: bool = False) -> KeySet:
        async with self._asking:
            age = time.monotonic() - self._keys[0] if self._keys else float("inf")
            if self._keys is None or age > DISCOVERY_S or (fresh and age > FRESH_KEYS_S):
                self._keys = time.monotonic(), KeySet.import_key_set(await self._get(where["jwks_uri"]))  # type: ignore[arg-type]
            return self._keys[1]

    async def _userinfo(self, url: str, token: Mapping[str, Any]) -> dict[str, Any]:
        return await self._get(url, {"Authorization": f"Bearer {token.get('access_token', '')}"})

    async def _get(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = await self._http.get(url, headers={"Accept": "application/json", **(headers or {})})
            answer.raise_for_status()
            found = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise self._down(error) from None
        if not isinstance(found, dict):
            raise self._down("it answers with something else than an object")
        return found

    def _down(self, error: object) -> WayDown:
        log.warning("login.provider_unusable", method=self._name, cause=f"{error!r}"[:300])
        host = urlsplit(self._issuer or self._settings.authorize_url).netloc
        return WayDown(
            f"{host} does not answer as it should, so nobody can sign in there just now.",
            remedy="Who is signed in stays so. Try again in a moment.",
        )

    async def close(self) -> None:
        """Close connections to the provider."""
        await self._http.aclose()


def _words(claim: object) -> frozenset[str]:
    """The strings of a claim that is a list, or is one itself. Pure."""
    return frozenset(
        each for each in (claim if isinstance(claim, list) else [claim]) if isinstance(each, str)
    )


_fits: type[RedirectWay] = Oidc
