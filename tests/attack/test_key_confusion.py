"""The attacker owns one key that we know for something, and names it where another is expected."""

import json

import pytest

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import BadSignatureError, InvalidBundleError, UntrustedSvidError
from agentshield.identity.jws import InvalidTokenError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_jwt_svid

HOME = TrustDomain.parse("example.org")
PARTNER = TrustDomain.parse("partner.test")


def present(token, *bundles, at):
    return verify_jwt_svid(token, BundleSet.of(*bundles), audience="analyst", at=at)


def test_a_partner_s_key_under_our_kid_is_refused(forge_of, tokens_of, at):
    """kid is chosen by whoever publishes a bundle: equal names must not mix two domains' keys."""
    ours, theirs = tokens_of(kid="k"), tokens_of(kid="k")
    home = TrustBundle.from_json(HOME, forge_of("example.org").bundle_json(ours))
    partner = TrustBundle.from_json(PARTNER, forge_of("partner.test").bundle_json(theirs))
    with pytest.raises(BadSignatureError):
        present(theirs.token(), home, partner, at=at)


def test_a_partner_s_kid_in_our_subject_is_refused(forge_of, tokens_of, at):
    """The bundle is chosen by the subject, so the partner's kid is simply unknown there."""
    ours, theirs = tokens_of(kid="ours"), tokens_of(kid="theirs")
    home = TrustBundle.from_json(HOME, forge_of("example.org").bundle_json(ours))
    partner = TrustBundle.from_json(PARTNER, forge_of("partner.test").bundle_json(theirs))
    with pytest.raises(UntrustedSvidError, match="theirs"):
        present(theirs.token(), home, partner, at=at)


def test_an_x509_authority_s_key_signs_no_token(forge, tokens_of, at):
    """Uses are kept apart: whoever operates the one HSM must not get the powers of the other."""
    signer = tokens_of(kid="x", key=forge.key)
    entry = {**forge.bundle()["keys"][0], "kid": "x"}
    home = TrustBundle.from_json(HOME, json.dumps({"keys": [entry]}).encode())
    with pytest.raises(UntrustedSvidError):
        present(signer.token(), home, at=at)


@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u"])
def test_a_token_cannot_bring_its_own_key(forge, tokens, tokens_of, at, member):
    """A key out of the token proves only that the attacker has a key."""
    evil = tokens_of(kid=tokens.kid)
    value = {"jwk": evil.jwk(), "jku": "https://evil.test/keys", "x5c": [forge.x5c], "x5u": "https://evil.test/c"}[
        member
    ]
    home = TrustBundle.from_json(HOME, forge.bundle_json(tokens))
    with pytest.raises(InvalidTokenError, match=member):
        present(evil.token(header=evil.header(**{member: value})), home, at=at)


def test_a_second_key_of_the_same_kid_in_a_bundle_is_refused(forge, tokens_of):
    """Otherwise the order of a list decides whose tokens are good."""
    with pytest.raises(InvalidBundleError, match="key id twice"):
        TrustBundle.from_json(HOME, forge.bundle_json(tokens_of(kid="k"), tokens_of(kid="k")))


def test_a_symmetric_key_in_a_bundle_is_no_key(forge, tokens, at):
    """A secret that everybody can read signs for everybody."""
    jwk = {"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "use": "jwt-svid", "kid": tokens.kid}
    home = TrustBundle.from_json(HOME, json.dumps({"keys": [jwk]}).encode())
    with pytest.raises(UntrustedSvidError):
        present(tokens.token(header=tokens.header(), sign=tokens.mac_with_public_key), home, at=at)
