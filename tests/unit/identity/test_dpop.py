"""DPoP proofs: for one request, one key, one moment (RFC 9449, 4.3)."""

from datetime import UTC, datetime, timedelta

import pytest

from agentshield.identity.dpop import (
    DpopNonces,
    InvalidDpopProofError,
    access_token_hash,
    normalised_htu,
    sign_dpop_proof,
    verify_dpop_proof,
)
from agentshield.identity.jwk import jwk_of, thumbprint
from agentshield.identity.jws import sign_compact, sign_proof
from agentshield.identity.keys import KeyType, generate_private_key, private_key_to_pkcs8

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
URL = "https://as.example.test/oauth/token"
KEY = generate_private_key()


def prove(**changes):
    return sign_dpop_proof(KEY, **{"method": "POST", "url": URL, "at": NOW, **changes})


def verify(proof, **changes):
    return verify_dpop_proof(proof, **{"method": "POST", "url": URL, "at": NOW, **changes})


def claims(**changes):
    members = {"jti": "j", "htm": "POST", "htu": URL, "iat": int(NOW.timestamp())} | changes
    return {name: value for name, value in members.items() if value is not None}


def refused(proof, step, **changes):
    with pytest.raises(InvalidDpopProofError) as caught:
        verify(proof, **changes)
    assert caught.value.step == step


def test_proof_proves_its_key():
    """What comes out names the key that made it, whatever the client calls itself."""
    proof = verify(prove(nonce="n"))
    assert proof.jkt == thumbprint(KEY.public_key())
    assert proof.nonce == "n"
    assert proof.expires_at > NOW + timedelta(seconds=60)


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "wpt+jwt"])
def test_another_kind_of_jwt_is_no_proof(typ):
    """Step 4: what was signed for something else proves nothing here."""
    refused(sign_proof(claims(), KEY, jwk=jwk_of(KEY.public_key()), typ=typ), 2)


def test_proof_without_its_key_is_refused():
    """Step 3: a key that is only named would have to be believed."""
    refused(sign_compact(claims(), KEY, kid="k", typ="dpop+jwt"), 2)


def test_signature_must_be_of_the_key_shown():
    """Step 6: otherwise anybody could show somebody else's key."""
    refused(sign_proof(claims(), generate_private_key(), jwk=jwk_of(KEY.public_key()), typ="dpop+jwt"), 6)


def test_private_key_in_the_header_is_refused():
    """Step 7: a client that shows its private key has none any more."""
    jwk = jwk_of(KEY.public_key()) | {"d": "AAAA"}
    refused(sign_proof(claims(), KEY, jwk=jwk, typ="dpop+jwt"), 7)


def test_weak_curve_list_is_ours():
    """Step 5: which algorithms count is for the server to say."""
    key = generate_private_key(KeyType.EC_P384)
    refused(sign_dpop_proof(key, method="POST", url=URL, at=NOW), 5)


@pytest.mark.parametrize("name", ["jti", "iat"])
def test_missing_claims_are_refused(name):
    """Step 3: without an identifier there is no replay check, without a time no end."""
    refused(sign_proof(claims(**{name: None}), KEY, jwk=jwk_of(KEY.public_key()), typ="dpop+jwt"), 3)


@pytest.mark.parametrize("jti", ["", "x" * 257, 5, None])
def test_odd_identifiers_are_refused(jti):
    """A replay cache is not filled with megabytes."""
    refused(sign_proof(claims() | {"jti": jti}, KEY, jwk=jwk_of(KEY.public_key()), typ="dpop+jwt"), 3)


def test_proof_for_another_method_is_refused():
    """Step 8."""
    refused(prove(method="GET"), 8)
    refused(prove(method="post"), 8)


@pytest.mark.parametrize(
    "url",
    [
        "https://as.example.test/oauth/introspect",
        "https://other.example.test/oauth/token",
        "http://as.example.test/oauth/token",
        "https://as.example.test:8443/oauth/token",
        "https://user@as.example.test/oauth/token",
        "not a url",
    ],
)
def test_proof_for_another_address_is_refused(url):
    """Step 9: a proof made for one server is no good at another."""
    refused(prove(url=url), 9)


def test_equal_addresses_are_equal():
    """Query, fragment, case of the host and the default port make no other address (RFC 9449, 4.3)."""
    verify(prove(url="https://AS.example.test:443/oauth/token?x=1#y"))
    assert normalised_htu("https://a.test") == "https://a.test/"


def test_old_and_future_proofs_are_refused():
    """Step 11: a proof that was kept is a proof that was stolen."""
    verify(prove(), at=NOW + timedelta(seconds=60))
    refused(prove(), 11, at=NOW + timedelta(seconds=61))
    verify(prove(), at=NOW - timedelta(seconds=30))
    refused(prove(), 11, at=NOW - timedelta(seconds=31))


def test_proof_is_for_one_token():
    """Step 12: a proof seen with one token cannot carry another."""
    verify(prove(access_token="t"), access_token="t")
    refused(prove(access_token="u"), 12, access_token="t")
    refused(prove(), 12, access_token="t")


def test_access_token_hash_of_the_rfc():
    """RFC 9449, 7.1 gives a token and its hash."""
    assert (
        access_token_hash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")
        == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    )


def test_private_key_is_nowhere_in_a_proof():
    """What is sent holds the public key only."""
    assert "d" not in jwk_of(KEY.public_key())
    assert private_key_to_pkcs8(KEY).hex() not in prove()


def test_nonces_are_ours_and_short_lived():
    """A server that asks for a nonce takes its own, from any replica with the secret, for a while."""
    nonces = DpopNonces(secret=b"s" * 32)
    nonce = nonces.issue(NOW)
    assert nonces.is_current(nonce, NOW + timedelta(seconds=120))
    assert not nonces.is_current(nonce, NOW + timedelta(seconds=121))
    assert not nonces.is_current(nonce, NOW - timedelta(seconds=31))
    assert not DpopNonces(secret=b"t" * 32).is_current(nonce, NOW)
    for other in (None, "", "AAAA", nonce[:-2], nonce + "AA", "é"):
        assert not nonces.is_current(other, NOW)
    assert "ssss" not in repr(nonces)


RFC_KEY = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"  # RFC 9449, 6.1
RFC_HEADER = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQy"
    "VVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
)
RFC_PROOF = (
    f"{RFC_HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2Vu"
    "IiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)


def test_proof_of_the_rfc():
    """RFC 9449, 4.1 gives a proof, and 6.1 its key's thumbprint: what others make by the RFC is believed here."""
    made = datetime.fromtimestamp(1562262616, UTC)
    proof = verify(RFC_PROOF, url="https://server.example.com/token", at=made)
    assert (proof.jkt, proof.jti, proof.issued_at) == (RFC_KEY, "-BwC3ESc6acc2lTc", made)
    refused(RFC_PROOF, 11, url="https://server.example.com/token")


@pytest.mark.parametrize("url", ["https://as.example.test/oauth/t%6Fken", "https://as.example.test/%6f%61uth/token"])
def test_needless_escapes_make_no_other_address(url):
    """RFC 3986, 6.2.2: a client that escapes more than it must proves the same address."""
    verify(prove(url=url))
    assert normalised_htu("https://a.test/%2f%7e") == "https://a.test/%2F~"


@pytest.mark.parametrize("place", ["https://as.example.test/oauth%2Ftoken", "https://as.example.test/oauth/token%00"])
def test_needed_escapes_make_another_address(place):
    """An escaped slash is no slash."""
    refused(prove(url=place), 9)


@pytest.mark.parametrize("spoilt", ["\n", "\t", "\r", " ", "\x00", "\x7f", "\\"])
def test_address_has_one_spelling(spoilt):
    """Python's own parser drops line breaks, so that what is logged is not what was compared."""
    for url in (URL + spoilt, spoilt + URL, URL[:12] + spoilt + URL[12:]):
        refused(prove(url=url), 9)


def test_token_that_is_no_ascii_matches_no_proof():
    """Whoever sends it gets a refusal, not a crash."""
    refused(prove(access_token="t"), 12, access_token="\u00e9")
