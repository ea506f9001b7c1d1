"""`crit` tells a reader what it must understand (RFC 7515, 4.1.11); we understand no extension, so it ends there.

A reader that skips it takes a token for good that its issuer had limited, or reads another payload than was signed.
"""

import pytest
from token_kinds import KINDS, name_of

from agentshield.errors import AgentShieldError
from agentshield.identity.dpop import InvalidDpopProofError
from agentshield.identity.jws import InvalidTokenError

REFUSED = (InvalidTokenError, InvalidDpopProofError)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("crit", [["exp"], ["b64"], ["alg"], ["http://example.test/x"], [], None, "b64", {"b64": 1}])
def test_whatever_is_critical_is_not_understood(kind, crit, tokens):
    """Also an empty list, null, or a name from the base standard: each is a header that no issuer may write."""
    with pytest.raises(REFUSED, match="crit"):
        kind.verify(kind.token(tokens, crit=crit), tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("b64", [True, False, None])
def test_an_unencoded_payload_is_not_read(kind, b64, tokens):
    """RFC 7797: with `b64` false the same bytes are another payload."""
    for members in ({"b64": b64}, {"b64": b64, "crit": ["b64"]}):
        with pytest.raises(REFUSED):
            kind.verify(kind.token(tokens, **members), tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("member", ["zip", "enc", "cty", "apu", "iss", "nonce", "x", "Alg", "crit "])
def test_what_a_header_does_not_need_it_must_not_have(kind, member, tokens):
    """A nested, compressed or extended token is another thing than the one we verify."""
    with pytest.raises(REFUSED, match=member.strip()):
        kind.verify(kind.token(tokens, **{member: "JWT"}), tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("member", ["alg", "typ"])
@pytest.mark.parametrize("value", [None, 5, ["ES256"], {"a": 1}, ""])
def test_a_header_s_members_are_text(kind, member, value, tokens):
    """A list of algorithms or types is a choice that the attacker has."""
    with pytest.raises(AgentShieldError):
        kind.verify(kind.token(tokens, **{member: value}), tokens)


def test_the_claims_alone_are_good(tokens):
    """None of this is because the payload was bad."""
    for kind in KINDS:
        assert kind.verify(tokens.token(kind.payload(tokens), header=kind.header(tokens)), tokens)
