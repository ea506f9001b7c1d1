"""WIT-SVID: every MUST, by its id in our standards sheet, with what is accepted and what is refused."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from identity_forges import TokenForge
from wit_forge import PLANNER, WitForge, digest, new_key, public_jwk

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import (
    BadSignatureError,
    InvalidBundleError,
    InvalidSvidError,
    SvidExpiredError,
    SvidNotYetValidError,
    UnknownTrustDomainError,
    UntrustedSvidError,
)
from agentshield.identity.jwk import InvalidJwkError
from agentshield.identity.jws import InvalidTokenError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid
from agentshield.identity.wit_svid import VerifiedWitSvid, verify_wit_svid

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
HOME = TrustDomain.parse("example.test")
FORGE = WitForge(NOW)


def verify(token, *, bundle=None, at=NOW):
    return verify_wit_svid(token, BundleSet.of(TrustBundle.from_json(HOME, bundle or FORGE.bundle())), at=at)


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521", "RSA"])
def test_wsv_01_to_05_a_wit_says_which_key_is_whose(curve):
    """What was signed is what is read: the name, the key and its one algorithm, and until when."""
    holder = new_key(curve)
    token = FORGE.wit(holder, jti="a", role="x")
    wit = verify(token)
    assert wit.spiffe_id == SpiffeId.parse(PLANNER)
    assert wit.confirmation.algorithm == public_jwk(holder)["alg"]
    assert wit.confirmation.thumbprint == holder.thumbprint()
    assert wit.valid_until == NOW + timedelta(hours=1)
    assert wit.token_hash == digest(token)
    assert wit.claims["role"] == "x"  # WSV-15


@pytest.mark.parametrize("curve", ["P-384", "RSA"])
def test_wsv_02_authorities_sign_with_any_key_of_the_list(curve):
    """SPIRE's operators choose the kind of key."""
    forge = WitForge(NOW, curve=curve)
    assert verify(forge.wit(), bundle=forge.bundle())


@pytest.mark.parametrize("typ", ["JWT", "JOSE", "WIT+JWT", "wpt+jwt", "oauth-client-attestation+jwt", ...])
def test_wsv_01_refuses_another_type(typ):
    """A JWT-SVID or an attester's token must not name a workload's key."""
    with pytest.raises(InvalidTokenError, match="type"):
        verify(FORGE.wit(header={"typ": typ}))


@pytest.mark.parametrize("kid", [..., ""])
def test_wsv_01_refuses_a_token_that_names_no_key(kid):
    """Trying one key after another would let any of them do what one is for."""
    with pytest.raises(InvalidSvidError, match="kid"):
        verify(FORGE.wit(header={"kid": kid}))


def test_wsv_01_a_kid_is_compared_by_character():
    """Case-sensitive: WIT-1 is another key."""
    with pytest.raises(UntrustedSvidError):
        verify(FORGE.wit(header={"kid": "WIT-1"}))


def test_wsv_02_refuses_eddsa():
    """WIMSE's examples use it, and SPIFFE does not allow it: neither as the authority's nor as the holder's key."""
    forge = WitForge(NOW, curve="Ed25519")
    with pytest.raises(InvalidTokenError, match="algorithm"):
        verify(forge.wit(header={"alg": "Ed25519"}), bundle=FORGE.bundle())
    for alg in ("EdDSA", "Ed25519"):
        with pytest.raises((InvalidJwkError, InvalidSvidError)):
            verify(FORGE.wit(new_key("Ed25519"), jwk=public_jwk(new_key("Ed25519"), alg=alg)))


def test_a_bundle_s_ed25519_key_is_left_out():
    """TDB-04: a key of a kind that we do not know is ignored, and the others still hold."""
    assert verify(FORGE.wit(), bundle=FORGE.bundle(WitForge(NOW, kid="ed", curve="Ed25519").jwk()))


@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u", "x5t", "crit", "b64", "foo"])
def test_wsv_03_refuses_other_headers(member):
    """WIT-10: a key that a token brings, or the address of one, is the attacker's. Issuers should send none."""
    value = {"jwk": public_jwk(FORGE.key), "x5c": ["AA=="], "crit": ["exp"], "b64": True}.get(member, "https://e.test/")
    with pytest.raises(InvalidTokenError, match=member):
        verify(_with_header(FORGE.wit(), {member: value}))


@pytest.mark.parametrize(
    "sub", [..., None, 1, "", "planner", "https://example.test/a", "spiffe://example.test", [PLANNER]]
)
def test_wsv_04_refuses_a_subject_that_is_no_workload(sub):
    """Whoever it were would be nobody that policy knows."""
    with pytest.raises(InvalidSvidError, match="sub"):
        verify(FORGE.wit(sub=sub))


@pytest.mark.parametrize("cnf", [..., None, "key", {}, {"jwk": None}, {"jwk": []}, {"jkt": "a" * 43}, {"kid": "k"}])
def test_wsv_05_refuses_a_wit_without_a_key(cnf):
    """A WIT that is bound to nothing is a bearer token."""
    with pytest.raises(InvalidSvidError, match="cnf"):
        verify(FORGE.wit(cnf=cnf))


@pytest.mark.parametrize("alg", [..., None, "", "none", "HS256", "ES384", "RS256", "EdDSA", "RSA-OAEP", ["ES256"]])
def test_wsv_05_refuses_an_algorithm_that_is_missing_or_not_the_key_s(alg):
    """The proof is held against this word: what it allows, a thief's proof may be."""
    with pytest.raises(InvalidSvidError, match=r"cnf\.jwk\.alg"):
        verify(FORGE.wit(jwk=public_jwk(new_key(), alg=alg)))


@pytest.mark.parametrize("alg", ["ES256", "none", "HS256"])
def test_wsv_05_an_rsa_key_signs_rsa(alg):
    """And both paddings, by name."""
    key = new_key("RSA")
    with pytest.raises(InvalidSvidError, match=r"cnf\.jwk\.alg"):
        verify(FORGE.wit(jwk=public_jwk(key, alg=alg)))
    assert verify(FORGE.wit(jwk=public_jwk(key, alg="PS256"))).confirmation.algorithm == "PS256"


@pytest.mark.parametrize("name", ["jwe", "jku", "jkt", "x5t#S256"])
def test_wsv_05_refuses_two_keys(name):
    """RFC 7800, 3.1: two readers would each hold the proof against another one."""
    with pytest.raises(InvalidSvidError, match=name):
        verify(FORGE.wit(cnf={"jwk": public_jwk(new_key()), name: "x"}))


def test_wit_09_refuses_a_private_key():
    """Whoever issued it has given the key to everybody who sees the token."""
    key = new_key()
    for jwk in (public_jwk(key, d=key.as_dict(private=True)["d"]), {"kty": "oct", "k": "AAAA", "alg": "HS256"}):
        with pytest.raises(InvalidJwkError):
            verify(FORGE.wit(jwk=jwk))


def test_wit_09_refuses_a_key_for_something_else():
    """RFC 7517, 4.2: an encryption key proves nothing."""
    with pytest.raises(InvalidSvidError, match="enc"):
        verify(FORGE.wit(jwk=public_jwk(new_key(), use="enc")))


@pytest.mark.parametrize("exp", [..., None, "soon", True, -1, 2**40])
def test_wsv_06_refuses_a_wit_without_an_end(exp):
    """It would be good for ever."""
    with pytest.raises(InvalidInputError):
        verify(FORGE.wit(exp=exp))


def test_wsv_06_refuses_an_expired_wit():
    """At the very second, and however fresh its proof."""
    with pytest.raises(SvidExpiredError):
        verify(FORGE.wit(), at=NOW + timedelta(hours=1))
    assert verify(FORGE.wit(), at=NOW + timedelta(minutes=59))


def test_wsv_07_refuses_a_wit_of_the_future_by_nbf_and_not_by_iat():
    """`iat` is a remark; only `nbf` says when it begins, seconds of our clocks aside."""
    with pytest.raises(SvidNotYetValidError):
        verify(FORGE.wit(nbf=SECONDS + 60))
    assert verify(FORGE.wit(nbf=SECONDS + 5, iat=SECONDS + 600))


@pytest.mark.parametrize("aud", ["https://as.example.test", [], ["a"], None])
def test_wsv_10_refuses_an_audience(aud):
    """A WIT is shown to anybody, so it names nobody: with an aud it is a JWT-SVID in disguise."""
    with pytest.raises(InvalidSvidError, match="aud"):
        verify(FORGE.wit(aud=aud))


def test_wsv_11_a_verified_wit_is_no_identity():
    """Whoever saw it could show it: the type does not fit where an identity is asked for, and nobody can make one."""
    wit = verify(FORGE.wit())
    assert not hasattr(wit, "proof")
    with pytest.raises(TypeError):
        VerifiedWitSvid(
            spiffe_id=wit.spiffe_id, confirmation=wit.confirmation, valid_until=NOW, token_hash="", claims={}
        )


@pytest.mark.parametrize("use", ["jwt-svid", "sig", "WIT-SVID", "x509-svid", ...])
def test_wsv_14_only_keys_for_wits_sign_wits(use):
    """The authority of JWT-SVIDs lends itself to whoever may have a bearer token."""
    with pytest.raises(UntrustedSvidError):
        verify(FORGE.wit(), bundle=json.dumps({"keys": [FORGE.jwk(use=use)]}).encode())


def test_wsv_14_a_key_for_wits_signs_no_jwt_svid():
    """The reverse: a WIT's authority must not mint bearer tokens."""
    claims = {"cnf": ..., "aud": "analyst"}
    token = FORGE.wit(header={"typ": "JWT"}, **claims)
    bundles = BundleSet.of(TrustBundle.from_json(HOME, FORGE.bundle()))
    with pytest.raises(UntrustedSvidError):
        verify_jwt_svid(token, bundles, audience="analyst", at=NOW)


def test_wsv_14_one_kid_is_one_key_in_the_whole_bundle():
    """Also against the JWT authorities'."""
    for use in ("wit-svid", "jwt-svid"):
        with pytest.raises(InvalidBundleError, match="twice"):
            TrustBundle.from_json(HOME, FORGE.bundle(WitForge(NOW).jwk(use=use)))


def test_wsv_14_a_bundle_is_written_as_it_was_read():
    """A partner that reads ours must find the same keys for the same use, and JWT readers none of them (WAP-07)."""
    bundle = TrustBundle.from_json(HOME, FORGE.bundle())
    assert TrustBundle.from_json(HOME, bundle.to_json()) == bundle
    assert TrustBundle.from_wit_jwks(HOME, bundle.wit_jwks()) == bundle
    assert json.loads(bundle.jwks()) == {"keys": []}
    assert TrustBundle.from_jwks(HOME, bundle.wit_jwks()).jwt_authorities == ()


def test_wit_03_trust_is_of_the_domain_that_sub_names():
    """A partner's authority cannot speak for us, nor anybody for a domain we do not know."""
    partner = TrustDomain.parse("partner.test")
    bundles = BundleSet.of(TrustBundle.from_json(partner, FORGE.bundle()), TrustBundle(trust_domain=HOME))
    with pytest.raises(UntrustedSvidError):
        verify_wit_svid(FORGE.wit(), bundles, at=NOW)
    with pytest.raises(UnknownTrustDomainError):
        verify(FORGE.wit(sub="spiffe://nobody.test/a"))


def test_wit_06_refuses_another_key_s_signature():
    """A kid is a name, not a proof."""
    with pytest.raises(BadSignatureError):
        verify(WitForge(NOW).wit())


def test_wit_06_an_authority_s_time_ends():
    """What it signs afterwards is a thief's."""
    authority = TrustBundle.from_json(HOME, FORGE.bundle()).wit_authorities[0]
    ended = type(authority)(key_id=authority.key_id, public_key=authority.public_key, expires_at=NOW)
    with pytest.raises(UntrustedSvidError):
        verify_wit_svid(FORGE.wit(), BundleSet.of(TrustBundle(trust_domain=HOME, wit_authorities=(ended,))), at=NOW)


def test_wit_01_refuses_what_is_no_compact_jws():
    """Cut, doubled, padded, spaced, long: one spelling or none."""
    token = FORGE.wit()
    for spoilt in ("", ".", token[:-4], token + ".", token + "=", " " + token, f"{token},{token}", "a" * 20_000):
        with pytest.raises((InvalidInputError, AuthenticationError)):
            verify(spoilt)


def _with_header(token, members):
    """The token signed again by the same key, with more in its header: joserfc refuses some of these itself."""

    key = FORGE.key.private_key
    forge = TokenForge(kid=FORGE.kid, key=key)
    payload = json.loads(_decoded(token.split(".")[1]))
    return forge.token(payload, header={"alg": "ES256", "typ": "wit+jwt", "kid": FORGE.kid, **members})


def _decoded(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
