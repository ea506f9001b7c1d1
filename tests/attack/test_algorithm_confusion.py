"""The attacker knows our public key, as everybody does, and signs with it: HS256 over its PEM, or nothing at all."""

import pytest

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import BadSignatureError
from agentshield.identity.jws import InvalidTokenError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_jwt_svid

HOME = TrustDomain.parse("example.org")


@pytest.fixture
def present(forge, tokens, at):
    """Show a token to a service of example.org called `analyst`."""
    bundles = BundleSet.of(TrustBundle.from_json(HOME, forge.bundle_json(tokens)))
    return lambda token: verify_jwt_svid(token, bundles, audience="analyst", at=at)


def test_the_honest_token_passes(present, tokens):
    """What the attacks below change must be the reason for their refusal."""
    assert str(present(tokens.token()).spiffe_id) == "spiffe://example.org/agents/planner"


@pytest.mark.parametrize("alg", ["HS256", "hs256", "HS384"])
def test_hmac_with_the_public_key_is_refused(present, tokens, alg):
    """Anybody could mint any agent's token."""
    with pytest.raises(InvalidTokenError, match="algorithm"):
        present(tokens.token(header=tokens.header(alg=alg), sign=tokens.mac_with_public_key))


def test_hmac_under_the_name_of_a_good_algorithm_is_refused(present, tokens):
    """The name in the header must never choose how the key is used."""
    with pytest.raises(BadSignatureError):
        present(tokens.token(sign=tokens.mac_with_public_key))


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "none ", ""])
def test_unsecured_tokens_are_refused(present, tokens, alg):
    """RFC 8725, 3.2: the empty signature fits every token."""
    for signature in (b"", b"x"):
        with pytest.raises(InvalidTokenError):
            present(tokens.token(header=tokens.header(alg=alg), sign=lambda _, made=signature: made))


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES384", "ES512"])
def test_another_algorithm_than_the_key_s_is_refused(present, tokens, alg):
    """A P-256 key verifies ES256 and nothing else, whatever the header asks for."""
    with pytest.raises(BadSignatureError):
        present(tokens.token(header=tokens.header(alg=alg)))
