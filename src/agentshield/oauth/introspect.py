"""Introspection (RFC 7662): what an access token says, to the resource server it is for, and to nobody else.

Whoever else asks about whatever else learns only that it is not active (2.2), so that the endpoint tells no thief what
a token is good for.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.access_token import AccessTokenClaims, verify_access_token
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.directory import AgentDirectory
from agentshield.oauth.errors import AlreadyUsedError
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.model import AuthenticatedClient
from agentshield.oauth.replay import replayed
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import OAuthStore

_OWN_TYPES: Final[frozenset[str | None]] = frozenset({"at+jwt", "application/at+jwt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """Answers about access tokens."""

    settings: OAuthSettings
    store: OAuthStore
    directory: AgentDirectory
    keys: SigningKeys

    async def answer(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> dict[str, Any]:
        """Return the members of the answer; `{"active": False}` alone for whatever the caller need not know.

        Raises:
            OAuthError: the request names no token, or its proof was used before.
            UnavailableError: it cannot be known now.
        """
        token = request.get("token")
        try:
            await self.store.tokens.issue(None, uses=client.uses, at=at)
        except AlreadyUsedError as error:
            raise replayed(error) from error
        claims = await self._claims(token, at)  # (1) ours, whole, and not ended
        if (
            claims is None
            or not await self._is_for(claims, client)  # (2) the caller is whom it is for
            or await self.store.tokens.is_revoked(claims.jti)  # (3) neither it nor what it derives from is revoked
            or not await self._is_active(claims)  # (4) the agent it was given to may still act
        ):
            return {"active": False}
        is_dpop = claims.confirmation is not None and claims.confirmation.jkt is not None
        return {"active": True, "token_type": "DPoP" if is_dpop else "Bearer", **claims.to_claims()}

    async def _claims(self, token: str, at: datetime) -> AccessTokenClaims | None:
        try:
            return self._read(token, at) if "." in token else await self._look_up(token, at)
        except UnavailableError:
            raise
        except AgentShieldError:
            return None

    def _read(self, token: str, at: datetime) -> AccessTokenClaims:
        audience = UnverifiedJws.parse(token, types=_OWN_TYPES).unverified_claims().get("aud")
        return verify_access_token(
            token,
            keys=self.keys.key_set(),
            issuer=self.settings.issuer,
            audience=audience if isinstance(audience, str) else "",  # held against the caller's in step (2)
            at=at,
            skew=self.settings.clock_skew,
        ).claims

    async def _look_up(self, token: str, at: datetime) -> AccessTokenClaims | None:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        record = await self.store.tokens.find_opaque(digest)
        if record is None or record.kind != "access_token" or at >= record.expires_at:
            return None
        claims: Mapping[str, Any] = record.claims
        return AccessTokenClaims.from_claims(claims)

    async def _is_for(self, claims: AccessTokenClaims, client: AuthenticatedClient) -> bool:
        resource = await self.store.resources.find(claims.audience)
        return resource is not None and resource.server == client.agent.spiffe_id

    async def _is_active(self, claims: AccessTokenClaims) -> bool:
        record = await self.store.tokens.find(claims.jti)
        agent = None if record is None else await self.directory.find(record.agent)
        return agent is not None and agent.is_active
