"""Foreign tokens: believed as far as our record of their issuer goes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.foreign_token import ForeignTokenError, IssuerRule, unverified_issuer, verify_foreign_token
from agentshield.identity.jwk import KeySet, thumbprint
from agentshield.identity.jws import InvalidTokenError, sign_compact
from agentshield.identity.keys import generate_private_key

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = generate_private_key()
KEYS = KeySet.of(KEY.public_key())
RULE = IssuerRule(
    issuer="https://idp.example.test/",
    algorithms=frozenset({"ES256"}),
    audiences=frozenset({"https://as.example.test"}),
    max_age=timedelta(hours=1),
)


def token(typ="JWT", key=KEY, **changes):
    now = int(NOW.timestamp())
    claims = {"iss": RULE.issuer, "sub": "s", "aud": "https://as.example.test", "iat": now, "exp": now + 600} | changes
    members = {name: value for name, value in claims.items() if value is not None}
    return sign_compact(members, key, kid=thumbprint(KEY.public_key()), typ=typ)


def verify(text, rule=RULE, at=NOW):
    return verify_foreign_token(text, rule=rule, keys=KEYS, at=at)


def test_what_the_issuer_says_is_believed():
    """Subject and claims come out, as the issuer wrote them."""
    verified = verify(token(jti="j", team="x"))
    assert (verified.subject, verified.jti, verified.claims["team"]) == ("s", "j", "x")
    assert unverified_issuer(token()) == RULE.issuer


def test_subject_claim_is_the_records():
    """Where an issuer's `sub` is a renamable name, the record says what identifies."""
    rule = replace(RULE, subject_claim="oid")
    assert verify(token(oid="o"), rule).subject == "o"
    with pytest.raises(InvalidTokenError):
        verify(token(), rule)


def test_issuer_that_differs_by_a_slash_is_another_and_said_so():
    """Exact comparison, and the near miss named: it is the commonest mistake in federation."""
    with pytest.raises(ForeignTokenError, match="final slash"):
        verify(token(iss="https://idp.example.test"))


@pytest.mark.parametrize("aud", ["other", ["https://as.example.test", "other"]])
def test_token_for_others_too_is_refused(aud):
    """Whoever else the token is for could use it here."""
    with pytest.raises(WrongAudienceError):
        verify(token(aud=aud))


def test_record_may_allow_company():
    """Where an issuer always adds itself, the record says so; ours must still be there."""
    rule = replace(RULE, sole_audience=False)
    verify(token(aud=["https://as.example.test", "account"]), rule)
    with pytest.raises(WrongAudienceError):
        verify(token(aud=["account"]), rule)


@pytest.mark.parametrize("changes", [{"exp": 0}, {"iat": 10**10}, {"nbf": 10**10}, {"exp": 10**10}])
def test_out_of_its_time_is_refused(changes):
    """Also one that is good for a year: it is a password with a signature."""
    with pytest.raises(ForeignTokenError):
        verify(token(**changes))


def test_algorithm_is_the_records():
    """RFC 8725, 3.1."""
    with pytest.raises(ForeignTokenError, match="signed with"):
        verify(token(), replace(RULE, algorithms=frozenset({"RS256"})))


def test_forged_and_mistyped_tokens_are_refused():
    """Signature and kind."""
    with pytest.raises(BadSignatureError):
        verify(token(key=generate_private_key()))
    with pytest.raises(InvalidTokenError):
        verify(token(typ="at+jwt"))
