"""A token made for one purpose is shown for another, under the same key and with claims that would do for both.

The payload is that of tests/vectors/token_kinds.py: every verifier would believe it, but for the type.
"""

import pytest
from token_kinds import (
    ACCESS_TOKEN,
    ATTESTATION_PROOF,
    CLIENT_ASSERTION,
    DPOP_PROOF,
    FOREIGN_TOKEN,
    ID_JAG,
    JWT_SVID,
    KINDS,
    NAMED_KEY,
    TRANSACTION_TOKEN,
    WIT_SVID,
    WORKLOAD_PROOF,
    claims,
    name_of,
)

from agentshield.errors import AuthenticationError
from agentshield.identity.dpop import InvalidDpopProofError
from agentshield.identity.jws import InvalidTokenError

TYPED = [ACCESS_TOKEN, ID_JAG, TRANSACTION_TOKEN, WIT_SVID, DPOP_PROOF, ATTESTATION_PROOF, WORKLOAD_PROOF]
# JWT-SVIDs and many issuers' tokens have no type of their own, and older clients' assertions have none either: whose
# key signed and whom it is for keep those three apart (standards of each; see the tests at the end).
UNTYPED = [CLIENT_ASSERTION, FOREIGN_TOKEN, JWT_SVID]
TYPES_OF_OTHERS = [
    "oauth-client-attestation+jwt",
    "txn-authz-challenge+jwt",
    "secevent+jwt",
    "token-introspection+jwt",
    "logout+jwt",
    "oauth-authz-req+jwt",
    "entity-statement+jwt",
]


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (made, shown)
        for made in KINDS
        for shown in KINDS
        if made is not shown and not (made.typ == "JWT" and shown in UNTYPED)
    ],
    ids=name_of,
)
def test_no_kind_is_taken_for_another(made, shown, tokens):
    """Whoever may get the cheap token must not come by the dear one with it."""
    token = made.token(tokens)
    assert made.verify(token, tokens)
    with pytest.raises((InvalidTokenError, InvalidDpopProofError)):
        shown.verify(token, tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("typ", TYPES_OF_OTHERS)
def test_types_that_we_do_not_make_are_refused_by_all(kind, typ, tokens):
    """RFC 8725, 3.11: what another specification signs under a shared key is for that specification."""
    with pytest.raises((InvalidTokenError, InvalidDpopProofError), match="type"):
        kind.verify(kind.token(tokens, typ=typ), tokens)


@pytest.mark.parametrize("kind", TYPED, ids=name_of)
def test_a_kind_that_has_a_type_must_show_it(kind, tokens):
    """A token without a type could be of any kind."""
    header = {name: value for name, value in kind.header(tokens).items() if name != "typ"}
    with pytest.raises((InvalidTokenError, InvalidDpopProofError), match="type"):
        kind.verify(tokens.token(claims(), header=header), tokens)


@pytest.mark.parametrize("kind", TYPED, ids=name_of)
@pytest.mark.parametrize("spoil", [str.upper, lambda typ: typ + " ", lambda typ: " " + typ, lambda typ: typ + ";v=1"])
def test_a_type_is_compared_by_character(kind, spoil, tokens):
    """A type that is nearly right is another's mistake or a probe, never ours."""
    with pytest.raises((InvalidTokenError, InvalidDpopProofError), match="type"):
        kind.verify(kind.token(tokens, typ=spoil(kind.typ)), tokens)


def test_an_access_token_may_spell_its_type_in_full(tokens):
    """RFC 9068, 4: with and without `application/`, and no other kind may."""
    assert ACCESS_TOKEN.verify(ACCESS_TOKEN.token(tokens, typ="application/at+jwt"), tokens)
    for kind in (each for each in TYPED if each is not ACCESS_TOKEN):
        with pytest.raises((InvalidTokenError, InvalidDpopProofError)):
            kind.verify(kind.token(tokens, typ=f"application/{kind.typ}"), tokens)


@pytest.mark.parametrize("shown", UNTYPED, ids=name_of)
def test_tokens_without_a_type_are_kept_apart_by_their_keys(shown, tokens, tokens_of):
    """A trust domain's, a client's and an issuer's keys are three sets; a token of one is nobody's in another."""
    others = tokens_of(kid="of-another-set")
    for made in UNTYPED:
        with pytest.raises(AuthenticationError):
            shown.verify(made.token(others, typ="JWT"), tokens)


def test_every_verifier_takes_its_own(tokens):
    """None of this is because the payload was bad."""
    for kind in NAMED_KEY:
        assert kind.verify(kind.token(tokens), tokens)
