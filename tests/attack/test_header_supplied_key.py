"""A token brings the key that verifies it, or the address of one: it proves only that the attacker has a key."""

import pytest
from token_kinds import (
    ACCESS_TOKEN,
    DPOP_PROOF,
    FOREIGN_TOKEN,
    ID_JAG,
    JWT_SVID,
    KINDS,
    NAMED_KEY,
    WIT_SVID,
    claims,
    keys_of,
    name_of,
    public_jwk,
)

from agentshield.errors import AgentShieldError
from agentshield.identity.access_token import (
    Confirmation,
    WrongKeyError,
    verify_confirmation,
)
from agentshield.identity.dpop import InvalidDpopProofError
from agentshield.identity.errors import BadSignatureError
from agentshield.identity.jwk import UnknownKeyError, thumbprint
from agentshield.identity.jws import InvalidTokenError


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_the_honest_token_passes(kind, tokens):
    """What the attacks below add must be the reason for their refusal."""
    assert kind.verify(kind.token(tokens), tokens)


@pytest.mark.parametrize("kind", NAMED_KEY, ids=name_of)
@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u"])
def test_a_token_that_brings_its_key_is_refused(kind, member, tokens, tokens_of, forge):
    """RFC 8725, 3.10: anybody could mint anything, and `jku` would have us fetch what the attacker likes."""
    evil = tokens_of(kid=tokens.kid)
    brought = {"jwk": public_jwk(evil), "jku": "https://evil.test/", "x5c": [forge.x5c], "x5u": "https://evil.test/"}
    with pytest.raises(InvalidTokenError, match=member):
        kind.verify(kind.token(evil, **{member: brought[member]}), tokens)


@pytest.mark.parametrize("kind", NAMED_KEY, ids=name_of)
@pytest.mark.parametrize("member", ["x5t", "x5t#S256"])
def test_a_certificate_s_thumbprint_is_read_past_where_others_sign(kind, member, tokens, tokens_of):
    """What we sign has none, so one is a forgery; issuers that write one gain nothing by it: the kid finds the key."""
    token = kind.token(tokens, **{member: "a" * 43})
    if kind not in (FOREIGN_TOKEN, ID_JAG):
        with pytest.raises(InvalidTokenError, match=member):
            kind.verify(token, tokens)
        return
    assert kind.verify(token, tokens)
    with pytest.raises(BadSignatureError):
        kind.verify(kind.token(tokens_of(kid=tokens.kid), **{member: "a" * 43}), tokens)


@pytest.mark.parametrize("kind", NAMED_KEY, ids=name_of)
def test_a_key_of_the_same_name_is_another_key(kind, tokens, tokens_of):
    """A kid is a name, not a proof."""
    with pytest.raises(BadSignatureError):
        kind.verify(kind.token(tokens_of(kid=tokens.kid)), tokens)


@pytest.mark.parametrize("kind", NAMED_KEY, ids=name_of)
@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "https://evil.test/keys#1", "\x00", "k" * 4000, ""])
def test_a_kid_is_looked_up_and_nothing_else(kind, kid, tokens):
    """A name that is a path, a query or an address must lead nowhere."""
    with pytest.raises(AgentShieldError) as caught:
        kind.verify(kind.token(tokens, kid=kid), tokens)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("member", ["jku", "x5c", "x5u", "x5t", "kid"])
def test_a_proof_shows_its_key_in_one_way_only(member, tokens):
    """RFC 9449, 4.2: two ways to name a key are two keys to choose from."""
    with pytest.raises(InvalidDpopProofError, match=member):
        DPOP_PROOF.verify(tokens.token(claims(), header=DPOP_PROOF.header(tokens) | {member: "x"}), tokens)


def test_the_key_a_proof_shows_is_worth_nothing_beside_another_s_token(tokens, tokens_of):
    """A proof proves its own key; only the token's `cnf` says whether that is the key that counts."""
    victim, thief = tokens_of(), tokens_of()
    bound = Confirmation(jkt=thumbprint(keys_of(victim).keys[0].public_key))
    token = ACCESS_TOKEN.verify(tokens.token(claims(cnf=bound.to_claim()), header=ACCESS_TOKEN.header(tokens)), tokens)
    with pytest.raises(WrongKeyError):
        verify_confirmation(token, dpop=DPOP_PROOF.verify(DPOP_PROOF.token(thief), thief), certificate_der=None)
    verify_confirmation(token, dpop=DPOP_PROOF.verify(DPOP_PROOF.token(victim), victim), certificate_der=None)


def test_a_token_without_a_kid_needs_a_set_of_one(tokens, tokens_of):
    """Trying key after key would let any of an issuer's keys do what one of them is for."""
    kinds = [kind for kind in NAMED_KEY if kind not in (JWT_SVID, WIT_SVID)]  # which must name its key in any case
    for kind in kinds:
        assert kind.verify(kind.token(tokens, kid=...), tokens)
        with pytest.raises(BadSignatureError):
            kind.verify(kind.token(tokens_of(), kid=...), tokens)
        with pytest.raises(UnknownKeyError):
            kind.verify(kind.token(tokens, kid="other"), tokens)
