"""On whose behalf: a subject token, ours or a foreign issuer's, made into somebody with rights, a past and an end."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.access_token import AccessTokenClaims, Confirmation, verify_access_token
from agentshield.identity.act_chain import ActChain, Party
from agentshield.identity.bundle import BundleSource
from agentshield.identity.jws import HeaderRule, InvalidTokenError, UnverifiedJws
from agentshield.identity.verify import verify_jwt_svid
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.grants.token_types import ACCESS_TOKEN, ID_TOKEN, JWT
from agentshield.oauth.issuers.errors import NoCredentialError
from agentshield.oauth.issuers.federation import TOKEN_TYPES, FederatedIdentity, Federation
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import TokenStore

AGENT_PROFILE: Final = "ai_agent"
_CACHED: Final = 4096
_OWN_TYPES: Final = frozenset({ACCESS_TOKEN, JWT})
_FOREIGN_TYPES: Final = frozenset({ACCESS_TOKEN, ID_TOKEN, JWT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who a verified token is about, and how far its word reaches. `jti` is there if the token is ours.

    `scopes` is the most it may be exchanged for; None: it sets no limit of its own.
    """

    party: Party
    audience: tuple[str, ...]
    scopes: frozenset[str] | None
    expires_at: datetime
    act_chain: ActChain = field(default_factory=ActChain)
    jti: str | None = None
    confirmation: Confirmation | None = None
    may_act: Party | None = None
    authorization_details: tuple[Mapping[str, Any], ...] = ()
    transaction: str | None = None
    auth_time: int | None = None
    acr: str | None = None
    foreign_jti: str | None = None
    is_svid: bool = False


class SubjectTokens:
    """The one door to `Subject`.

    What a signature said once it says again: our own tokens are kept by digest until they end. Whether they have been
    revoked is not: that is asked at every exchange, in the transaction that records it.
    """

    def __init__(
        self,
        settings: OAuthSettings,
        tokens: TokenStore,
        keys: SigningKeys,
        federation: Federation,
        *,
        bundles: BundleSource | None = None,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._keys = keys
        self._federation = federation
        self._bundles = bundles
        self._known: OrderedDict[bytes, Subject] = OrderedDict()

    async def verify(self, token: str, token_type: str, *, at: datetime) -> Subject:
        """Believe a token, or not. For whom it was meant is for the caller to check (TX-02).

        Raises:
            OAuthError: it is no good, or of a type that is not taken (RFC 8693, 2.1).
            UnavailableError: what it is judged by cannot be known now.
        """
        if token_type not in _FOREIGN_TYPES:
            raise _refused("the token type is not supported", detail=f"token type {token_type[:120]!a}")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and at < known.expires_at and token_type in _OWN_TYPES:
            return known
        try:
            return await self._verify(token, token_type, digest, at)
        except (UnavailableError, OAuthError):
            raise
        except AgentShieldError as error:
            raise _refused("the token is invalid", detail=str(error), hint=error.hint) from error

    async def _verify(self, token: str, token_type: str, digest: bytes, at: datetime) -> Subject:
        if "." not in token:
            return await self._opaque(token_type, digest, at)
        claims = UnverifiedJws.parse(token, types=TOKEN_TYPES, headers=HeaderRule.FOREIGN).unverified_claims()
        if self._is_svid(claims, token_type):
            return self._svid(token, at)
        if claims.get("iss") != self._settings.issuer:
            return await self._foreign(await self._federation.verify(token, at=at))
        if token_type not in _OWN_TYPES:
            raise _refused("the token is not of the type it is said to be", detail=f"our own token as {token_type}")
        audience = claims.get("aud")
        verified = verify_access_token(
            token,
            keys=self._keys.key_set(),
            issuer=self._settings.issuer,
            audience=audience if isinstance(audience, str) else "",
            at=at,
            skew=self._settings.clock_skew,
        )
        subject = self._own(verified.claims)
        self._known[digest] = subject
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return subject

    def _is_svid(self, claims: Mapping[str, Any], token_type: str) -> bool:
        """Whether it can only be a JWT-SVID of our trust domain: no issuer but the domain itself, and a name in it."""
        domain, subject = f"spiffe://{self._settings.trust_domain}", claims.get("sub")
        is_ours = isinstance(subject, str) and subject.startswith(domain + "/")
        return self._bundles is not None and token_type == JWT and is_ours and claims.get("iss") in (None, domain)

    def _svid(self, token: str, at: datetime) -> Subject:
        assert self._bundles is not None  # `_is_svid` has looked
        issuer = self._settings.issuer
        identity = verify_jwt_svid(token, self._bundles, audience=issuer, at=at)
        if identity.claims.get("aud") not in (issuer, [issuer]):
            raise InvalidTokenError(f"JWT-SVID of {identity.spiffe_id} is for others beside {issuer}")
        return Subject(
            party=Party(issuer=issuer, subject=str(identity.spiffe_id), profile=AGENT_PROFILE),
            audience=(issuer,),
            scopes=None,
            expires_at=identity.valid_until,
            is_svid=True,
        )

    async def _opaque(self, token_type: str, digest: bytes, at: datetime) -> Subject:
        record = await self._tokens.find_opaque(digest.hex())
        if record is None or record.kind != "access_token" or token_type != ACCESS_TOKEN or at >= record.expires_at:
            raise _refused("the token is invalid", detail="opaque token is unknown, has ended, or is of another type")
        return self._own(AccessTokenClaims.from_claims(record.claims))

    def _own(self, claims: AccessTokenClaims) -> Subject:
        return Subject(
            party=Party(
                issuer=claims.subject_issuer or claims.issuer, subject=claims.subject, profile=claims.subject_profile
            ),
            audience=(claims.audience,),
            scopes=claims.scopes,
            expires_at=claims.expires_at,
            act_chain=claims.act_chain,
            jti=claims.jti,
            confirmation=claims.confirmation,
            may_act=claims.may_act,
            authorization_details=claims.authorization_details,
            transaction=claims.transaction,
            auth_time=claims.auth_time,
            acr=claims.acr,
        )

    async def _foreign(self, identity: FederatedIdentity) -> Subject:
        token = identity.token
        claims = token.claims
        may_act = ActChain.from_claim(claims["may_act"], max_depth=1).current if "may_act" in claims else None
        if "may_act" in claims and may_act is None:
            raise InvalidTokenError("token has a may_act that names nobody")
        return Subject(
            party=await self._party(identity),
            audience=token.audience,
            scopes=identity.record.scopes,
            expires_at=token.expires_at,
            act_chain=ActChain.from_claim(claims.get("act")),  # TX-09: whoever is named by half, is not believed
            confirmation=Confirmation.from_claim(claims["cnf"]) if "cnf" in claims else None,
            may_act=may_act,
            auth_time=claims["auth_time"] if type(claims.get("auth_time")) is int else None,
            acr=claims["acr"] if isinstance(claims.get("acr"), str) else None,
            foreign_jti=token.jti,
        )

    async def _party(self, identity: FederatedIdentity) -> Party:
        """One of our agents, where a federated credential says so; else somebody of the issuer's."""
        try:
            agent = await self._federation.agent_for(identity)
        except NoCredentialError:
            return foreign_party(identity.record.issuer, identity.subject, identity.record.subject_profile)
        return Party(issuer=self._settings.issuer, subject=str(agent), profile=AGENT_PROFILE)


def foreign_party(issuer: str, subject: str, profile: str | None) -> Party:
    """Return somebody of a foreign issuer's.

    Raises:
        InvalidTokenError: by a name that would be an agent's in `sub` of a token of ours (RFC 9700, 4.15).
    """
    if subject.lower().startswith("spiffe:"):
        raise InvalidTokenError(f"issuer {issuer[:200]!a} names its subject like an agent")
    return Party(issuer=issuer, subject=subject, profile=profile)


def _refused(description: str, *, detail: str, hint: str | None = None) -> OAuthError:
    return OAuthError(OAuthErrorCode.INVALID_REQUEST, description, rule="RFC 8693 2.1", detail=detail, hint=hint)
