"""The last steps of every grant: end, key, policy, signature, record, audit; in this order, and the answer last.

(1) It ends with the first of what it rests on: settings, resource, subject token, certificate.
(2) It is bound to the client's key, or not issued (TX-10).
(3) Policy does not object.
(4) It is signed, and its single uses claimed and its record kept in one transaction, which a revoked parent refuses.
(5) It is audited. Where that fails, nobody gets it.
"""

import hashlib
import logging
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agentshield.audit.log import AuditSink
from agentshield.audit.oauth_events import TokenIssued
from agentshield.identity.access_token import ACCESS_TOKEN_TYPE, AccessTokenClaims, Confirmation
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import PrivateKey
from agentshield.oauth.entitlement import Assertion, Entitlement, confirmation_for, end_of, key_name
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode, ParentRevokedError
from agentshield.oauth.issuance_policy import Issuance, IssuancePolicy
from agentshield.oauth.keys import NoSigningKeyError, SigningKeys
from agentshield.oauth.model import (
    MAX_TOKEN_LIFETIME,
    AuthenticatedClient,
    IssuedToken,
    Resource,
    TokenFormat,
)
from agentshield.oauth.replay import replayed
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import OAuthStore

_log: Final = logging.getLogger("agentshield.oauth.issue")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    text: str = field(repr=False)
    record: IssuedToken
    entitlement: Entitlement
    token_type: str


class TokenIssuer:
    """Signs what grants decide. Without a `policy`, what grants decide is all there is."""

    def __init__(
        self,
        settings: OAuthSettings,
        store: OAuthStore,
        keys: SigningKeys,
        sink: AuditSink,
        policy: IssuancePolicy | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._sink = sink
        self._policy = policy

    async def access_token(
        self,
        entitlement: Entitlement,
        resource: Resource,
        client: AuthenticatedClient,
        request: OAuthRequest,
        *,
        at: datetime,
    ) -> TokenResponse:
        """Issue an access token for `resource`.

        Raises:
            OAuthError: nothing to bind it to, no time left, a policy's no, a replay, a revoked parent, or no audit.
            UnavailableError: the store, a signing key or the policy is not there.
        """
        issued_at = at.replace(microsecond=0)
        confirmation = confirmation_for(client, at)  # (2)
        expires_at = end_of(  # (1)
            issued_at,
            min(self._settings.token_lifetime, resource.lifetime, MAX_TOKEN_LIFETIME),
            entitlement.not_after,
            client.binding_ends_at,
            client.bearer_until if confirmation is None else None,
        )
        if self._policy is not None:  # (3)
            issuance = Issuance(
                entitlement=entitlement,
                client=client,
                audience=resource.audience,
                server=resource.server,
                confirmation=confirmation,
                lifetime=expires_at - issued_at,
            )
            await self._policy.check(issuance, at=at)
        claims = self._claims(entitlement, resource, client, confirmation, issued_at, expires_at)
        payload = claims.to_claims()
        opaque = secrets.token_urlsafe(32) if resource.token_format is TokenFormat.OPAQUE else None
        if opaque is None:
            key, kid = await self._signer(resource.algorithm)
            text = sign_compact(payload, key, kid=kid, typ=ACCESS_TOKEN_TYPE)
        else:
            text = opaque
        record = IssuedToken(
            jti=claims.jti,
            parents=entitlement.parents,
            kind="access_token",
            client_id=client.client_id,
            agent=client.agent.spiffe_id,
            subject=claims.subject,
            audience=claims.audience,
            issued_at=issued_at,
            expires_at=expires_at,
            claims=payload,
            opaque_sha256=None if opaque is None else _digest(opaque),
            credential=None if confirmation is None else key_name(confirmation),
        )
        token_type = "Bearer" if confirmation is None or confirmation.jkt is None else "DPoP"
        signed = _Signed(text=text, record=record, entitlement=entitlement, token_type=token_type)
        return await self._finish(signed, client, request, at)

    async def assertion(
        self,
        entitlement: Entitlement,
        assertion: Assertion,
        client: AuthenticatedClient,
        request: OAuthRequest,
        *,
        at: datetime,
    ) -> TokenResponse:
        """Issue what is no access token (`token_type` is N_A).

        Raises:
            OAuthError, UnavailableError: as `access_token`.
        """
        issued_at = at.replace(microsecond=0)
        expires_at = end_of(issued_at, assertion.lifetime, entitlement.not_after)
        if self._policy is not None:
            issuance = Issuance(
                entitlement=entitlement,
                client=client,
                audience=assertion.audience,
                server=None,
                confirmation=client.binding,
                lifetime=expires_at - issued_at,
            )
            await self._policy.check(issuance, at=at)
        payload = dict(assertion.claims) | {"iat": int(issued_at.timestamp()), "exp": int(expires_at.timestamp())}
        key, kid = await self._signer("ES256")
        text = sign_compact(payload, key, kid=kid, typ=assertion.typ)
        record = IssuedToken(
            jti=str(payload.get("jti") or secrets.token_urlsafe(16)),
            parents=entitlement.parents,
            kind=assertion.kind,
            client_id=client.client_id,
            agent=client.agent.spiffe_id,
            subject=str(payload["sub"]),
            audience=assertion.audience,
            issued_at=issued_at,
            expires_at=expires_at,
            claims=payload,
            opaque_sha256=_digest(text),  # by which it is found again, as not every kind names itself
        )
        signed = _Signed(text=text, record=record, entitlement=entitlement, token_type="N_A")  # noqa: S106  RFC 8693, 2.2.1
        return await self._finish(signed, client, request, at)

    def _claims(
        self,
        entitlement: Entitlement,
        resource: Resource,
        client: AuthenticatedClient,
        confirmation: Confirmation | None,
        issued_at: datetime,
        expires_at: datetime,
    ) -> AccessTokenClaims:
        subject = entitlement.subject
        return AccessTokenClaims(
            issuer=self._settings.issuer,
            subject=subject.subject,
            subject_issuer=None if subject.issuer == self._settings.issuer else subject.issuer,
            audience=resource.audience,
            client_id=client.client_id,
            scopes=entitlement.scopes,
            issued_at=issued_at,
            expires_at=expires_at,
            jti=secrets.token_urlsafe(16),
            confirmation=confirmation,
            act_chain=entitlement.chain,
            authorization_details=entitlement.authorization_details,
            transaction=entitlement.transaction,
            may_act=entitlement.may_act,
            subject_profile=subject.profile,
            blueprint=client.agent.blueprint,
            auth_time=entitlement.auth_time,
            acr=entitlement.acr,
        )

    async def _signer(self, algorithm: str) -> tuple[PrivateKey, str]:
        try:
            return self._keys.signer(algorithm)
        except NoSigningKeyError:  # the first token of this algorithm
            await self._keys.ensure(algorithm)
            return self._keys.signer(algorithm)

    async def _finish(
        self, signed: _Signed, client: AuthenticatedClient, request: OAuthRequest, at: datetime
    ) -> TokenResponse:
        record, entitlement, refresh = signed.record, signed.entitlement, signed.entitlement.refresh
        beside = None if refresh is None else refresh.record
        try:  # (4)
            await self._store.tokens.issue(record, uses=(*client.uses, *entitlement.uses), at=at, beside=beside)
        except AlreadyUsedError as error:
            raise replayed(error) from error
        except ParentRevokedError as error:
            raise OAuthError(
                OAuthErrorCode.INVALID_REQUEST, "the token is not valid any more", rule="TX-12", detail=str(error)
            ) from error
        await self._audit(signed, client, request, at)  # (5)
        return TokenResponse(
            access_token=signed.text,
            token_type=signed.token_type,
            expires_in=int((record.expires_at - record.issued_at).total_seconds()),
            scope=" ".join(sorted(entitlement.scopes)) or None,
            issued_token_type=entitlement.issued_token_type,
            refresh_token=None if refresh is None else refresh.text,
            authorization_details=entitlement.authorization_details,
        )

    async def _audit(self, signed: _Signed, client: AuthenticatedClient, request: OAuthRequest, at: datetime) -> None:
        event = _event(signed, client, request, at)
        try:
            await self._sink.record(event)
        except Exception as error:
            # Whatever the log's trouble is: what is not on record must not be used, though nobody was handed it.
            _log.exception("token %s is not on record in the audit log, and is not handed out", signed.record.jti)
            await self._take_back(signed.record.jti, at)
            if signed.entitlement.refresh is not None:
                await self._take_back(signed.entitlement.refresh.record.jti, at)
            raise OAuthError(
                OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule="audit first", detail=str(error)
            ) from error

    async def _take_back(self, jti: str, at: datetime) -> None:
        try:
            await self._store.tokens.revoke(jti, at=at)
        except Exception:
            _log.exception("token %s could not be revoked either", jti)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _event(signed: _Signed, client: AuthenticatedClient, request: OAuthRequest, at: datetime) -> TokenIssued:
    record, entitlement = signed.record, signed.entitlement
    return TokenIssued(
        at=at,
        grant=(request.find("grant_type") or "").rpartition(":")[2],
        agent=str(client.agent.spiffe_id),
        client_id=client.client_id,
        method=client.method.value,
        audience=record.audience,
        request_id=request.request_id,
        remote=request.remote,
        token_type=record.kind,
        jti=record.jti,
        expires_at=record.expires_at,
        subject=entitlement.subject.subject,
        subject_issuer=entitlement.subject.issuer,
        scope=tuple(sorted(entitlement.scopes)),
        actors=tuple(party.subject for party in entitlement.chain.actors),
        parent=entitlement.parents[0] if entitlement.parents else "",
        binding=record.credential or "",
    )
