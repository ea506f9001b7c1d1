"""Why a foreign token is believed or not, claim by claim, for the person who is setting the issuer up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agentshield.identity.errors import utc_text
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.issuers.claims import claim_at, near_miss, shown
from agentshield.oauth.issuers.matching import conditions_of, is_match
from agentshield.oauth.issuers.presets import PRESETS
from agentshield.oauth.model import FederatedCredential, IssuerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCheck:
    """One line of the explanation. `note` names a near miss, or what to beware of although it holds."""

    claim: str
    expected: str
    actual: str
    holds: bool
    note: str = ""


def explain_token(
    token: UnverifiedJws,
    record: IssuerRecord,
    credentials: Iterable[FederatedCredential],
    *,
    at: datetime,
    skew: timedelta,
    failure: str | None = None,
) -> tuple[ClaimCheck, ...]:
    """Check everything, though the first failure would do: whoever sets up an issuer mends all at once.

    `failure` is why the signature does not verify, if it does not.
    """
    claims = token.unverified_claims()
    audience = _audience(claims)
    return (
        _one_of("typ", record.token_types, token.header.typ),
        _one_of("alg", record.algorithms, token.header.alg),
        ClaimCheck(
            claim="signature",
            expected="verifies with the issuer's key",
            actual=f"kid {shown(token.header.kid)}",
            holds=failure is None,
            note=failure or "",
        ),
        _equal("iss", record.issuer, claims.get("iss")),
        _audience_check(record, audience),
        *_times(record, claims, at, skew),
        _subject(record, claims),
        *(check for each in credentials for check in _credential(each, record, claims, audience)),
    )


def _equal(claim: str, expected: str, actual: object, *, note: str = "") -> ClaimCheck:
    found = actual if isinstance(actual, str) else None
    holds = found == expected
    return ClaimCheck(
        claim=claim,
        expected=shown(expected),
        actual="(absent)" if actual is None else shown(actual),
        holds=holds,
        note=note if holds or found is None else near_miss(expected, found),
    )


def _one_of(claim: str, allowed: frozenset[str] | frozenset[str | None], actual: str | None) -> ClaimCheck:
    names = sorted("(absent)" if each is None else each for each in allowed)
    return ClaimCheck(
        claim=claim,
        expected=" or ".join(map(shown, names)),
        actual="(absent)" if actual is None else shown(actual),
        holds=actual in allowed,
    )


def _audience_check(record: IssuerRecord, audience: tuple[str, ...]) -> ClaimCheck:
    holds = len(audience) == 1 and audience[0] in record.audiences
    misses = (near_miss(ours, theirs) for ours in sorted(record.audiences) for theirs in audience)
    note = "" if holds else next((miss for miss in misses if miss), "")
    if len(audience) > 1:
        note = "a token that is for others too is refused: they could show it to us"
    if not holds and record.preset == "keycloak":
        note = PRESETS["keycloak"].advice
    return ClaimCheck(
        claim="aud",
        expected=" or ".join(map(shown, sorted(record.audiences))),
        actual=", ".join(map(shown, audience)) or "(absent)",
        holds=holds,
        note=note,
    )


def _times(record: IssuerRecord, claims: Mapping[str, Any], at: datetime, skew: timedelta) -> tuple[ClaimCheck, ...]:
    ends, starts, made = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    checks = [
        ClaimCheck(
            claim="exp",
            expected=f"after {utc_text(at)}",
            actual="(absent)" if ends is None else utc_text(ends),
            holds=ends is not None and at < ends,
            note="" if ends is None or at < ends else f"ended {(at - ends).total_seconds():.0f}s ago",
        )
    ]
    checks += [
        ClaimCheck(
            claim=name,
            expected=f"not after {utc_text(at + skew)}",
            actual=utc_text(moment),
            holds=moment <= at + skew,
            note="" if moment <= at + skew else "compare the clocks of this machine and the issuer",
        )
        for name, moment in (("nbf", starts), ("iat", made))
        if moment is not None
    ]
    age = None if ends is None else ends - min([at, *(each for each in (starts, made) if each is not None)])
    checks.append(
        ClaimCheck(
            claim="lifetime",
            expected=f"at most {record.max_age}",
            actual="(exp absent)" if age is None else str(age),
            holds=age is not None and age <= record.max_age,
        )
    )
    return tuple(checks)


def _subject(record: IssuerRecord, claims: Mapping[str, Any]) -> ClaimCheck:
    subject = claim_at(claims, record.subject_claim)
    return ClaimCheck(
        claim=record.subject_claim,
        expected="the subject",
        actual="(absent)" if subject is None else shown(subject),
        holds=bool(subject),
    )


def _credential(
    credential: FederatedCredential, record: IssuerRecord, claims: Mapping[str, Any], audience: tuple[str, ...]
) -> Iterable[ClaimCheck]:
    """A credential that fits is one line; of one that does not, every condition is."""
    name = f"credential {shown(credential.name)}"
    preset = PRESETS.get(record.preset or "")
    renamable = preset.renamable if preset is not None else frozenset()
    conditions = conditions_of(credential, record)
    if is_match(credential, record, claims, audience):
        named = sorted(renamable & conditions.keys())
        note = f"{', '.join(named)} can be given to somebody else" if named else ""
        yield ClaimCheck(claim=name, expected="fits", actual=str(credential.agent), holds=True, note=note)
        return
    for path, expected in conditions.items():
        yield _equal(f"{name}: {path}", expected, claim_at(claims, path))
    if credential.audience not in audience:
        misses = (near_miss(credential.audience, each) for each in audience)
        yield ClaimCheck(
            claim=f"{name}: aud",
            expected=shown(credential.audience),
            actual=", ".join(map(shown, audience)) or "(absent)",
            holds=False,
            note=next((miss for miss in misses if miss), ""),
        )


def _audience(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("aud")
    values = value if isinstance(value, list) else [value]
    return tuple(each for each in values if isinstance(each, str))


def _time(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**35:
        return None
    return datetime.fromtimestamp(value, UTC)
