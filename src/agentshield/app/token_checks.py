"""Whether a resource would believe a token: the rules of `TokenVerifier`, one by one, with what each found.

Each check is made by the very function that decides at a resource. Behind a signature that does not hold nothing is
checked: what a forged token says is nobody's word.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.access_token import (
    ACCESS_TOKEN_TYPES,
    AccessTokenClaims,
    Confirmation,
    TokenExpiredError,
    VerifiedAccessToken,
    WrongIssuerError,
)
from agentshield.identity.errors import WrongAudienceError, utc_text
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import UnverifiedJws
from agentshield.sdk.access_tokens import acting_agent

_T = TypeVar("_T")
PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_CHECKED: Final = "not checked"

Believe = Callable[[str, str], VerifiedAccessToken]  # issuer and audience to expect
_CLAUSES: Final = {
    "type": "RFC 9068, 4 (1)",
    "key": "RFC 8725, 3.1",
    "signature": "RFC 9068, 4 (3)",
    "active": "RFC 7662, 2.2",
    "claims": "RFC 9068, 2.2",
    "issuer": "RFC 9068, 4 (4)",
    "audience": "RFC 9068, 4 (5)",
    "times": "RFC 9068, 4 (6)",
    "binding": "RFC 9449, 6; RFC 8705, 3",
    "not revoked": "RFC 7009, 2.2",
    "caller": "RFC 8693, 4.1",
}
_AFTER_CLAIMS: Final = ("issuer", "audience", "times", "binding", "not revoked", "caller")


@dataclass(slots=True)
class TokenChecks:
    """The checks made so far, in order."""

    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def all_passed(self) -> bool:
        """Whether a resource would believe the token, from whoever proves its key."""
        return all(each["result"] == PASSED for each in self.items)

    def make(self, check: str, rule: Callable[[], _T], found: Callable[[_T], str]) -> _T | None:
        """Make one check; None if it failed.

        Raises:
            UnavailableError: it cannot be made now, which is no answer.
        """
        try:
            value = rule()
        except UnavailableError:
            raise
        except AgentShieldError as error:
            self.add(check, FAILED, str(error))
            return None
        self.add(check, PASSED, found(value))
        return value

    def add(self, check: str, result: str, found: str) -> None:
        """Put a check's result on the list."""
        self.items.append({"check": check, "result": result, "found": found, "clause": _CLAUSES[check]})

    def skip(self, *checks: str) -> None:
        """Say that these were not made."""
        for check in checks:
            self.add(check, NOT_CHECKED, "an earlier check failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying:
    """What a token is held against. `not_revoked` raises for a `jti` that is; `own_thumbprint` is our certificate's."""

    issuer: str
    audience: str
    at: datetime
    not_revoked: Callable[[str], None]
    own_thumbprint: str


def check_signed(token: str, keys: KeySet, believe: Believe, verifying: Verifying) -> TokenChecks:
    """Check a token that can be read."""
    checks = TokenChecks()
    unverified = checks.make(
        "type", lambda: UnverifiedJws.parse(token, types=ACCESS_TOKEN_TYPES), lambda jws: str(jws.header.typ)
    )
    if unverified is None:
        checks.skip("key", "signature", "claims", *_AFTER_CLAIMS)
        return checks
    header = unverified.header
    key = checks.make(
        "key", lambda: keys.find(header.kid, header.alg), lambda _: f"kid {header.kid}, {header.alg}, of the issuer"
    )
    payload = None
    if key is not None:
        payload = checks.make("signature", lambda: unverified.verify(key.public_key), lambda _: "the issuer's")
    else:
        checks.skip("signature")
    if payload is None:
        checks.skip("claims", *_AFTER_CLAIMS)
        return checks
    _check_claims(checks, payload, believe, verifying)
    return checks


def check_opaque(answer: dict[str, Any], believe: Believe, verifying: Verifying) -> TokenChecks:
    """Check what the authorization server answered about a token that cannot be read."""
    checks = TokenChecks()
    if answer.get("active") is not True:
        checks.add("active", FAILED, "ended, revoked, unknown, or not for this agent to ask about")
        checks.skip("claims", *_AFTER_CLAIMS)
        return checks
    checks.add("active", PASSED, "says the authorization server")
    _check_claims(checks, answer, believe, verifying)
    return checks


def _check_claims(checks: TokenChecks, payload: Any, believe: Believe, verifying: Verifying) -> None:
    claims = checks.make("claims", lambda: AccessTokenClaims.from_claims(payload), lambda _: "those of an access token")
    if claims is None:
        checks.skip(*_AFTER_CLAIMS)
        return
    # One expectation at a time is ours, the others are the token's own: so each finds its own fault, and only that.
    _check_one(checks, "issuer", WrongIssuerError, lambda: believe(verifying.issuer, claims.audience), claims.issuer)
    _check_one(
        checks, "audience", WrongAudienceError, lambda: believe(claims.issuer, verifying.audience), claims.audience
    )
    ends = f"until {utc_text(claims.expires_at)}"
    _check_one(checks, "times", TokenExpiredError, lambda: believe(claims.issuer, claims.audience), ends)
    _check_binding(checks, claims.confirmation, verifying.own_thumbprint)
    checks.make("not revoked", lambda: verifying.not_revoked(claims.jti), lambda _: "as of seconds ago")
    if checks.all_passed:
        checks.make("caller", lambda: acting_agent(believe(verifying.issuer, verifying.audience), None), str)
    else:
        checks.skip("caller")


def _check_one(
    checks: TokenChecks, check: str, fault: type[AgentShieldError], rule: Callable[[], object], found: str
) -> None:
    try:
        rule()
    except fault as error:
        checks.add(check, FAILED, str(error))
        return
    except AgentShieldError:  # another check's, which says so itself
        pass
    checks.add(check, PASSED, found)


def _check_binding(checks: TokenChecks, confirmation: Confirmation | None, own_thumbprint: str) -> None:
    """There is no request here, so no proof: only that there is a key to prove, and whether it is ours."""
    match confirmation:
        case None:
            checks.add("binding", FAILED, "token is bound to no key; anybody who saw it could present it")
        case Confirmation(jkt=str() as jkt):
            checks.add("binding", PASSED, f"to DPoP key {jkt}; each request must prove it")
        case Confirmation(x5t_s256=thumbprint) if thumbprint == own_thumbprint:
            checks.add("binding", PASSED, "to this agent's X509-SVID; each connection must show it")
        case _:
            thumbprint = confirmation.x5t_s256
            checks.add("binding", PASSED, f"to certificate {thumbprint}, not this agent's; its connection must show it")
