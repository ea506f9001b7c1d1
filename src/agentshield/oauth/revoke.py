"""Revocation (RFC 7009), by derivation: a token takes with it whatever was exchanged out of it, however far down.

Done first, then put on record: a log that is away must not keep a stolen token alive. Who asked is told that it failed,
and asking again puts it on record.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from agentshield.audit.log import AuditSink
from agentshield.audit.oauth_events import TokenRevoked
from agentshield.errors import AgentShieldError
from agentshield.identity.jws import HeaderRule, UnverifiedJws
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode
from agentshield.oauth.issuers.federation import TOKEN_TYPES
from agentshield.oauth.model import REFRESH_TOKEN, AuthenticatedClient, IssuedToken, Revocation
from agentshield.oauth.replay import replayed
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.store import TokenStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoker:
    """Takes tokens back."""

    tokens: TokenStore
    sink: AuditSink

    async def answer(self, request: OAuthRequest, client: AuthenticatedClient, *, at: datetime) -> None:
        """Revoke the client's own token. One that is unknown, or ended, is no fault (RFC 7009, 2.2).

        Raises:
            OAuthError: it is another agent's, the request names none, or its proof was used before.
            UnavailableError: it cannot be done now.
        """
        token = request.get("token")
        try:
            await self.tokens.issue(None, uses=client.uses, at=at)
        except AlreadyUsedError as error:
            raise replayed(error) from error
        record = await self._find(token)
        if record is None:
            return
        if record.agent != client.agent.spiffe_id:
            raise OAuthError(
                OAuthErrorCode.UNAUTHORIZED_CLIENT,
                "the token was issued to another client",
                rule="RFC 7009 2.1",
                detail=f"token {record.jti} is of agent {record.agent}",
            )
        await self._revoke(record, by=str(client.agent.spiffe_id), at=at)

    async def token(self, jti: str, *, by: str, at: datetime) -> tuple[Revocation, ...]:
        """Revoke a token by its `jti`, whoever's it is; return what was newly revoked.

        Raises:
            UnavailableError: it cannot be put on record, or not be done.
        """
        record = await self.tokens.find(jti)
        return () if record is None else await self._revoke(record, by=by, at=at)

    async def agent(self, agent: SpiffeId, *, by: str, at: datetime) -> tuple[Revocation, ...]:
        """Revoke every live token of an agent, and what derives from them; return what was newly revoked.

        Raises:
            UnavailableError: as `token`.
        """
        revoked = await self.tokens.revoke_agent(str(agent), at=at)
        await self.sink.record(TokenRevoked(at=at, by=by, agent=str(agent), derived=len(revoked)))
        return revoked

    async def _revoke(self, record: IssuedToken, *, by: str, at: datetime) -> tuple[Revocation, ...]:
        # RFC 7009, 2.1: with a refresh token goes whatever rests on the same grant.
        root = record.parents[0] if record.kind == REFRESH_TOKEN else record.jti
        revoked = await self.tokens.revoke(root, at=at)
        event = TokenRevoked(
            at=at,
            by=by,
            agent=str(record.agent),
            jti=record.jti,
            audience=record.audience,
            derived=sum(each.jti != record.jti for each in revoked),
        )
        await self.sink.record(event)
        return revoked

    async def _find(self, token: str) -> IssuedToken | None:
        """By digest, or by `jti`. Whose it is, our record says, so a forged token is of no use."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = await self.tokens.find_opaque(digest)
        if found is not None or "." not in token:
            return found
        try:
            claims = UnverifiedJws.parse(token, types=TOKEN_TYPES, headers=HeaderRule.FOREIGN).unverified_claims()
        except AgentShieldError:
            return None
        jti = claims.get("jti")
        return await self.tokens.find(jti) if isinstance(jti, str) else None
