"""Who called, in the word of the gateway that let them in, to the agent behind it.

The caller's own token never reaches the agent: with it the agent could call others in the caller's name. What it gets
instead is signed with the gateway's X509-SVID key, for this agent, for this request, for half a minute, and is believed
only on a connection of that gateway.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jws import UnverifiedJws, encode_base64url, sign_compact
from agentshield.identity.jwt_claims import CLOCK_SKEW, audience_claim, text_claim, time_claim
from agentshield.identity.keys import check_key_strength
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.identity.x509_svid import X509Svid, load_der_certificate

ASSERTION_TYPE: Final = "agentshield-caller+jwt"
LIFETIME: Final = timedelta(seconds=30)

_TYPES: Final[frozenset[str | None]] = frozenset({ASSERTION_TYPE})
_SEAL: Final = object()


class InvalidCallerAssertionError(AuthenticationError):
    """The assertion is by another than who is connected, for another request, or not for now."""

    code = "invalid_caller_assertion"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertedCaller:
    """Who calls: the agent, under whose word, on whose behalf, through whom; and what was decided for it."""

    spiffe_id: SpiffeId
    issuer: str
    subject: str
    chain: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    proof: str = "x509-svid"
    tenant: str = ""
    operation: str = ""
    skills: tuple[str, ...] = ()
    decision_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCallerAssertion:
    """An assertion of the gateway that is connected; `jti` is good once, until `expires_at`."""

    caller: AssertedCaller
    gateway: SpiffeId
    jti: str
    expires_at: datetime
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedCallerAssertion comes out of verify_caller_assertion only")


def sign_caller_assertion(
    svid: X509Svid, caller: AssertedCaller, *, audience: str, target: str, body: bytes, at: datetime
) -> str:
    """Assert `caller` to `audience`, the agent's SPIFFE ID, for one request: `target` is "POST /path?query"."""
    claims = {
        "iss": str(svid.spiffe_id),
        "sub": str(caller.spiffe_id),
        "aud": audience,
        "iat": int(at.timestamp()),
        "exp": int((at + LIFETIME).timestamp()),
        "jti": secrets.token_urlsafe(12),
        "req": _request_digest(target, body),
        "caller": {
            "iss": caller.issuer,
            "sub": caller.subject,
            "chain": list(caller.chain),
            "scope": " ".join(sorted(caller.scopes)),
            "proof": caller.proof,
        },
        "a2a": {"tenant": caller.tenant, "operation": caller.operation, "skills": list(caller.skills)},
        "decision": caller.decision_id,
    }
    return sign_compact(claims, svid.private_key, kid=None, typ=ASSERTION_TYPE)


def verify_caller_assertion(
    assertion: str, gateway: VerifiedIdentity, *, audience: str, target: str, body: bytes, at: datetime
) -> VerifiedCallerAssertion:
    """Believe an assertion. `gateway` is verified from the chain that came along, and is who is connected.

    Raises:
        InvalidTokenError: not such a token, or a claim of another shape.
        BadSignatureError: not by the gateway's key.
        WrongAudienceError: for another agent.
        InvalidCallerAssertionError: by another gateway, for another request, or not for now.
    """
    unverified = UnverifiedJws.parse(assertion, types=_TYPES)
    claims = unverified.verify(check_key_strength(load_der_certificate(gateway.chain[0]).public_key()))
    if text_claim(claims, "iss") != str(gateway.spiffe_id):
        raise InvalidCallerAssertionError("assertion names another gateway than the one that is connected")
    if (actual := audience_claim(claims)) != (audience,):
        raise WrongAudienceError(expected=audience, actual=actual)
    expires_at = time_claim(claims, "exp")
    if not time_claim(claims, "iat") - CLOCK_SKEW <= at < expires_at or expires_at > at + LIFETIME + CLOCK_SKEW:
        raise InvalidCallerAssertionError("assertion is not for now")
    if claims.get("req") != _request_digest(target, body):
        raise InvalidCallerAssertionError("assertion is for another request")
    return VerifiedCallerAssertion(
        caller=_caller(claims),
        gateway=gateway.spiffe_id,
        jti=text_claim(claims, "jti"),
        expires_at=expires_at,
        _seal=_SEAL,
    )


def _caller(claims: Mapping[str, Any]) -> AssertedCaller:
    caller, a2a = claims.get("caller"), claims.get("a2a")
    if not isinstance(caller, Mapping) or not isinstance(a2a, Mapping):
        raise InvalidCallerAssertionError("assertion names no caller")
    return AssertedCaller(
        spiffe_id=SpiffeId.parse(text_claim(claims, "sub")),
        issuer=text_claim(caller, "iss"),
        subject=text_claim(caller, "sub"),
        chain=_texts(caller.get("chain")),
        scopes=frozenset(str(caller.get("scope", "")).split()),
        proof=text_claim(caller, "proof"),
        tenant=str(a2a.get("tenant", "")),
        operation=str(a2a.get("operation", "")),
        skills=_texts(a2a.get("skills")),
        decision_id=str(claims.get("decision", "")),
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidCallerAssertionError("assertion has a list that is none of texts")
    return tuple(value)


def _request_digest(target: str, body: bytes) -> str:
    """SHA-256 over what is asked and the body, neither of which can run into the other."""
    return encode_base64url(hashlib.sha256(hashlib.sha256(target.encode()).digest() + body).digest()).decode()
