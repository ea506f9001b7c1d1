"""The identity assertion grant: what an IdP tells another authorization server of a user (ID-JAG, draft -04)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.act_chain import ActChain
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import HeaderRule, UnverifiedJws, sign_compact
from agentshield.identity.jwt_claims import audience_claim, has_begun, text_claim, time_claim
from agentshield.identity.keys import PrivateKey

ID_JAG_DRAFT: Final = "draft-ietf-oauth-identity-assertion-authz-grant-04"
ID_JAG_TYPE: Final = "oauth-id-jag+jwt"
MAX_LIFETIME: Final = timedelta(seconds=300)

_TYPES: Final = frozenset({ID_JAG_TYPE})
_SEAL: Final = object()


class IdJagError(AuthenticationError):
    """The grant is another client's or issuer's, or out of its time."""

    code = "invalid_id_jag"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedIdJag:
    """A grant that holds for us and for this client; its `jti` is to be claimed, once, until `expires_at`."""

    issuer: str
    subject: str
    client_id: str
    jti: str
    expires_at: datetime
    scopes: frozenset[str]
    resource: str | None
    act_chain: ActChain
    jkt: str | None
    claims: Mapping[str, Any] = field(repr=False)
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedIdJag comes out of verify_id_jag only")


def sign_id_jag(claims: Mapping[str, Any], key: PrivateKey, *, kid: str) -> str:
    """Sign a grant; `claims` are iss, sub, aud, client_id, jti, exp, iat and what the draft adds."""
    return sign_compact(claims, key, kid=kid, typ=ID_JAG_TYPE)


def verify_id_jag(
    token: str, *, keys: KeySet, issuer: str, audience: str, client_id: str, at: datetime
) -> VerifiedIdJag:
    """Check a grant that `client_id`, whom we have authenticated, presents (draft, 4.4).

    Raises:
        InvalidTokenError, InvalidActChainError: not a grant.
        UnknownKeyError, BadSignatureError: not signed by a key of the issuer's.
        WrongAudienceError: not for us alone.
        IdJagError: another issuer's, another client's, or out of its time.
    """
    unverified = UnverifiedJws.parse(token, types=_TYPES, headers=HeaderRule.FOREIGN)
    claims = unverified.verify(keys.find(unverified.header.kid, unverified.header.alg).public_key)
    if text_claim(claims, "iss") != issuer:
        raise IdJagError(f"grant is not from {issuer}")
    if (actual := audience_claim(claims)) != (audience,):
        raise WrongAudienceError(expected=f"{audience} alone", actual=actual)
    if text_claim(claims, "client_id") != client_id:
        raise IdJagError("grant was given to another client")
    expires_at, issued_at = time_claim(claims, "exp"), time_claim(claims, "iat")
    if at >= expires_at or not has_begun(claims, at) or expires_at - issued_at > MAX_LIFETIME:
        raise IdJagError("grant is out of its time, or good for too long")
    scope, resource, cnf = claims.get("scope", ""), claims.get("resource"), claims.get("cnf")
    if not isinstance(scope, str) or not (resource is None or isinstance(resource, str)):
        raise IdJagError("grant has a scope or resource that is not text")
    return VerifiedIdJag(
        issuer=issuer,
        subject=text_claim(claims, "sub"),
        client_id=client_id,
        jti=text_claim(claims, "jti"),
        expires_at=expires_at,
        scopes=frozenset(scope.split()),
        resource=resource,
        act_chain=ActChain.of(claims),
        jkt=_jkt(cnf) if "cnf" in claims else None,
        claims=claims,
        _seal=_SEAL,
    )


def _jkt(cnf: object) -> str:
    if not isinstance(cnf, Mapping) or cnf.keys() != {"jkt"} or not isinstance(cnf["jkt"], str):
        raise IdJagError("grant is bound to something other than a DPoP key")
    return cnf["jkt"]
