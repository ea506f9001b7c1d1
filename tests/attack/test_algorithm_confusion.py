"""The attacker knows our public key, as everybody does, and signs with it: HS256 over its PEM, or nothing at all."""

import json

import pytest
from token_kinds import DPOP_PROOF, KINDS, NAMED_KEY, claims, name_of

from agentshield.errors import AuthenticationError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.dpop import InvalidDpopProofError
from agentshield.identity.errors import BadSignatureError
from agentshield.identity.jwk import InvalidJwkError, KeySet, UnknownKeyError, jwk_of, public_key_of
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


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "none", "None", "EdDSA", "ES256K", "RSA-OAEP", "dir"])
def test_no_kind_of_token_has_another_kind_of_algorithm(kind, alg, tokens):
    """Every token of OAuth, too: MACs under the public key, no signature, and what we do not verify."""
    for sign in (tokens.mac_with_public_key, tokens.sign, lambda _: b"x"):
        token = tokens.token(claims(), header=kind.header(tokens, alg=alg), sign=sign)
        with pytest.raises((InvalidTokenError, InvalidDpopProofError), match="algorithm"):
            kind.verify(token, tokens)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_mac_under_the_name_of_a_good_algorithm_is_refused(kind, tokens):
    """Nor does the name of a signature make a MAC one."""
    for sign in (tokens.mac_with_public_key, tokens.sign_der):
        token = tokens.token(claims(), header=kind.header(tokens), sign=sign)
        with pytest.raises((BadSignatureError, InvalidDpopProofError)):
            kind.verify(token, tokens)


@pytest.mark.parametrize("kind", NAMED_KEY, ids=name_of)
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES384", "ES512"])
def test_a_key_is_found_for_its_own_algorithm_only(kind, alg, tokens):
    """RFC 8725, 3.1: the issuer's record and key decide; the header only says which of those it used."""
    with pytest.raises(AuthenticationError):
        kind.verify(kind.token(tokens, alg=alg), tokens)


def test_an_rsa_key_that_is_for_one_algorithm_is_not_for_its_sibling(rsa_2048):
    """One key under two paddings weakens both (RFC 8725, 3.2): `alg` of the published key is kept."""
    jwks = json.dumps({"keys": [jwk_of(rsa_2048.public_key(), kid="k", alg="RS256")]}).encode()
    keys = KeySet.from_jwks(jwks, algorithms=frozenset({"RS256", "PS256", "ES256"}))
    assert keys.find("k", "RS256")
    for alg in ("PS256", "RS384", "ES256", "HS256", "none"):
        with pytest.raises(UnknownKeyError):
            keys.find("k", alg)


@pytest.mark.parametrize("jwk", [{"kty": "oct", "k": "AAAA"}, {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, {}])
def test_a_proof_shows_a_public_key_of_a_pair(jwk, tokens):
    """A proof under a shared secret is proof by everybody who knows it."""
    with pytest.raises(InvalidJwkError):
        public_key_of(jwk)
    with pytest.raises(InvalidDpopProofError) as caught:
        DPOP_PROOF.verify(DPOP_PROOF.token(tokens, jwk=jwk), tokens)
    assert caught.value.step == 7
