"""Which agent a foreign identity is: exact, on every condition, and one agent or none."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.issuers.claims import claim_at
from agentshield.oauth.issuers.errors import AmbiguousIdentityError, NoCredentialError
from agentshield.oauth.model import FederatedCredential, IssuerRecord


def conditions_of(credential: FederatedCredential, record: IssuerRecord) -> Mapping[str, str]:
    """Return the claims a credential asks for, its subject being the claim that the issuer's record identifies by."""
    subject = {} if credential.subject is None else {record.subject_claim: credential.subject}
    return {**credential.claims, **subject}


def is_match(
    credential: FederatedCredential, record: IssuerRecord, claims: Mapping[str, Any], audience: Iterable[str]
) -> bool:
    """Whether every condition holds, character by character. A credential without conditions matches nothing."""
    conditions = conditions_of(credential, record)
    return (
        bool(conditions)
        and credential.issuer == record.issuer
        and credential.audience in tuple(audience)
        and all(claim_at(claims, path) == expected for path, expected in conditions.items())
    )


def may_overlap(one: FederatedCredential, other: FederatedCredential, record: IssuerRecord) -> bool:
    """Whether one token could fit both: unless they ask for different values of one claim, it could.

    Their audiences tell nothing: a token may have both.
    """
    theirs = conditions_of(other, record)
    return not any(path in theirs and theirs[path] != value for path, value in conditions_of(one, record).items())


def agent_of(
    credentials: Iterable[FederatedCredential],
    record: IssuerRecord,
    claims: Mapping[str, Any],
    audience: Iterable[str],
) -> SpiffeId:
    """Return the one agent that the credentials make of these claims.

    Raises:
        NoCredentialError: no credential fits.
        AmbiguousIdentityError: those that fit name different agents.
    """
    names = tuple(audience)
    agents = {each.agent for each in credentials if is_match(each, record, claims, names)}
    if not agents:
        raise NoCredentialError(
            f"no federated credential of issuer {record.name[:80]!a} fits this token",
            hint="`agentshield issuer test` shows which claim differs",
        )
    if len(agents) > 1:
        raise AmbiguousIdentityError(f"token of issuer {record.name[:80]!a} fits {len(agents)} agents")
    return agents.pop()
