"""One text, two readings: a member twice is a first value for one reader and a last for another (RFC 8725, 2.4)."""

import json

import pytest
from token_kinds import ALGORITHMS, DPOP_PROOF, KINDS, NAMED_KEY, claims, name_of

from agentshield.identity.dpop import InvalidDpopProofError
from agentshield.identity.jwk import InvalidKeySetError, KeySet
from agentshield.identity.jws import InvalidTokenError

REFUSED = (InvalidTokenError, InvalidDpopProofError)


def with_member(members, text):
    """The JSON of `members`, with one more member spelt as `text`."""
    return (json.dumps(members)[:-1] + "," + text + "}").encode()


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize(
    "again",
    [
        '"sub":"spiffe://example.org/agents/admin"',
        '"sub":"spiffe://example.org/agents/planner"',
        '"\\u0073ub":"spiffe://example.org/agents/admin"',
        '"exp":99999999999',
        '"aud":"another"',
        '"cnf":{"jkt":"a","jkt":"b"}',
        '"act":{"iss":"i","sub":"x","sub":"y"}',
        '"x":[{"a":1,"a":1}]',
    ],
)
def test_a_claim_twice_is_no_claim(kind, again, tokens):
    """Also with one value twice, also when one is spelt with escapes, also deep inside."""
    with pytest.raises(REFUSED, match="twice"):
        kind.verify(tokens.token(with_member(claims(), again), header=kind.header(tokens)), tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("again", ['"alg":"none"', '"alg":"ES256"', '"\\u0061lg":"none"', '"typ":"at+jwt"'])
def test_a_header_parameter_twice_is_no_header(kind, again, tokens):
    """RFC 7515, 4: two algorithms, two types."""
    with pytest.raises(REFUSED, match="twice"):
        kind.verify(tokens.token(claims(), header=with_member(kind.header(tokens), again)), tokens)


@pytest.mark.parametrize("kind", NAMED_KEY, ids=name_of)
def test_two_kids_are_two_keys(kind, tokens):
    """The one that is looked up and the one that is logged would differ."""
    token = tokens.token(claims(), header=with_member(kind.header(tokens), '"kid":"another"'))
    with pytest.raises(InvalidTokenError, match="twice"):
        kind.verify(token, tokens)


def test_a_proof_s_key_has_each_coordinate_once(tokens, tokens_of):
    """Thumbprint and verification must see one key."""
    honest = json.dumps(DPOP_PROOF.header(tokens))
    other = tokens_of().jwk()["x"]
    header = honest.replace('"x": ', f'"x": "{other}", "x": ').encode()
    assert header != honest.encode()
    with pytest.raises(InvalidDpopProofError, match="twice"):
        DPOP_PROOF.verify(tokens.token(claims(), header=header), tokens)


def test_a_key_set_has_each_member_once(tokens):
    """An issuer whose keys two readers read differently has given one of them another's key."""
    entry = tokens.jwk(use="sig")
    for data in (
        with_member({"keys": [entry]}, '"keys":[]'),
        b'{"keys":[' + with_member(entry, '"kid":"authority-1"') + b"]}",
        json.dumps({"keys": [entry, entry]}).encode(),
    ):
        with pytest.raises(InvalidKeySetError):
            KeySet.from_jwks(data, algorithms=ALGORITHMS)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("member", ['"x":"\\ud800"', '"x":"\\uDC00\\ud800"', '"\\udfff":1', '"x":[{"y":"a\\ud83d"}]'])
def test_half_a_surrogate_pair_is_no_text(kind, member, tokens):
    """RFC 7493, 2.1: it passes for text until somebody stores or logs it, and then the service fails."""
    with pytest.raises(REFUSED):
        kind.verify(tokens.token(with_member(claims(), member), header=kind.header(tokens)), tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_escapes_are_otherwise_as_good_as_what_they_stand_for(kind, tokens):
    """Other implementations escape all that is not ASCII, and two escapes make one character beyond 16 bits."""
    payload = with_member(kind.payload(tokens), '"x":"\\u00e9\\ud83d\\ude00\\u0000"')
    assert kind.verify(tokens.token(payload, header=kind.header(tokens)), tokens)
