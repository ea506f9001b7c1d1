"""Transaction tokens: what one transaction is about, inside one trust domain, for minutes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jwk import KeySet, UnknownKeyError, thumbprint
from agentshield.identity.jws import InvalidTokenError, sign_compact
from agentshield.identity.keys import generate_private_key
from agentshield.identity.transaction_token import (
    TRANSACTION_TOKEN_TYPE,
    TransactionTokenClaims,
    TransactionTokenError,
    VerifiedTransactionToken,
    sign_transaction_token,
    verify_transaction_token,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DOMAIN = "example.test"
KEY = generate_private_key()
KEYS = KeySet.of(KEY.public_key())
KID = thumbprint(KEY.public_key())
CLAIMS = TransactionTokenClaims(
    audience=DOMAIN,
    transaction="t1",
    subject="alice",
    scopes=frozenset({"payment.read", "payment.make"}),
    requester="spiffe://example.test/agents/a",
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
    issuer="https://localhost:8443",
    transaction_context={"amount": 3},
    requester_context={"ip": "127.0.0.1"},
)


def verify(token, **changes):
    return verify_transaction_token(token, **{"keys": KEYS, "trust_domain": DOMAIN, "at": NOW, **changes})


def raw(typ=TRANSACTION_TOKEN_TYPE, **changes):
    claims = {name: value for name, value in (CLAIMS.to_claims() | changes).items() if value is not ...}
    return sign_compact(claims, KEY, kid=KID, typ=typ)


def test_what_was_signed_is_what_is_read():
    """The context of a transaction never changes on its way (draft, 10)."""
    assert verify(sign_transaction_token(CLAIMS, KEY, kid=KID)).claims == CLAIMS
    bare = replace(CLAIMS, issuer=None, transaction_context={}, requester_context={})
    assert verify(sign_transaction_token(bare, KEY, kid=KID)).claims == bare
    assert not {"iss", "tctx", "rctx"} & bare.to_claims().keys()


@pytest.mark.parametrize(
    "aud", ["example.org", "EXAMPLE.test", "spiffe://example.test", ["example.test", "example.org"]]
)
def test_token_of_another_trust_domain_is_refused(aud):
    """What a neighbour's service issued says nothing about our transactions."""
    with pytest.raises(WrongAudienceError):
        verify(raw(aud=aud))


@pytest.mark.parametrize("name", ["iat", "exp", "aud", "txn", "sub", "scope", "req_wl"])
def test_each_required_claim_is_required(name):
    """The draft's list; a token without one is half a statement."""
    with pytest.raises(InvalidTokenError):
        verify(raw(**{name: ...}))


@pytest.mark.parametrize(
    "changes",
    [{"tctx": []}, {"tctx": None}, {"rctx": "x"}, {"scope": ["a"]}, {"sub": 5}, {"txn": ""}, {"iss": 5}, {"exp": True}],
)
def test_claims_of_a_wrong_shape_are_refused(changes):
    """A service that decides by the context must not decide by something else."""
    with pytest.raises(InvalidTokenError):
        verify(raw(**changes))


def test_token_out_of_its_time_is_refused():
    """Minutes, and no second more; a start ahead of us by more than the skew is a clock somebody holds."""
    verify(raw(), at=NOW - timedelta(seconds=30))
    for at in (NOW + timedelta(minutes=5), NOW - timedelta(seconds=31)):
        with pytest.raises(TransactionTokenError):
            verify(raw(), at=at)
    for changes in ({"exp": int(NOW.timestamp()) + 301}, {"nbf": int(NOW.timestamp()) + 31}):
        with pytest.raises(TransactionTokenError):
            verify(raw(**changes))


def test_forged_token_is_refused():
    """Only the service that knows the transaction writes of it."""
    for key, kid, error in ((generate_private_key(), KID, BadSignatureError), (KEY, "other", UnknownKeyError)):
        with pytest.raises(error):
            verify(sign_transaction_token(CLAIMS, key, kid=kid))


def test_nobody_makes_a_verified_one_by_hand():
    """What says verified has been verified."""
    with pytest.raises(TypeError):
        VerifiedTransactionToken(claims=CLAIMS)
