"""Access tokens: believed for one issuer, one audience, one holder."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from agentshield.errors import AgentShieldError
from agentshield.identity.access_token import (
    ACCESS_TOKEN_TYPE,
    AccessTokenClaims,
    Confirmation,
    InvalidAccessTokenError,
    TokenExpiredError,
    UnboundTokenError,
    VerifiedAccessToken,
    WrongIssuerError,
    WrongKeyError,
    certificate_thumbprint,
    sign_access_token,
    verify_access_token,
    verify_confirmation,
)
from agentshield.identity.act_chain import ActChain, Party
from agentshield.identity.dpop import sign_dpop_proof, verify_dpop_proof
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jwk import KeySet, UnknownKeyError, thumbprint
from agentshield.identity.jws import InvalidTokenError, sign_compact
from agentshield.identity.keys import generate_private_key

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ISSUER = "https://localhost:8443"
AUDIENCE = "api://agent-b"
KEY = generate_private_key()
HOLDER = generate_private_key()
KEYS = KeySet.of(KEY.public_key())
KID = KEYS.keys[0].kid
CLAIMS = AccessTokenClaims(
    issuer=ISSUER,
    subject="alice",
    audience=AUDIENCE,
    client_id="spiffe://example.test/agents/a",
    scopes=frozenset({"AI.Task.Execute", "AI.Task.Read"}),
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
    jti="j1",
    confirmation=Confirmation(jkt=thumbprint(HOLDER.public_key())),
    act_chain=ActChain((Party(issuer=ISSUER, subject="spiffe://example.test/agents/a", profile="ai_agent"),)),
    authorization_details=({"type": "payment", "amount": 3},),
    transaction="t1",
    may_act=Party(issuer=ISSUER, subject="spiffe://example.test/agents/b", profile="ai_agent"),
    subject_profile="user",
    auth_time=5,
)


def verify(token, **changes):
    return verify_access_token(token, **{"keys": KEYS, "issuer": ISSUER, "audience": AUDIENCE, "at": NOW, **changes})


def signed(**changes):
    return sign_access_token(replace(CLAIMS, **changes), KEY, kid=KID)


def raw(typ=ACCESS_TOKEN_TYPE, **changes):
    members = {**CLAIMS.to_claims(), **changes}
    return sign_compact({name: value for name, value in members.items() if value != "-"}, KEY, kid=KID, typ=typ)


def test_what_was_signed_is_what_is_read():
    """A claim that does not come back would be a right nobody checks."""
    assert verify(signed()).claims == CLAIMS


def test_another_library_reads_it():
    """Resource servers that know nothing of us must be able to check what we issue."""
    claims = jwt.decode(
        signed(),
        KEY.public_key(),
        ["ES256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["scope"] == "AI.Task.Execute AI.Task.Read"
    assert claims["act"]["sub"] == "spiffe://example.test/agents/a"


@pytest.mark.parametrize("typ", ["JWT", "dpop+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "client-authentication+jwt"])
def test_no_other_kind_of_token_is_one(typ):
    """A token made for another purpose under the same key must not open a door."""
    with pytest.raises(InvalidTokenError, match="type"):
        verify(raw(typ=typ))


@pytest.mark.parametrize("issuer", [ISSUER + "/", "https://localhost", "HTTPS://localhost:8443"])
def test_issuer_is_compared_by_character(issuer):
    """A look-alike issuer is another issuer."""
    with pytest.raises(WrongIssuerError):
        verify(signed(issuer=issuer))


@pytest.mark.parametrize("audience", ["api://agent-c", "api://agent-b/", "API://agent-b"])
def test_token_for_somebody_else_is_refused(audience):
    """Who receives a token for itself must not be able to use it on us."""
    with pytest.raises(WrongAudienceError):
        verify(signed(audience=audience))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE, "api://other"]},
        {"aud": []},
        {"aud": "-"},
        {"aud": 1},
        {"exp": "-"},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e400},
        {"iat": "-"},
        {"jti": "-"},
        {"client_id": "-"},
        {"sub": ""},
        {"scope": ["AI.Task.Execute"]},
        {"cnf": {}},
        {"cnf": {"jkt": "short"}},
        {"cnf": {"jkt": "a" * 43, "x5t#S256": "a" * 43}},
        {"cnf": {"jkt": "a" * 43, "kid": "x"}},
        {"cnf": None},
        {"act": {"sub": "x"}},
        {"act": []},
        {"act": None},
        {"may_act": None},
        {"authorization_details": {}},
        {"auth_time": True},
    ],
)
def test_claims_of_a_wrong_shape_are_refused(changes):
    """What cannot be read exactly is not guessed: a binding that is not understood must not be a binding skipped."""
    if changes.get("exp") == 1e400:
        changes = {"exp": 2**40}
    with pytest.raises(InvalidAccessTokenError):
        verify(raw(**changes))


def test_expired_token_is_refused_to_the_second():
    """Clock skew never lengthens a token's life."""
    with pytest.raises(TokenExpiredError):
        verify(signed(), at=CLAIMS.expires_at)


def test_token_of_the_future_is_refused():
    """A token made ahead of time may come from a clock somebody holds."""
    verify(signed(), at=NOW - timedelta(seconds=30))
    with pytest.raises(TokenExpiredError):
        verify(signed(), at=NOW - timedelta(seconds=31))


def test_signature_of_another_key_is_refused():
    """Whoever lacks the issuer's key has no token."""
    forged = sign_access_token(CLAIMS, generate_private_key(), kid=KID)
    with pytest.raises(BadSignatureError):
        verify(forged)
    with pytest.raises(UnknownKeyError):
        verify(sign_access_token(CLAIMS, KEY, kid="other"))


def test_every_flipped_character_is_refused():
    """No part of a token can be changed without the signature noticing."""
    token = signed()
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(AgentShieldError):
            verify(changed)


def test_holder_of_the_key_is_let_through():
    """The bound key is what makes the token worth something."""
    token = signed()
    proof = sign_dpop_proof(HOLDER, method="GET", url="https://b.example.test/", at=NOW, access_token=token)
    verified = verify_dpop_proof(proof, method="GET", url="https://b.example.test/", at=NOW, access_token=token)
    verify_confirmation(verify(token), dpop=verified, certificate_der=None)


def test_stolen_token_is_refused():
    """A token without its key, with another key, or with the wrong kind of proof is worth nothing."""
    token = signed()
    thief = sign_dpop_proof(
        generate_private_key(), method="GET", url="https://b.example.test/", at=NOW, access_token=token
    )
    proof = verify_dpop_proof(thief, method="GET", url="https://b.example.test/", at=NOW, access_token=token)
    with pytest.raises(WrongKeyError):
        verify_confirmation(verify(token), dpop=proof, certificate_der=None)
    with pytest.raises(UnboundTokenError):
        verify_confirmation(verify(token), dpop=None, certificate_der=b"any")


def test_certificate_bound_token_needs_that_certificate():
    """Each SVID's token is for that SVID's connection."""
    bound = Confirmation(x5t_s256=certificate_thumbprint(b"certificate"))
    token = verify(signed(confirmation=bound))
    verify_confirmation(token, dpop=None, certificate_der=b"certificate")
    with pytest.raises(WrongKeyError):
        verify_confirmation(token, dpop=None, certificate_der=b"another")
    with pytest.raises(UnboundTokenError):
        verify_confirmation(token, dpop=None, certificate_der=None)


def test_unbound_token_is_not_presented_at_all():
    """A bearer token is refused here, whoever brings it; a client that may have one is another function's business."""
    with pytest.raises(UnboundTokenError):
        verify_confirmation(verify(signed(confirmation=None)), dpop=None, certificate_der=None)


def test_nobody_makes_a_verified_token_by_hand():
    """What says verified has been verified."""
    with pytest.raises(TypeError):
        VerifiedAccessToken(claims=CLAIMS, token_digest="x")
